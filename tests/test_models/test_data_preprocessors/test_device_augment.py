"""DeviceAugment against torchvision: crops and mirrored images by pixels, draws by their distributions."""

import math

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from torchvision.transforms import RandomErasing, RandomResizedCrop
from torchvision.transforms import functional as tv

from hybridcls.models.data_preprocessors import DeviceAugment, HybridDataPreprocessor
from hybridcls.registry import MODELS

PLAIN = dict(flip_prob=0.0)


def images(count=4, height=20, width=30, channels=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, channels, height, width), generator=generator, dtype=torch.uint8)


def test_crops_are_those_of_torchvision_resized_bilinearly():
    batch, boxes = images(), torch.tensor([[0, 0, 20, 30], [3, 5, 10, 15], [7, 2, 13, 9], [18, 25, 2, 5]])
    flipped = torch.tensor([False, True, False, True])
    found = DeviceAugment(img_size=(12, 16))._cropped(batch.float(), boxes, flipped)
    for image, box, mirrored, own in zip(batch.float(), boxes.tolist(), flipped, found, strict=True):
        # Not antialiased. At the edges of the crop the sampling sees the pixels beyond it.
        expected = tv.resized_crop(image, *box, (12, 16), antialias=False)
        expected = expected.flip(-1) if mirrored else expected
        edge = math.ceil(max(12 / box[2], 16 / box[3]) / 2)
        inner = (..., slice(edge, -edge), slice(edge, -edge))
        torch.testing.assert_close(own[inner], expected[inner], atol=1e-2, rtol=0)
    whole = tv.resize(batch[:1].float(), (12, 16), antialias=False)
    torch.testing.assert_close(found[:1], whole, atol=1e-2, rtol=0)


@pytest.mark.parametrize(('height', 'width'), [(224, 224), (100, 300), (300, 100)])
def test_crops_have_the_distribution_of_torchvision(height, width):
    augment = DeviceAugment(img_size=8, crop_ratio_range=(0.2, 1.0))
    found = augment.draw_crops(3000, height, width, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    image = torch.zeros(1, height, width)
    drawn = [RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)]
    for own, other in zip(quantities(found.numpy()), quantities(np.array(drawn)), strict=True):
        assert own.mean() == pytest.approx(other.mean(), abs=5 * other.std() * math.sqrt(2 / 3000) + 1e-9)
        assert own.std() == pytest.approx(other.std(), rel=0.1)
        spread = other.max() - other.min()
        assert own.min() == pytest.approx(other.min(), abs=0.08 * spread)
        assert own.max() == pytest.approx(other.max(), abs=0.08 * spread)


def quantities(boxes):
    top, left, height, width = boxes.T.astype(float)
    return height * width, np.log(width / height), top + height / 2, left + width / 2


def test_erased_rectangles_have_the_distribution_of_torchvision():
    grey = torch.full((1500, 3, 64, 64), 128, dtype=torch.uint8)
    augment = DeviceAugment(**PLAIN, erase_prob=0.5, fill_color=(255, 0, 255))
    torch.manual_seed(0)
    found = augment(grey)
    erased = (found[:, 0] == 255).flatten(1).float().mean(1).numpy()
    theirs = RandomErasing(0.5, (0.02, 1 / 3), (0.3, 3.3), value=1.0)
    expected = torch.stack([theirs(torch.zeros(1, 64, 64)) for _ in range(1500)]).flatten(1).mean(1).numpy()
    assert (erased > 0).mean() == pytest.approx((expected > 0).mean(), abs=0.06)
    assert erased[erased > 0].mean() == pytest.approx(expected[expected > 0].mean(), abs=0.015)
    assert 0.015 < erased[erased > 0].min() < 0.03
    assert erased.max() < 0.34
    assert found[torch.from_numpy(erased > 0)][:, 1].unique().tolist() == [0, 128]


