"""Two phases: supervised contrastive learning, then an AdaFace head on its best weights. For search and many classes.

    hybridcls train finetune/supcon_adaface --data FOLDER --model NAME --checkpoint FILE
Run it again after an interruption: finished phases are skipped, the interrupted one resumes.
"""

phases = [
    dict(name='supcon', config='supcon.py'),
    dict(name='adaface', config='adaface.py', load='best', cfg_options={'default_hooks.head_first.frozen_epochs': 1}),
]
