"""The terms of distillation against their equations, written with loops in float64."""

import math

import pytest
import torch

from hybridcls.functional import cosine_feature_loss, distance_relation_loss, kd_kl_loss


def softmax(row, temperature):
    top = max(row)
    powers = [math.exp((value - top) / temperature) for value in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.0, 7.0])
def test_the_divergence_is_hintons(temperature):
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 4, dtype=torch.float64) * 3, torch.randn(5, 4, dtype=torch.float64) * 3
    expected = 0.0
    for s_row, t_row in zip(student.tolist(), teacher.tolist(), strict=True):
        q, p = softmax(s_row, temperature), softmax(t_row, temperature)
        expected += sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))
    found = kd_kl_loss(student, teacher, temperature)
    assert found.item() == pytest.approx(temperature**2 * expected / 5, rel=1e-12)


def test_it_is_not_symmetric_and_only_the_student_learns():
    student = torch.tensor([[2.0, 0.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[0.0, 1.0, 0.0]], requires_grad=True)
    assert not torch.isclose(kd_kl_loss(student, teacher), kd_kl_loss(teacher, student))
    kd_kl_loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    # For soft targets the gradient is T (q - p): the T squared cancels one 1 / T of the softmax.
    q, p = torch.tensor(softmax([2.0, 0.0, 0.0], 2.0)), torch.tensor(softmax([0.0, 1.0, 0.0], 2.0))
    torch.testing.assert_close(student.grad[0], 2.0 * (q - p))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_extreme_logits_are_finite(dtype):
    student = torch.tensor([[6e4, -6e4, 0.0], [0.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-6e4, 6e4, 0.0], [6e4, 6e4, -6e4]], dtype=dtype)
    with torch.autocast('cpu', torch.bfloat16):
        loss = kd_kl_loss(student, teacher, 1.0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_gradients():
    torch.manual_seed(1)
    student = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 3, dtype=torch.float64)
    for function in (kd_kl_loss, cosine_feature_loss, distance_relation_loss):
        assert torch.autograd.gradcheck(lambda s, f=function: f(s, teacher), [student])


def test_directions():
    student, teacher = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    expected = sum(1 - float(s @ t / s.norm() / t.norm()) for s, t in zip(student, teacher, strict=True)) / 6
    assert cosine_feature_loss(student, teacher).item() == pytest.approx(expected)


def test_relations_are_those_of_the_paper():
    torch.manual_seed(2)
    student, teacher = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64) * 4
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]

    def relative(points):
        distances = [math.dist(points[i], points[j]) for i, j in pairs]
        return [distance / (sum(distances) / len(pairs)) for distance in distances]

    differences = [abs(a - b) for a, b in zip(relative(student.tolist()), relative(teacher.tolist()), strict=True)]
    expected = sum(0.5 * d**2 if d <= 1 else d - 0.5 for d in differences) / len(pairs)
    assert distance_relation_loss(student, teacher).item() == pytest.approx(expected)


def test_equal_embeddings_and_a_batch_of_one():
    student = torch.ones(3, 2, requires_grad=True)
    loss = distance_relation_loss(student, torch.randn(3, 2))
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
    assert distance_relation_loss(torch.ones(1, 2), torch.ones(1, 2)).item() == 0


def test_what_does_not_fit():
    with pytest.raises(ValueError, match=r'student gives logits \(2, 3\) and the teacher \(2, 4\)'):
        kd_kl_loss(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match=r'expected temperature in .*, got 0'):
        kd_kl_loss(torch.ones(2, 3), torch.ones(2, 3), 0)
