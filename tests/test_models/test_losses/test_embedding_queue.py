import pytest
import torch

from hybridcls.models.losses import EmbeddingQueue


def rows(*values):
    return torch.tensor(values, dtype=torch.float32).unsqueeze(1).repeat(1, 2)


def held(queue):
    embeddings, labels = queue.contents()
    return embeddings[:, 0].tolist(), labels.tolist()


def test_first_in_first_out():
    queue = EmbeddingQueue(size=5, dim=2)
    assert held(queue) == ([], [])
    queue.add(rows(1, 2), torch.tensor([10, 20]))
    assert held(queue) == ([1, 2], [10, 20])
    queue.add(rows(3, 4), torch.tensor([30, 40]))
    queue.add(rows(5, 6), torch.tensor([50, 60]))
    assert held(queue) == ([5, 6, 3, 4, 1], [50, 60, 30, 40, 10])
    queue.add(rows(*range(7)), torch.arange(7))
    assert held(queue) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])


def test_a_checkpoint_holds_it_full_or_not():
    for count in (2, 5):
        queue, other = EmbeddingQueue(size=5, dim=2), EmbeddingQueue(size=5, dim=2)
        queue.add(rows(*range(count)), torch.arange(count))
        other.add(rows(*range(9)), torch.arange(9))
        other.contents()
        other.load_state_dict(queue.state_dict())
        assert held(other) == held(queue)
        assert len(held(other)[0]) == count


def test_what_a_backward_pass_holds_stays_as_it_was():
    queue, weight = EmbeddingQueue(size=3, dim=2), torch.ones(2, requires_grad=True)
    queue.add(rows(1, 2, 3), torch.zeros(3))
    product = (queue.contents()[0] * weight).sum()
    queue.add(rows(7, 8).requires_grad_(), torch.zeros(2))
    product.backward()
    assert weight.grad.tolist() == [6, 6]
    assert not queue.embeddings.requires_grad


def test_rows_that_are_not_finite_come_in_as_zeros():
    queue = EmbeddingQueue(size=3, dim=2)
    queue.add(torch.tensor([[1.0, 2.0], [torch.nan, 1.0], [torch.inf, 1.0]]), torch.arange(3))
    assert queue.contents()[0].tolist() == [[1, 2], [0, 0], [0, 0]]


def test_wrong_numbers_are_named():
    with pytest.raises(ValueError, match=r'expected size in .* got 0'):
        EmbeddingQueue(size=0, dim=2)
    with pytest.raises(TypeError, match='expected dim to be an integer, got None'):
        EmbeddingQueue(size=2, dim=None)
    with pytest.raises(ValueError, match=r'queue=dict\(size=3, dim=4\)'):
        EmbeddingQueue(size=3, dim=2).add(torch.ones(5, 4), torch.zeros(5))
