"""Crops that are drawn before the image is decoded: where they lie, which scale they allow, what follows a loader."""

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmpretrain.datasets.transforms import RandomResizedCrop

from hybridcls.datasets.transforms import ImageViews, LoadImage, RandomCropToSize
from hybridcls.datasets.transforms.planned_crops import CropBox, PlannedCrops, crops_after


class Fixed:
    """Draws given crops."""

    def __init__(self, img_size, box):
        self.img_size, self.box = img_size, box

    def draw(self, height, width):
        return self.box


@pytest.mark.parametrize(
    ('boxes', 'scale'),
    [
        ([(0, 0, 62, 200)], 1),
        ([(0, 0, 64, 96)], 2),
        ([(0, 0, 64, 95)], 2),  # 47.5 pixels, rounded to 48
        ([(0, 0, 64, 94)], 1),  # 47 of 48
        ([(0, 0, 256, 384)], 8),
        ([(0, 0, 256, 384), (0, 0, 130, 200)], 4),  # the smallest crop decides
        ([(0, 0, 256, 384), (7, 9, 20, 30)], 1),
    ],
)
def test_no_crop_becomes_smaller_than_its_output(boxes, scale):
    plan = PlannedCrops([Fixed((32, 48), box) for box in boxes])
    plan.draw(400, 500)
    assert plan.scale == scale


def test_the_crops_at_a_scale():
    plan = PlannedCrops([Fixed((8, 8), (10, 21, 30, 40)), Fixed((8, 8), (0, 0, 101, 99))])
    plan.draw(101, 99)
    assert plan.boxes(1) == [CropBox(10, 21, 30, 40), CropBox(0, 0, 101, 99)]
    assert plan.decoded_size(4) == (26, 25)
    # Rows 10 to 40 are 2.5 to 10 of 26, columns 21 to 61 are 5.25 to 15.25 of 25; 101 / 4 = 25.25 and 99 / 4 = 24.75.
    assert plan.boxes(4) == [CropBox(2, 5, 8, 10), CropBox(0, 0, 25, 25)]


def test_the_distribution_is_that_of_mmpretrain():
    """Area, width / height and middle of the crops, and how far they move where the image is decoded smaller."""
    keys = dict(crop_ratio_range=(0.2, 1.0))
    crop, theirs = RandomCropToSize(img_size=64, **keys), RandomResizedCrop(64, **keys)
    image, moved, sizes = np.zeros((640, 427, 3), np.uint8), [], ([], [])
    np.random.seed(0)  # noqa: NPY002
    for _ in range(2000):
        plan = PlannedCrops([crop])
        plan.draw(640, 427)
        assert plan.scale > 1
        box, small = np.array(plan.boxes(1)[0]), plan.scale * np.array(plan.boxes(plan.scale)[0])
        edges = [np.concatenate([part[:2], part[:2] + part[2:]]) for part in (box, small)]
        moved.append((edges[1] - edges[0]) / plan.scale)
        for found, (top, left, height, width) in zip(sizes, (small, theirs.rand_crop_params(image)), strict=True):
            found.append((height * width, width / height, top + height / 2, left + width / 2))
    assert np.abs(moved).max() <= 0.5
    assert np.abs(np.mean(moved, axis=0)).max() < 0.05  # to no side
    for found, expected in zip(*(np.array(each).T for each in sizes), strict=True):
        assert found.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() * (2 / 2000) ** 0.5)
        assert found.var() == pytest.approx(expected.var(), rel=0.12)
        spread = expected.max() - expected.min()
        assert found.min() == pytest.approx(expected.min(), abs=0.03 * spread)
        assert found.max() == pytest.approx(expected.max(), abs=0.03 * spread)


def test_crops_are_drawn_once_for_a_size():
    plan = PlannedCrops([RandomCropToSize(img_size=8)])
    plan.draw(100, 200)
    first = plan.boxes(1)
    plan.draw(100, 200)
    assert plan.boxes(1) == first
    plan.draw(20, 30)
    assert plan.size == (20, 30)
    assert plan.boxes(1)[0].height <= 20


def test_only_what_follows_at_once_counts():
    loader, crop = LoadImage(decode_scale='crop'), RandomCropToSize(img_size=8)
    own = dict(type='hybridcls.RandomCropToSize', img_size=8)
    flip = dict(type='RandomFlip', prob=0.5)
    views = ImageViews([[own, flip], [own]], num_views=[2, 1])
    assert crops_after(Compose([loader, crop, flip]), loader) == [crop]
    assert len(crops_after(Compose([loader, views]), loader)) == 3
    for others in ([flip, crop], [], [ImageViews([[own], [flip, own]], num_views=[1, 1])]):
        assert crops_after(Compose([loader, *others]), loader) == []
    assert crops_after(None, loader) == []
    assert crops_after(Compose([LoadImage(), crop]), loader) == []
