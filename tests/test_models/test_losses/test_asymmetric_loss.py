"""The registered asymmetric loss, against mmpretrain's."""

import mmpretrain.models.losses
import pytest
import torch

from hybridcls.registry import MODELS


@pytest.mark.parametrize(
    'keys', [dict(), dict(gamma_pos=1, gamma_neg=2, clip=0.1, loss_weight=3), dict(reduction='sum')]
)
@pytest.mark.parametrize('avg_factor', [None, 5])
def test_equals_mmpretrains(keys, avg_factor):
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 4), (torch.rand(5, 4) < 0.4).float()
    if keys.get('reduction') == 'sum' and avg_factor:
        return  # which mmpretrain refuses
    expected = mmpretrain.models.losses.AsymmetricLoss(**keys)(logits, targets, avg_factor=avg_factor)
    found = MODELS.build(dict(type='AsymmetricLoss', **keys))(logits, targets, avg_factor=avg_factor)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('keys', [dict(), dict(use_sigmoid=False), dict(reduction_override='none')])
def test_classes_as_targets_and_weights_of_samples(keys):
    torch.manual_seed(0)
    logits, targets, weight = torch.randn(5, 4), torch.tensor([3, 0, 1, 1, 2]), torch.rand(5)
    override = keys.pop('reduction_override', None)
    arguments = dict(weight=weight, reduction_override=override)
    expected = mmpretrain.models.losses.AsymmetricLoss(**keys)(logits, targets, **arguments)
    torch.testing.assert_close(
        MODELS.build(dict(type='AsymmetricLoss', **keys))(logits, targets, **arguments), expected
    )


def test_weights_of_positives_and_no_reduction():
    loss = MODELS.build(dict(type='AsymmetricLoss', reduction='none'))
    logits, targets = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    plain, weighted = loss(logits, targets), loss(logits, targets, pos_weight=torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(weighted / plain, torch.tensor([[3.0, 1.0]]))


def test_half_precision_stays_finite_where_mmpretrains_is_not():
    logits, targets = torch.tensor([[-30.0, -30.0]], dtype=torch.float16), torch.tensor([[1.0, 0.0]])
    assert mmpretrain.models.losses.AsymmetricLoss()(logits, targets).isinf()
    assert MODELS.build(dict(type='AsymmetricLoss'))(logits, targets, avg_factor=1).item() == pytest.approx(30)


def test_numbers_out_of_range_are_named():
    with pytest.raises(ValueError, match=r'AsymmetricLoss: expected clip in \[0, 1\), got 1'):
        MODELS.build(dict(type='AsymmetricLoss', clip=1))
