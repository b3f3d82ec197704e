"""The influence loss against sums written with loops in float64."""

import math

import pytest
import torch

from hybridcls.functional.distillation import influence_loss


def log_softmax(row, column):
    return row[column] - math.log(sum(math.exp(value) for value in row))


def by_hand(logits, targets, old_classes, mean='all'):
    total = known = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        shares = target if isinstance(target, list) else [float(number == target) for number in range(len(old_classes))]
        for share, old in zip(shares, old_classes, strict=True):
            total -= share * log_softmax(row, old) if old >= 0 else 0.0
            known += share if old >= 0 else 0.0
    return total / (len(logits) if mean == 'all' else known)


@pytest.mark.parametrize('mean', ['all', 'known'])
@pytest.mark.parametrize('soft', [False, True])
def test_images_of_classes_without_an_old_number_add_nothing_and_are_counted_if_wanted(soft, mean):
    torch.manual_seed(0)
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    old_classes = [2, -1, 0, 1]
    targets = torch.rand(6, 4).double().softmax(1) if soft else torch.tensor([0, 1, 2, 3, 1, 0])
    loss = influence_loss(logits, targets, torch.tensor(old_classes), mean)
    assert loss.item() == pytest.approx(by_hand(logits.detach(), targets, old_classes, mean), rel=1e-12)
    loss.backward()
    if not soft:
        assert not logits.grad[[1, 4]].any()
        assert logits.grad[[0, 2, 3, 5]].any(1).all()


@pytest.mark.parametrize('mean', ['all', 'known'])
@pytest.mark.parametrize(
    'targets', [torch.tensor([1, 1]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])], ids=['hard', 'soft']
)
def test_no_image_of_an_old_class_is_zero_and_not_nan(targets, mean):
    logits = torch.randn(2, 3, requires_grad=True)
    loss = influence_loss(logits, targets, torch.tensor([0, -1]), mean)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_a_mean_that_does_not_exist():
    with pytest.raises(ValueError, match=r"expected mean to be one of \['all', 'known'\], got 'old'"):
        influence_loss(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([0, 1]), 'old')


def test_half_precision_is_summed_in_float32():
    logits = torch.tensor([[300.0, 0.0], [0.0, 300.0]], dtype=torch.float16)
    assert influence_loss(logits, torch.tensor([1, 1]), torch.tensor([0, 1])).item() == 150.0


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r'expected logits \(N, K\) and N targets, got \(2, 3\)'):
        influence_loss(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1, 2]))
