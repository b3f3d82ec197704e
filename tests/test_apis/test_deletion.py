"""Deletion tells a map that marks what counts from one that does not."""

from contextlib import nullcontext
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binom
from torch import nn

from hybridcls.apis.deletion import STEPS, deletion_areas, deletion_ends, deletion_gains, moved_maps, passes_of_gains
from hybridcls.functional.metrics import mean_interval


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
    model = Corner()
    precision = nullcontext


class Quarter(Corner):
    """Class 1 is as probable as the images are bright in the brightest of four quarters, and smooth."""

    def __init__(self, roughness=0):
        super().__init__()
        self.roughness = roughness

    def outputs(self, images):
        grey = images.mean(1, keepdim=True)
        rough = grey.diff(dim=2).abs().mean((1, 2, 3)) + grey.diff(dim=3).abs().mean((1, 2, 3))
        bright = F.avg_pool2d(grey, 8).amax((1, 2, 3)) * (1 - self.roughness * rough).clamp_min(0)
        return dict(probabilities=torch.stack([1 - bright, bright], 1))


@pytest.fixture
def quarters():
    """Twelve images with one bright quarter each, and the maps that mark it."""
    maps = torch.zeros(12, 4, 4)
    for row, place in enumerate([0, 1, 2, 3, 2, 0, 3, 1, 1, 3, 0, 2]):
        maps[row, 2 * (place // 2) :, 2 * (place % 2) :][:2, :2] = 1
    images = F.interpolate(maps.unsqueeze(1), (16, 16)).expand(-1, 3, -1, -1) * 0.9
    return SimpleNamespace(model=Quarter(), precision=nullcontext), images, maps


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
    for step in range(STEPS + 1):
        gone = min(64, step * 256 // STEPS)
        curve.append((64 - gone + 0.25 * gone) / 64)
    expected = sum((one + other) / 2 / STEPS for one, other in pairwise(curve))
    assert float(areas[0]) == pytest.approx(expected, abs=0.03)
    whole = deletion_areas(Model, images, quarter.flip(1, 2), torch.ones(8, dtype=torch.int64))
    assert float(whole[0]) > float(areas[0]) + 0.3


def test_maps_move_over_the_same_places():
    maps = torch.rand(200, 4, 4)
    moved = moved_maps(maps, torch.Generator().manual_seed(0))
    assert torch.equal(moved.flatten(1).sort(1).values, maps.flatten(1).sort(1).values)
    assert sum(torch.equal(one, other) for one, other in zip(moved, maps, strict=True)) < 15  # 200 of 64 moves
    # Neighbours stay neighbours, around the edges.
    around = (maps - maps.roll(1, 1)).abs().sum((1, 2)) + (maps - maps.roll(1, 2)).abs().sum((1, 2))
    again = (moved - moved.roll(1, 1)).abs().sum((1, 2)) + (moved - moved.roll(1, 2)).abs().sum((1, 2))
    torch.testing.assert_close(again, around)
    first = torch.zeros(3000, 4, 4)
    first[:, 0, 0] = 1
    counts = moved_maps(first, torch.Generator().manual_seed(0)).sum(0).flatten()
    assert all(130 < count < 250 for count in counts.tolist())  # each place is as likely
    assert moved_maps(torch.rand(2, 2, 3), torch.Generator()).shape == (2, 2, 3)
    assert torch.equal(moved_maps(torch.ones(2, 1, 1), torch.Generator()), torch.ones(2, 1, 1))


def smooth(count, generator):
    return F.avg_pool2d(torch.rand(count, 1, 8, 8, generator=generator), 3, 1).squeeze(1)


def test_maps_that_mark_what_counts_gain_and_others_do_not(quarters):
    model, images, right = quarters
    labels = torch.ones(len(images), dtype=torch.int64)
    others = torch.stack([right.roll(step, 0) for step in (1, 2, 3)])
    gains = deletion_gains(model, images, right, labels, others)
    assert gains.moved.min() > 0.05
    assert gains.others.mean() > 0.1
    # The right map of another image, and one that is the same for all, gain nothing over those of others.
    swapped = deletion_gains(model, images, others[0], labels, others[1:])
    assert mean_interval(swapped.others).low < 0
    same = right[:1].expand_as(right)
    assert deletion_gains(model, images, same, labels, same.unsqueeze(0)).others.tolist() == [0] * len(images)
    assert deletion_gains(model, images, right, labels).others.isnan().all()
    assert deletion_gains(model, images, 1 - right, labels).moved.max() < 0


def test_right_maps_pass_though_places_that_lie_apart_disturb_more(quarters):
    _, images, right = quarters
    model = SimpleNamespace(model=Quarter(roughness=8), precision=nullcontext)
    labels = torch.ones(len(images), dtype=torch.int64)
    others = torch.stack([right.roll(step, 0) for step in (1, 2, 3)])
    assert all(mean_interval(one).low > 0 for one in deletion_gains(model, images, right, labels, others))
    generator = torch.Generator().manual_seed(0)
    apart = [deletion_areas(model, images, torch.rand(right.shape, generator=generator), labels) for _ in range(3)]
    assert torch.stack(apart).mean() < deletion_areas(model, images, right, labels).mean()


def test_what_all_maps_share_is_computed_once(quarters):
    model, images, right = quarters
    labels, calls = torch.ones(len(images), dtype=torch.int64), []
    others = torch.stack([right.roll(step, 0) for step in (1, 2, 3)])
    plain = deletion_areas(model, images, right, labels)
    model.precision = lambda: calls.append(1) or nullcontext()
    ends = deletion_ends(model, images, labels)
    assert torch.equal(deletion_areas(model, images, right, labels, ends), plain)
    for stream in (right, others[0]):
        deletion_gains(model, images, stream, labels, others, ends=ends)
    assert len(calls) == passes_of_gains(2, 3) + STEPS - 1


def test_smooth_maps_of_noise_pass_as_seldom_as_stated(quarters):
    model, images, _ = quarters
    labels = torch.ones(len(images), dtype=torch.int64)
    generator, passed = torch.Generator().manual_seed(0), 0
    for seed in range(60):
        maps = smooth(len(images), generator)
        others = torch.stack([maps.roll(step, 0) for step in (1, 2, 3)])
        gains = deletion_gains(model, images, maps, labels, others, seed=seed)
        passed += all(mean_interval(one).low > 0 for one in gains)
    assert passed <= binom.ppf(0.99, 60, 0.025)
