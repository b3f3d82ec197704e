import pytest
import timm
from torch import nn

from hybridcls.engine.optim.groups import DepthReader
from hybridcls.registry import MODELS


class Ordered(nn.Module):
    def get_layer_depth(self, param_name, prefix=''):
        assert param_name.startswith(prefix)
        return int(param_name.removeprefix(prefix).split('.')[0]), 4


def test_the_model_itself_is_asked_first():
    assert DepthReader('me', Ordered()).scale('1.weight', 0.5) == 0.25


def test_a_backbone_that_knows_is_found_in_a_model_that_does_not():
    reader = DepthReader('me', nn.ModuleDict(dict(backbone=Ordered(), head=nn.Linear(2, 2))))
    assert [reader.scale(name, 0.5) for name in ('backbone.0.weight', 'backbone.3.weight', 'head.weight')] == [
        0.125,
        1.0,
        1.0,
    ]


def test_mmpretrains_classifier_over_a_timm_backbone():
    """mmpretrain's own constructor stops here: its TIMMBackbone has no get_layer_depth."""
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='mmpretrain.TIMMBackbone', model_name='test_vit', img_size=32),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=64),
        )
    )
    reader = DepthReader('me', model)
    assert reader.scale('backbone.timm_model.pos_embed', 0.5) == 0.5**7
    assert reader.scale('head.fc.weight', 0.5) == 1


def test_a_rate_of_one_asks_no_module():
    assert DepthReader('me', nn.Linear(2, 2)).scale('weight', 1.0) == 1


@pytest.mark.parametrize(
    'build',
    [
        lambda: nn.Linear(2, 2),
        lambda: MODELS.build(
            dict(type='mmpretrain.ImageClassifier', backbone=dict(type='mmpretrain.ResNet', depth=18))
        ),
        lambda: MODELS.build(dict(type='mmpretrain.ImageClassifier', backbone=dict(type='mmpretrain.LeNet5'))),
    ],
)
def test_a_model_that_does_not_tell_is_refused_with_advice(build):
    model = build()
    with pytest.raises(ValueError, match=r'me: expected a model that knows the order of its layers.*get_layer_depth'):
        DepthReader('me', model).scale(next(name for name, _ in model.named_parameters()), 0.5)


def test_a_bare_timm_model_is_read_by_its_matcher():
    assert DepthReader('me', timm.create_model('test_resnet', num_classes=3)).scale('fc.weight', 0.5) == 1
