"""What names or holds images becomes items in order; what does not is a sentence."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from hybridcls.apis.image_inputs import is_one_image, read_inputs


@pytest.fixture
def folder(tmp_path):
    for name in ('b.png', 'sub/a.png', 'sub/deep/c.PNG', 'notes.txt', '.hidden/x.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    return tmp_path


def paths(inputs, folder):
    return [item.path.removeprefix(f'{folder}/') for item in read_inputs(inputs).items]


def test_a_folder_is_all_images_below_it_with_the_first_folder_as_label(folder):
    found = read_inputs(folder)
    items = list(found.items)
    assert found.total == 3
    assert paths(folder, folder) == ['b.png', 'sub/a.png', 'sub/deep/c.PNG']
    assert [item.label for item in items] == [None, 'sub', 'sub']
    assert items[0].as_sample() == dict(img_path=f'{folder}/b.png')


def test_images_of_a_class_are_in_the_order_of_a_test(tmp_path):
    for name in ('a b/1.png', 'a/2.png'):  # as text 'a b/' comes before 'a/'
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert paths(tmp_path, tmp_path) == ['a/2.png', 'a b/1.png']


def test_patterns_lists_and_tables(folder):
    assert paths(f'{folder}/*.*', folder) == ['b.png']
    assert paths(f'{folder}/**/*.png', folder) == ['b.png', 'sub/a.png']
    assert paths([folder / 'b.png', f'{folder}/sub'], folder) == ['b.png', 'sub/a.png', 'sub/deep/c.PNG']
    table = folder / 'list.tsv'
    table.write_text('id\tpath\tlabel\n1\tsub/a.png\tcat\n2\tb.png\tdog\n')
    items = list(read_inputs(table).items)
    assert [(item.path, item.source, item.label) for item in items] == [
        ('sub/a.png', f'{folder}/sub/a.png', 'cat'),
        ('b.png', f'{folder}/b.png', 'dog'),
    ]
    table.write_text('path\nb.png\n')
    assert [item.label for item in read_inputs(table).items] == [None]
    (folder / 'b.png').rename(os.fsdecode(os.fsencode(folder) + b'/\xfc.png'))
    table.write_bytes(b'path\n\xfc.png\n')  # as a table of answers names it
    assert [item.path for item in read_inputs(table).items] == ['\udcfc.png']


def test_no_image_is_a_sentence(folder):
    for inputs, sentence in (
        (folder / 'c.png', "the image '.*c.png' does not exist. Did you mean"),
        (folder / 'none.csv', 'the table .* does not exist'),
        (f'{folder}/*.txt', 'got 1 file without the extension of an image'),
        (f'{folder}/*.xyz', 'got no file'),
        ([], 'got an empty list'),
    ):
        with pytest.raises(FileNotFoundError, match=f'^predict: .*{sentence}'):
            read_inputs(inputs)
        with pytest.raises(FileNotFoundError, match=f'^embed: .*{sentence}'):
            read_inputs(inputs, 'embed')
    for number in range(3):
        (folder / 'texts').mkdir(exist_ok=True)
        (folder / 'texts' / f'{number}.txt').touch()
    with pytest.raises(FileNotFoundError, match=r"expected images below '.*texts', got none; .* \.txt \(3\)"):
        read_inputs(folder / 'texts')


def test_a_batch_in_memory_is_its_images():
    assert read_inputs(np.zeros((3, 8, 8, 3), np.uint8)).total == 3
    assert read_inputs(torch.zeros(2, 3, 8, 8)).total == 2


def test_one_image_is_told_from_several(folder):
    assert is_one_image(folder / 'b.png')
    assert is_one_image(np.zeros((8, 8, 3), np.uint8))
    assert is_one_image(b'bytes')
    assert not is_one_image(folder)
    assert not is_one_image([folder / 'b.png'])
    assert not is_one_image(torch.zeros(1, 3, 8, 8))


def pixels(image):
    return np.array(next(iter(read_inputs(image).items)).source)


def test_arrays_and_tensors_are_rgb_images():
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert (pixels(array) == array).all()
    assert (pixels(torch.from_numpy(array).permute(2, 0, 1)) == array).all()
    assert (pixels(torch.from_numpy(array).permute(2, 0, 1) / 255) == array).all()
    assert (pixels(array[..., 0]) == array[..., 0]).all()
    assert (pixels(array[..., :1]) == array[..., 0]).all()
    deep = array[..., 0].astype(np.uint16) * 257
    assert (pixels(deep) == deep).all()
    image = Image.new('CMYK', (4, 4))
    assert next(iter(read_inputs(image).items)).source is image


@pytest.mark.parametrize(
    ('image', 'sentence'),
    [
        (np.zeros((8, 8, 3)), r'expected an array of uint8 .* got float64 .* \(image \* 255\)'),
        (np.zeros((3, 8, 8), np.uint8), r'channels last and RGB, got shape \(3, 8, 8\).* image.transpose\(1, 2, 0\)'),
        (torch.zeros(8, 8, 3), r'expected a tensor \(C, H, W\) with 1, 3 or 4 channels'),
        (torch.full((3, 8, 8), -2.0), r'expected a tensor of floats in \[0, 1\], got values from -2 to -2'),
        (7, 'expected a path, a folder, .* got int'),
        ({}, 'got dict'),
    ],
)
def test_what_is_no_image_is_a_sentence(image, sentence):
    with pytest.raises((TypeError, ValueError), match=f'predict: .*{sentence}'):
        list(read_inputs(image).items)
