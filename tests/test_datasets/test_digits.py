"""Digits: splits, labels and images, against scikit-learn."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from hybridcls.datasets import Digits, digits
from hybridcls.registry import DATASETS


def rows(dataset):
    return {sample['img'].tobytes() for sample in dataset}


def test_splits_together_are_the_bundled_images():
    train, val, test = (Digits(split=split) for split in ('train', 'val', 'test'))
    assert (len(train), len(val), len(test)) == (1149, 288, 360)
    assert rows(Digits(split='train+val')) == rows(train) | rows(val)
    original = load_digits()
    everything = np.concatenate([[sample['img'] for sample in part] for part in (train, val, test)])
    assert everything.dtype == np.uint8
    assert everything.shape == (1797, 8, 8, 3)
    # Sums over the set do not depend on the order; 0..16 became 0..255.
    np.testing.assert_array_equal(np.unique(everything), np.rint(np.arange(17) * 255 / 16))
    np.testing.assert_array_equal(np.rint(everything[..., 0].astype(float) * 16 / 255).sum(0), original.images.sum(0))
    labels = np.concatenate([part.get_gt_labels() for part in (train, val, test)])
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(original.target))


def test_what_the_package_keeps_is_what_scikit_learn_gives():
    original = load_digits()
    images, labels, _ = digits._kept()
    np.testing.assert_array_equal(images[..., 1], np.rint(original.images * 255 / 16))
    np.testing.assert_array_equal(labels, original.target)
    numbers = np.arange(len(labels))
    rest, test = train_test_split(numbers, test_size=0.2, random_state=0, stratify=labels)
    train, val = train_test_split(rest, test_size=0.2, random_state=0, stratify=labels[rest])
    for split, expected in {'train': train, 'val': val, 'test': test, 'train+val': rest}.items():
        np.testing.assert_array_equal(Digits(split=split)._rows(), np.sort(expected))


def test_an_image_keeps_its_label():
    original = load_digits()
    label_of = {image.tobytes(): label for image, label in zip(original.images, original.target, strict=True)}
    for sample in Digits(split='test'):
        image = np.rint(sample['img'][..., 0].astype(float) * 16 / 255)
        assert label_of[image.tobytes()] == sample['gt_label']
        assert sample['img_shape'] == sample['ori_shape'] == (8, 8)


def test_the_split_is_stratified_disjoint_and_fixed():
    train, val, test = (Digits(split=split) for split in ('train', 'val', 'test'))
    share_of_rest = np.bincount(val.get_gt_labels()) / np.bincount(Digits(split='train+val').get_gt_labels())
    assert abs(share_of_rest - 0.2).max() < 0.01
    share = np.bincount(test.get_gt_labels()) / np.bincount(load_digits().target)
    assert abs(share - 0.2).max() < 0.01
    assert not rows(train) & rows(test)
    assert not rows(train) & rows(val)
    assert not rows(val) & rows(test)
    assert test.get_gt_labels().tolist()[:10] == [1, 4, 8, 6, 5, 9, 9, 1, 3, 2]
    assert rows(Digits(split='test')) == rows(test)
    assert rows(Digits(split='test', split_seed=1)) != rows(test)
    assert len(Digits(split='test', test_ratio=0.5)) == 899


def test_a_sample_can_be_changed_without_changing_the_set():
    digits = Digits()
    digits[3]['img'][:] = 7
    assert not (digits[3]['img'] == 7).all()


def test_digits_from_a_config_to_a_tensor():
    digits = DATASETS.build(
        dict(
            type='Digits',
            split='train',
            indices=20,
            pipeline=[dict(type='hybridcls.ResizeToSize', img_size=32), dict(type='PackInputs')],
        )
    )
    assert len(digits) == 20
    packed = digits[4]
    assert packed['inputs'].shape == (3, 32, 32)
    assert packed['data_samples'].sample_idx == 4
    assert digits.metainfo['classes'] == tuple('0123456789')


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (dict(split='tets'), "to be one of .* Did you mean 'test'"),
        (dict(test_ratio=1.0), r'expected test_ratio in \(0, 1\), got 1.0'),
        (dict(split_seed=-1), r'expected split_seed in .* got -1'),
    ],
)
def test_invalid_arguments_are_errors(wrong, message):
    with pytest.raises(ValueError, match=message):
        Digits(**wrong)


def test_subset_of_digits_has_its_own_labels():
    some, everything = Digits(split='test', digits=(7, 3)), Digits(split='test')
    assert some.metainfo['classes'] == ('7', '3')
    assert [(7, 3)[entry['gt_label']] for entry in some] == [
        entry['gt_label'] for entry in everything if entry['gt_label'] in (3, 7)
    ]
    assert [int(entry['img'].sum()) for entry in some] == [
        int(entry['img'].sum()) for entry in everything if entry['gt_label'] in (3, 7)
    ]
    for wrong in ((), (3, 3), (10,)):
        with pytest.raises(ValueError, match='Digits: expected digits '):
            Digits(digits=wrong)


def test_few_images_of_each_class_are_drawn_by_their_own_seed():
    few = Digits(split='train', images_per_class=20)
    labels = [sample['gt_label'] for sample in few.load_data_list()]
    assert sorted(labels) == [digit for digit in range(10) for _ in range(20)]
    everything = {sample['img'].tobytes() for sample in Digits(split='train').load_data_list()}
    drawn = {sample['img'].tobytes() for sample in few.load_data_list()}
    other = {
        sample['img'].tobytes() for sample in Digits(split='train', images_per_class=20, images_seed=1).load_data_list()
    }
    assert drawn <= everything
    assert other <= everything
    assert len(drawn & other) < 100
    assert [sample['gt_label'] for sample in Digits(images_per_class=2, digits=(3, 7)).load_data_list()].count(1) == 2
    with pytest.raises(ValueError, match=r'Digits: expected images_per_class to be at most .*, got 500'):
        Digits(images_per_class=500).load_data_list()
