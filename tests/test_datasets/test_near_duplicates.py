"""Near-duplicates are found by how they look: pictures changed by Pillow are the same ones, others are not."""

import tracemalloc

import numpy as np
import pytest
from made_images import picture, save
from PIL import Image, ImageEnhance
from sklearn.datasets import load_digits

from hybridcls.datasets import near_duplicates
from hybridcls.datasets.near_duplicates import groups_of_near_duplicates, signature

CHANGES = {
    'other.jpg': lambda image: image,
    'half.png': lambda image: image.resize((100, 80)),
    'turned.webp': lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    'darker.png': lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    'paler.png': lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    'palette.gif': lambda image: image.quantize(64),
    'opaque.png': lambda image: image.convert('RGBA'),
}


@pytest.fixture
def originals(tmp_path):
    return [save(picture(seed, (200, 160)), tmp_path, f'{seed}.png') for seed in range(12)]


@pytest.mark.parametrize('name', CHANGES)
def test_a_changed_copy_is_found(name, originals, tmp_path):
    copy = save(CHANGES[name](picture(5, (200, 160))), tmp_path, 'changed', name)
    groups = groups_of_near_duplicates([*map(str, originals), str(copy)])
    assert groups == [*range(12), 5]


@pytest.mark.parametrize(
    'change',
    [
        lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        lambda image: image.transpose(Image.Transpose.ROTATE_90),
        lambda image: Image.merge('RGB', image.split()[::-1]),
        lambda image: image.crop((0, 0, 100, 160)),
    ],
)
def test_another_picture_is_not(change, originals, tmp_path):
    other = save(change(picture(5, (200, 160))), tmp_path, 'other.png')
    assert groups_of_near_duplicates([*map(str, originals), str(other)]) == [*range(13)]


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1).transpose(Image.Transpose.ROTATE_90).save(tmp_path / 'turned.jpg', exif=exif, quality=95)
    plain = save(picture(1), tmp_path, 'plain.png')
    assert groups_of_near_duplicates([str(tmp_path / 'turned.jpg'), str(plain)]) == [0, 0]


def test_names_tell_copies_in_one_folder_apart_from_other_images(tmp_path):
    names = ['a/1.png', 'a/1.jpg', 'a/1_mirror.png', 'a/1 copy.png', 'b/1.png', 'a/10.png', 'a/mirror.png']
    paths = [str(save(picture(number), tmp_path, name)) for number, name in enumerate(names)]
    assert groups_of_near_duplicates(paths) == [0, 0, 0, 0, 1, 2, 3]


def test_unreadable_and_flat_images_are_alone(tmp_path):
    (tmp_path / 'text.png').write_text('no image')
    paths = [tmp_path / 'text.png', tmp_path / 'not there.png']
    paths += [save(Image.new('RGB', (20, 20), color), tmp_path, f'{color}.png') for color in ('red', 'blue')]
    assert [signature(str(path)) for path in paths] == [None] * 4
    assert groups_of_near_duplicates([*map(str, paths)]) == [0, 1, 2, 3]


def test_what_only_looks_alike_is_not_chained(tmp_path):
    """Scans of digits: many are alike, and none is a copy."""
    scans = load_digits().images
    paths = []
    for number, scan in enumerate(scans[:600]):
        path = tmp_path / f'{number}.png'
        Image.fromarray((scan * 15.9).astype(np.uint8)).save(path)
        paths.append(str(path))
    sizes = np.bincount(groups_of_near_duplicates(paths))
    assert sizes.max() <= 20
    assert len(sizes) > 500


def test_many_copies_of_one_image(tmp_path):
    paths = [str(save(picture(3), tmp_path, f'{number}.png')) for number in range(60)]
    paths.append(str(save(picture(4), tmp_path, 'other.png')))
    assert groups_of_near_duplicates(paths) == [0] * 60 + [1]


def test_a_large_group_holds_what_is_very_close(tmp_path):
    """A path of small changes from one picture to another: only neighbours are near-duplicates."""
    one, other = picture(1, (64, 64)), picture(2, (64, 64))
    paths = [str(save(Image.blend(one, other, share / 39), tmp_path, f'{share:02d}.png')) for share in range(40)]
    groups = groups_of_near_duplicates(paths)
    assert np.linalg.norm(signature(paths[0]) - signature(paths[1])) < 0.2
    assert np.bincount(groups).max() < 40


def test_no_images():
    assert groups_of_near_duplicates([]) == []


def like_each_other(monkeypatch, signatures):
    """Return paths whose images have these signatures."""
    monkeypatch.setattr(near_duplicates, 'signature', lambda path: signatures[int(path)])
    return [*map(str, range(len(signatures)))]


def by_definition(signatures):
    """The groups: all pairs are compared, and groups of more than 20 images fall apart by smaller distances."""
    distances = np.linalg.norm(signatures[:, None] - signatures[None], axis=2)
    groups, todo = {}, [(set(range(len(signatures))), radius) for radius in (0.2,)]
    while todo:
        members, radius = todo.pop()
        while members:
            group, new = set(), {min(members)}
            while new:
                group |= new
                new = {other for one in new for other in members - group if distances[one, other] <= radius}
            members = members - group
            if len(group) > 20 and radius > 0.05:
                todo.append((group, radius / 2))
            else:
                groups.update(dict.fromkeys(group, min(group)))
    order = {}
    return [order.setdefault(groups[row], len(order)) for row in range(len(signatures))]


@pytest.mark.parametrize('pairs', [7, 2**14])  # compared at once
def test_groups_are_those_of_the_definition(pairs, monkeypatch):
    rng = np.random.default_rng(0)
    centers, spread = rng.normal(size=(6, 151)), [0.001, 0.0025, 0.005, 0.006, 0.008, 0.02]
    rows = [
        center / np.linalg.norm(center) + rng.normal(size=(size, 151)) * noise
        for center, noise, size in zip(centers, spread, (15, 40, 40, 30, 15, 5), strict=True)
    ]
    signatures = rng.permutation(np.concatenate(rows)).astype(np.float32)
    monkeypatch.setattr(near_duplicates, '_PAIRS', pairs)
    groups = groups_of_near_duplicates(like_each_other(monkeypatch, signatures))
    assert groups == by_definition(signatures)
    assert {1, 15, 40} <= {*np.bincount(groups).tolist()}


def test_a_camera_that_does_not_move_takes_little_memory(monkeypatch):
    """1,200 frames are near-duplicates in 720,000 pairs, which were all kept before."""
    rng = np.random.default_rng(0)
    frame = np.ones(151) / np.sqrt(151)
    paths = like_each_other(monkeypatch, (frame + rng.normal(size=(1200, 151)) * 0.004).astype(np.float32))
    tracemalloc.start()
    groups_of_near_duplicates(paths)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 50e6
