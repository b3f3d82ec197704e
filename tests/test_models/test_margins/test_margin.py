"""The base class of margins, and what a margin head refuses when it is built."""

import pytest
import torch
from torch import nn

from hybridcls.models.margins.margin import Margin, check_margin, log_scalars_of
from hybridcls.registry import MODELS


class Half(Margin):
    margin = 0.5

    def with_margin(self, target_cosine, norms, margin):
        return target_cosine - margin * norms


class Foreign(nn.Module):
    """No subclass, no log_scalars."""

    def __init__(self, shape=(-1,)):
        super().__init__()
        self.shape = shape
        self.register_buffer('calls', torch.zeros(()))

    def forward(self, target_cosine, norms, labels):
        self.calls += 1
        return (target_cosine - 0.25).view(self.shape)


class TwoArguments(nn.Module):
    def forward(self, target_cosine, norms):
        return target_cosine


class LooksAtValues(nn.Module):
    def forward(self, target_cosine, norms, labels):
        if bool((norms < 1).any()) or labels.tolist() == [0, 0]:
            raise AssertionError('these are no real images')
        return target_cosine


def head(margin, **keys):
    return MODELS.build(dict(type='MarginHead', num_classes=3, in_channels=4, margin=dict(type=margin, **keys)))


def test_forward_is_with_margin_of_its_own_number():
    margin, cosine, norms = Half(), torch.tensor([0.5, 0.25]), torch.tensor([1.0, 2.0])
    assert margin(cosine, norms, torch.zeros(2, dtype=torch.int64)).tolist() == [0.0, -0.75]
    margin.margin = 0.25
    assert margin(cosine, norms, torch.zeros(2, dtype=torch.int64)).tolist() == [0.25, -0.25]
    assert margin.log_scalars() == {}


def test_a_subclass_without_with_margin_says_what_is_missing():
    with pytest.raises(TypeError, match=r'Empty: expected a method with_margin'):
        type('Empty', (Margin,), dict(margin=0.0))()(torch.zeros(1), torch.ones(1), torch.zeros(1))


def test_a_margin_may_depend_on_the_label():
    class Third(Half):
        def margin_of(self, labels):
            return labels / 3

    assert Third()(torch.ones(2), torch.ones(2), torch.tensor([0, 3])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize('name', ['ArcFace', 'CosFace', 'AdaFace', 'CombinedMargin'])
def test_all_of_ours_derive_from_it(name):
    margin = MODELS.build(dict(type=name)).eval()
    assert isinstance(margin, Margin)
    given = torch.tensor([0.3]), torch.tensor([20.0]), torch.tensor([0])
    torch.testing.assert_close(margin(*given), margin.with_margin(*given[:2], margin.margin), rtol=0, atol=0)


def test_a_margin_from_elsewhere_needs_no_base_class_and_is_not_moved_by_the_check():
    built = head(Foreign)
    assert built.margin_function.calls == 0
    assert log_scalars_of(built.margin_function) == {}


def test_a_plain_callable_works():
    check_margin('caller', lambda target_cosine, norms, labels: target_cosine)


def test_what_looks_at_values_is_left_to_the_first_batch():
    head(LooksAtValues)


def test_another_shape_or_signature_fails_when_the_head_is_built():
    with pytest.raises(ValueError, match=r'MarginHead: expected target logits of shape \(2,\).* got shape \(2, 1\)'):
        head(Foreign, shape=(-1, 1))
    with pytest.raises(TypeError, match=r'called as margin\(target_cosine, norms, labels\), got TwoArguments'):
        head(TwoArguments)
