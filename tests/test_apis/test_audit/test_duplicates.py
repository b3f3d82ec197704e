"""Duplicates, crops and leaks among pictures that are made for it."""

import numpy as np
import pytest
from PIL import Image

from hybridcls.apis.audit.crops import find_crops, is_crop
from hybridcls.apis.audit.duplicates import Duplicates, find_duplicates, leaks_of
from hybridcls.apis.audit.duplicates_section import duplicates_numbers, duplicates_section, duplicates_table
from hybridcls.apis.image_inputs import Item


def picture(seed, size=(160, 120)):
    """Blobs: what photographs have, and noise has not."""
    small = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Training images 0 to 9, of which 8 is a copy of 0 and 9 a smaller 1; held out: copies of 2 and 3, a crop of 4."""
    folder = tmp_path_factory.mktemp('images')
    training, held_out = [], []
    for seed in range(10):
        image = picture({8: 0, 9: 1}.get(seed, seed))
        training.append(str(folder / f'{seed}.png'))
        (image.resize((80, 60)) if seed == 9 else image).save(training[-1])
    for name, image in (
        ('a', picture(2)),
        ('b', picture(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        ('c', picture(4).crop((20, 10, 130, 100))),
        ('d', picture(77)),
    ):
        held_out.append(str(folder / f'held_{name}.png'))
        image.save(held_out[-1])
    return training, held_out


@pytest.fixture(scope='module')
def found(images):
    """Labels contradict between 1 and 9. Embeddings are near for the crop alone."""
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(10, 6)), generator.normal(size=(4, 6))
    embeddings[1][2] = embeddings[0][4]
    labels = np.array([0, 1, 2, 3, 4, 0, 1, 2, 0, 2])
    return find_duplicates(images[0], labels, images[1], np.array([2, 3, 4, 0]), embeddings)


def test_groups(found):
    groups = {(one.kind, tuple(one.training), tuple(one.held_out)) for one in found.groups}
    assert groups == {
        ('near', (1, 9), ()), ('exact', (0, 8), ()), ('exact', (2,), (0,)), ('near', (3,), (1,)), ('crop', (4,), (2,)),
    }  # fmt: skip
    assert found.groups[0].contradicts
    assert not any(one.contradicts for one in found.groups[1:])
    assert [one.is_leak for one in found.groups] == [False, True, True, True, False]
    assert found.leaked().tolist() == [0, 1, 2]
    assert found.copies() == [8]
    assert (found.training, found.held_out) == (10, 4)


def test_leaks_and_the_accuracy_without_them(found):
    leaks = leaks_of(Duplicates(found.groups), np.array([True, True, False, True] + [False] * 4))
    assert (leaks.images, leaks.leaked, leaks.accuracy, leaks.clean) == (8, 3, 3 / 8, 1 / 5)
    assert leaks.leaked_accuracy == 2 / 3
    assert leaks.change == pytest.approx(3 / 8 - 1 / 5)
    assert leaks.change_interval.low < leaks.change < leaks.change_interval.high
    assert leaks_of(Duplicates(), np.ones(4, bool)) is None


def test_page_and_table(found, images):
    training, held_out = ([Item(path, path) for path in paths] for paths in images)
    classes = ['a', 'b', 'c', 'd', 'e']
    leaks = leaks_of(found, np.array([True, True, False, True]))
    section = duplicates_section(found, leaks, training, held_out, classes)
    text = ' '.join(section.says)
    assert '2 training images, in 1 groups, show the same under several labels.' in text
    assert '3 of 4 held-out images are among the training images, too.' in text
    assert len(section.groups) == 4
    assert all(one['image'] for one in section.groups[0]['pictures'])
    lines = duplicates_table(found, *images, classes).decode().splitlines()
    assert lines[0] == 'path,label,advice,decision,split,group,kind,labels'
    advice = {line.split(',')[0]: line.split(',')[2] for line in lines[1:]}
    assert {path for path, what in advice.items() if what == 'drop'} == {images[0][row] for row in (2, 3, 4, 8)}
    numbers = duplicates_numbers(found, leaks)
    assert (numbers['groups'], numbers['contradicting'], numbers['leaked'], numbers['copies']) == (5, 1, 3, 1)


def test_without_held_out_images_and_files(images):
    found = find_duplicates([*images[0], None, '/no/such/file.png'], np.zeros(12, int))
    assert [one.training for one in found.groups] == [[0, 8], [1, 9]]
    assert found.training == 10


def test_a_crop_is_found_mirrored_too_and_another_image_is_not():
    whole = np.asarray(picture(1).convert('L'))
    part = whole[20:100, 30:140]
    assert is_crop(whole, part)
    assert is_crop(part, whole)
    assert is_crop(whole, part[:, ::-1])
    assert not is_crop(whole, np.asarray(picture(2).convert('L'))[20:100, 30:140])
    assert not is_crop(whole, None)
    assert not is_crop(whole, np.full((80, 80), 128, dtype=np.uint8))  # a flat part lies in every image
    assert find_crops(['a.png'], np.zeros(1, int), np.ones((1, 2)), 1) == []
