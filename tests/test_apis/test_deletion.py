"""Deletion tells a map that marks what counts from one that does not."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from hybridcls.apis.deletion import deletion_areas, deletion_gain


class Corner(nn.Module):
    """Class 1 is as probable as the upper left quarter is bright."""

    def __init__(self):
        super().__init__()
        self.head = self

    def extract_feat(self, images):
        return images

    def outputs(self, images):
        bright = images[:, :, :8, :8].mean((1, 2, 3))
        return dict(probabilities=torch.stack([1 - bright, bright], 1))


class Model:
    model, amp = Corner(), False


@pytest.fixture
def images():
    images = torch.zeros(8, 3, 16, 16)
    images[:, :, :8, :8] = 1
    return images


def test_the_area_is_that_of_the_curve_by_hand(images):
    quarter = torch.zeros(8, 2, 2)
    quarter[:, 0, 0] = 1
    areas = deletion_areas(Model, images, quarter, torch.ones(8, dtype=torch.int64))
    # The quarter is 64 of 256 pixels, by ranks of a bilinear map the first that go; grey is 0.25.
    assert areas.shape == (8,)
    curve = []
    for step in range(11):
        gone = min(64, step * 256 // 10)
        curve.append((64 - gone + 0.25 * gone) / 64)
    expected = sum((one + other) / 20 for one, other in pairwise(curve))
    assert float(areas[0]) == pytest.approx(expected, abs=0.03)
    whole = deletion_areas(Model, images, quarter.flip(1, 2), torch.ones(8, dtype=torch.int64))
    assert float(whole[0]) > float(areas[0]) + 0.3


def test_a_map_that_says_nothing_gains_nothing(images):
    labels = torch.ones(8, dtype=torch.int64)
    right = torch.zeros(8, 4, 4)
    right[:, :2, :2] = torch.rand(8, 2, 2) + 1
    assert deletion_gain(Model, images, right, labels).min() > 0.1
    torch.manual_seed(0)
    many = images.repeat(8, 1, 1, 1)
    gains = deletion_gain(Model, many, torch.rand(64, 4, 4), labels.repeat(8))
    assert abs(float(gains.mean())) < 3 * float(gains.std()) / 8
    assert deletion_gain(Model, images, 1 - right, labels).max() < 0
