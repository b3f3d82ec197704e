default_scope = 'hybridcls'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    curves=dict(type='LearningCurvesHook'),  # learning_curves.png in the work dir
    visualization=dict(type='VisualizationHook', enable=False),  # tools/test.py --show-dir enables it
)
env_cfg = dict(
    cudnn_benchmark=True,
    tf32=True,  # on a GPU: products and convolutions in TF32; a CPU has none
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),  # gloo without a GPU
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)
# Validation losses are not smoothed: mmengine would average those of several epochs.
log_processor = dict(mean_pattern=r'^(?!val/).*(loss|time|data_time|grad_norm|accuracy).*')
log_level = 'INFO'
seed = 0
randomness = dict(deterministic=False)
load_from = None
resume = False
