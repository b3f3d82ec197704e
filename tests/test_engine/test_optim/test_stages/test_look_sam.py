"""LookSAM's direction against Algorithm 1, on vectors."""

import torch

from hybridcls.engine.optim import Update
from hybridcls.engine.optim.stages.look_sam import add_direction, add_gradient, orthogonal_direction


def update_with(*grads):
    params = [torch.nn.Parameter(torch.zeros(2, dtype=torch.float64)) for _ in grads]
    for param, grad in zip(params, grads, strict=True):
        param.grad = None if grad is None else torch.tensor(grad, dtype=torch.float64)
    return Update(torch.optim.SGD(params, lr=0.1), params, [''] * len(params), [None] * len(params))


def vector(tensors):
    return torch.cat([tensors[i] for i in sorted(tensors)])


def test_the_direction_is_what_of_the_second_gradient_is_orthogonal_to_the_first():
    first = {0: torch.tensor([1.0, 2.0], dtype=torch.float64), 2: torch.tensor([-1.0, 0.5], dtype=torch.float64)}
    g = vector(first)
    update = update_with([3.0, -1.0], None, [2.0, 2.0])
    gs = torch.tensor([3.0, -1.0, 2.0, 2.0], dtype=torch.float64)
    # Algorithm 1: cos theta = g.gs / (|g| |gs|), g_v = gs - |gs| cos theta g / |g|
    cosine = g @ gs / (g.norm() * gs.norm())
    expected = gs - gs.norm() * cosine * g / g.norm()
    found = orthogonal_direction(update, first)
    assert found.keys() == {0, 2}
    torch.testing.assert_close(vector(found), expected / expected.norm())


def test_the_direction_is_added_in_proportion_to_the_gradient():
    update = update_with([3.0, 0.0], [0.0, 4.0])
    direction = {0: torch.tensor([0.0, 1.0], dtype=torch.float64)}
    add_direction(update, direction, alpha=0.5)
    assert [param.grad.tolist() for param in update.params] == [[3.0, 0.5 * 5.0], [0.0, 4.0]]


def test_gradients_of_micro_batches_add_up_and_are_copied_where_they_will_change():
    update, total = update_with([1.0, 2.0], [3.0, 4.0]), {}
    bucket = torch.zeros(4, dtype=torch.float64)
    update.params[1].grad = bucket[:2]  # a view, as DDP's
    add_gradient(total, update, [0, 1], must_copy=False)
    assert total[0] is update.params[0].grad
    bucket.add_(1)
    assert total[1].tolist() == [0, 0]
    update = update_with([1.0, 2.0], [3.0, 4.0])
    add_gradient(total, update, [0, 1], must_copy=False)
    assert total[0].tolist() == [2, 4]
    copied = {}
    add_gradient(copied, update, [0], must_copy=True)
    assert copied[0] is not update.params[0].grad
