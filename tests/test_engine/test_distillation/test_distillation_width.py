"""The projection that a config with a DistillationHook is given, against the width of the teacher's embedding."""

import pytest
from mmengine.config import Config

from hybridcls.engine.distillation.distillation_width import distillation_width

MODEL = dict(
    type='HybridClassifier',
    backbone=dict(type='HybridBackbone', cnn=dict(model_name='test_resnet')),
    neck=dict(type='ConcatFusion', fusion_dim=12),
    head=dict(type='LinearHead', num_classes=4),
)


@pytest.mark.parametrize(('feature_weight', 'planned'), [(0.5, 12), (0.0, None), (None, None)])
def test_the_projection_is_as_wide_as_the_teachers_embedding(tmp_path, feature_weight, planned):
    config = tmp_path / 'teacher.py'
    config.write_text(f"default_scope = 'hybridcls'\nimg_size = (32, 48)\nmodel = {MODEL!r}\n")
    hook = dict(type='DistillationHook', teacher=str(config), feature_weight=feature_weight)
    cfg = Config(dict(img_size=32, model=dict(MODEL), custom_hooks=[hook]))
    changes = {change.path: change.new for change in distillation_width(cfg)}
    assert changes == ({} if planned is None else {('model', 'distill_projection'): planned})
    cfg.model.distill_projection = 7  # a width that is written stays
    assert not list(distillation_width(cfg))