def test_shares_and_factors():
    augment = DeviceAugment(flip_prob=0.3, brightness=0.4, jitter_prob=0.6, grayscale_prob=0.2)
    row = torch.tensor([[100, 120], [80, 120], [60, 120]], dtype=torch.uint8)  # R, G, B of a left and a right pixel
    torch.manual_seed(0)
    found = augment(row[None, :, None].expand(4000, 3, 1, 2))[:, :, 0]
    mirrored = found[:, 0, 0] > found[:, 0, 1] + 1e-3
    grey = (found[:, 0] - found[:, 1]).abs().amax(1) < 1e-3
    factors = found.amax(dim=(1, 2)) / 120
    assert mirrored[~grey].float().mean() == pytest.approx(0.3, abs=0.03)
    assert grey.float().mean() == pytest.approx(0.2, abs=0.03)
    changed = (factors - 1).abs() > 1e-4
    assert changed.float().mean() == pytest.approx(0.6, abs=0.03)
    assert factors[changed].mean() == pytest.approx(1, abs=0.02)
    assert factors[changed].std() == pytest.approx(0.8 / math.sqrt(12), abs=0.01)
    assert 0.6 - 1e-4 <= factors.min() < 0.61
    assert 1.39 < factors.max() <= 1.4 + 1e-4


def test_nothing_set_changes_nothing():
    batch = images()
    torch.testing.assert_close(DeviceAugment(**PLAIN)(batch), batch.float(), atol=1e-4, rtol=0)


def test_views_and_seeds():
    augment = DeviceAugment(img_size=16, contrast=0.4, hue=0.1, num_views=2)
    torch.manual_seed(5)
    first, after = augment(images()), torch.rand(1)
    torch.manual_seed(5)
    again = augment(images())
    assert first.shape == (8, 3, 16, 16)
    assert torch.equal(first, again)
    assert torch.rand(1) == after  # a resume that restores torch's state goes on with the same draws
    assert not torch.equal(first[:4], first[4:])
    assert not torch.equal(first, augment(images()))


def test_processes_draw_differently(monkeypatch):
    outputs = []
    for rank in range(2):
        monkeypatch.setattr('hybridcls.models.data_preprocessors.device_augment.get_rank', lambda rank=rank: rank)
        torch.manual_seed(0)
        outputs.append(DeviceAugment(img_size=16)(images()))
    assert not torch.equal(*outputs)


class TestInThePreprocessor:
    def batch(self, count=3, size=(20, 30)):
        samples = [DataSample().set_gt_label(number) for number in range(count)]
        return dict(inputs=list(images(count, *size)), data_samples=samples)

    def build(self, **keys):
        augment = dict(type='DeviceAugment') | PLAIN | keys
        return MODELS.build(dict(type='hybridcls.HybridDataPreprocessor', device_augment=augment))

    def test_training_and_evaluation(self):
        preprocessor = self.build(img_size=16, num_views=2)
        training, evaluation = (preprocessor(self.batch(), training) for training in (True, False))
        assert training['inputs'].shape == (6, 3, 16, 16)
        assert training['inputs'].max() <= 1
        assert len(training['data_samples']) == 3
        assert torch.equal(evaluation['inputs'], images(3).flip(1) / 255)

    def test_channels_are_rgb_for_the_augmentation_and_the_model(self):
        preprocessor = self.build(erase_prob=1.0, fill_color=(255, 0, 102))
        found = preprocessor(dict(inputs=[torch.zeros(3, 20, 30, dtype=torch.uint8)]), True)['inputs']
        torch.testing.assert_close(found.amax(dim=(0, 2, 3)), torch.tensor([1.0, 0.0, 0.4]))

    def test_images_of_different_sizes(self):
        inputs = [*images(1), *images(1, 21)]
        with pytest.raises(ValueError, match=r'expected images of one size with device_augment, got \[\(3, 20, 30\)'):
            self.build()(dict(inputs=inputs), True)

    def test_mixup_takes_one_view(self):
        mixup = dict(augments=dict(type='Mixup', alpha=0.8))
        with pytest.raises(ValueError, match=r'expected one view .* num_views=2 in device_augment'):
            HybridDataPreprocessor(
                num_classes=3,
                to_onehot=True,
                batch_augments=mixup,
                device_augment=dict(type='DeviceAugment', num_views=2),
            )


@pytest.mark.parametrize(
    ('keys', 'words'),
    [(dict(flip_prob=2), 'flip_prob'), (dict(hue=0.6), 'hue'), (dict(img_size=0), 'img_size'),
     (dict(crop_ratio_range=(0.5, 2)), 'crop_ratio_range'), (dict(num_views=0), 'num_views')],
)  # fmt: skip
def test_wrong_settings(keys, words):
    with pytest.raises(ValueError, match=f'DeviceAugment: expected {words}'):
        DeviceAugment(**keys)
