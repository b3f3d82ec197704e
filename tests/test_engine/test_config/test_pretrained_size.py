"""The image size that a timm model was pretrained with."""

import pytest
from config_helpers import loaded

BASE = """
img_size = None
model = dict(type='HybridClassifier', backbone=dict(type='HybridBackbone'))
"""


@pytest.mark.parametrize(
    ('options', 'size'),
    [
        (dict(model_name='test_vit'), 160),
        (dict(model_name='test_vit', img_size=64), 64),
        ({'model.backbone.cnn.model_name': 'tf_efficientnet_lite4', 'model.backbone.vit.model_name': 'test_vit'}, 160),
        ({'model.backbone.cnn.model_name': 'tf_efficientnet_lite4.in1k'}, 380),
        (dict(), None),
    ],
)
def test_size(tmp_path, options, size):
    cfg = loaded(tmp_path, base=BASE, options=options)
    assert cfg.img_size == size
    assert cfg.model.backbone.get('img_size') == size


def test_a_config_without_the_key_is_left_alone(tmp_path):
    cfg = loaded(tmp_path, base=BASE.replace('img_size = None', ''), options=dict(model_name='test_vit'))
    assert 'img_size' not in cfg.model.backbone
