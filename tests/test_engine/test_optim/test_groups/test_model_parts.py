import pytest
from torch import nn

from hybridcls.engine.optim.groups import ModelParts


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn, self.cbam, self.vit = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    def stream_parts(self):
        return dict(cnn=('cnn', 'cbam'), vit=('vit',))


@pytest.fixture
def parts():
    return ModelParts(nn.ModuleDict(dict(preprocessor=nn.Identity(), backbone=Backbone(), head=nn.Linear(2, 2))))


def test_the_parts_are_those_with_parameters_and_the_streams(parts):
    assert parts.names == ('backbone', 'head', 'cnn', 'vit')


def test_a_stream_holds_what_sits_on_it(parts):
    values = dict(cnn=0.5, vit=0.25)
    assert [
        parts.value_of(name, values, 1.0)
        for name in ('backbone.cnn.weight', 'backbone.cbam.bias', 'backbone.vit.weight', 'head.weight')
    ] == [0.5, 0.5, 0.25, 1.0]


@pytest.mark.parametrize(
    'values', [{'backbone': 0.1, 'cnn': 0.5}, {'cnn': 0.5, 'backbone': 0.1}, {'backbone': 0.1, 'backbone.cnn': 0.5}]
)
def test_the_innermost_part_decides(parts, values):
    assert parts.value_of('backbone.cnn.weight', values, 1.0) == 0.5
    assert parts.value_of('backbone.vit.weight', values, 1.0) == 0.1


def test_a_part_is_not_the_beginning_of_a_name(parts):
    assert parts.value_of('head_of_state.weight', dict(head=2.0), 1.0) == 1.0


def test_names_are_sorted_into_the_innermost_part(parts):
    assert [parts.part_of(name) for name in ('backbone.cbam.weight', 'head.weight', 'scale')] == ['cnn', 'head', '']


@pytest.mark.parametrize('name', ['vti', ''])
def test_an_unknown_part_is_answered_with_those_there_are(parts, name):
    expected = rf"me: lr_mult names '{name}', which is not a part.*Its parts: backbone, head"
    with pytest.raises(ValueError, match=expected):
        parts.check('me', 'lr_mult', [name])
