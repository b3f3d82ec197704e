"""Both phases of the reference pair as one job: SupCon, then AdaFace from the best weights of phase 1.

    bash tools/dist_train.sh configs/hybrid/two_phase_convnext_swin.py 8
Run it again after an interruption: finished phases are skipped, the interrupted one resumes. Options for all phases are
in cfg_options: --cfg-options cfg_options.data_root=/path/to/images.
"""

phases = [
    dict(name='supcon', config='supcon_convnext_swin.py'),
    dict(name='adaface', config='adaface_convnext_swin.py', load='best'),
]
