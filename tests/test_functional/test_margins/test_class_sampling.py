import pytest
import torch

from hybridcls.functional import sample_classes


def test_classes_of_the_labels_are_in_and_others_fill_up():
    torch.manual_seed(0)
    labels = torch.tensor([3, 17, 3, -4, 20, 0])
    for _ in range(20):
        classes, places = sample_classes(labels, 20, 0.4)
        assert len(classes) == 8
        assert (classes.diff() > 0).all()
        assert classes[places[[0, 1, 2, 5]]].tolist() == [3, 17, 3, 0]
        assert places[[3, 4]].tolist() == [-1, -1]


def test_negatives_are_equally_likely():
    torch.manual_seed(0)
    times = torch.zeros(11)
    for _ in range(3000):
        times[sample_classes(torch.tensor([4]), 11, 0.4)[0]] += 1
    assert times[4] == 3000
    others = times[torch.arange(11) != 4] / 3000  # 3 of 10
    assert (others - 0.3).abs().max() < 4 * (0.3 * 0.7 / 3000) ** 0.5


def test_the_random_state_decides():
    torch.manual_seed(5)
    first = sample_classes(torch.tensor([1]), 100, 0.1)[0]
    second = sample_classes(torch.tensor([1]), 100, 0.1)[0]
    torch.manual_seed(5)
    assert torch.equal(sample_classes(torch.tensor([1]), 100, 0.1)[0], first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ('labels', 'classes', 'rate', 'number'),
    [([0, 1, 2, 3], 10, 0.2, 4), ([], 10, 0.01, 1), ([5], 3, 1.0, 3), ([], 0, 0.5, 0), ([7], 0, 0.5, 0)],
)
def test_edges(labels, classes, rate, number):
    labels = torch.tensor(labels, dtype=torch.int64)
    drawn, places = sample_classes(labels, classes, rate)
    assert len(drawn) == number
    assert places.shape == labels.shape
    assert (places[labels >= classes] == -1).all()
