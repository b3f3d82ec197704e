"""Each row of the table "Odds and ends" of docs/data.md, as it stands there: a row without a test fails."""

import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from made_images import class_folders, picture, save
from mmengine.config import Config
from PIL import Image

from hybridcls.datasets import ImageFolder
from hybridcls.datasets.transforms import ImageDepthError, LoadImage, UnreadableImageError
from hybridcls.engine.config import ConfigError, apply, table_of
from hybridcls.engine.config.data_splits import data_splits

PAGE = (Path(__file__).parents[2] / 'docs' / 'data.md').read_text(encoding='utf8')
TABLE = PAGE.split('## Odds and ends')[1].split('\n## ')[0]
ROWS = [line.split('|')[1].strip() for line in re.findall(r'^\| .*', TABLE, re.MULTILINE)][1:]
CASES = {}
LOAD = [dict(type='hybridcls.LoadImage')]


def row(name):
    """Register the test of a row."""

    def register(test):
        assert name not in CASES
        CASES[name] = test
        return test

    return register


@pytest.mark.parametrize('name', ROWS)
def test_row(name, tmp_path):
    assert name in CASES, f'docs/data.md says what happens to {name!r}: add a test of it here.'
    class_folders(tmp_path / 'photos', ant=6, bee=6)
    CASES[name](tmp_path / 'photos')


def test_each_test_has_its_row():
    assert set(CASES) == set(ROWS)


def names_in(folder, **settings):
    """The images that are found, by the paths below the folder, with the names of their classes."""
    dataset = ImageFolder(data_root=str(folder), pipeline=LOAD, **settings)
    infos = [dataset.get_data_info(number) for number in range(len(dataset))]
    return {os.path.relpath(info['img_path'], folder): dataset.CLASSES[info['gt_label']] for info in infos}


def left_out(folder):
    """What the log counts."""
    return ImageFolder(data_root=str(folder)).describe().partition('Left out: ')[2].partition('. Formats, from')[0]


def divided(folder, **settings):
    """The split of each image and what the log says, where a training divides them."""
    loaders = {
        f'{split}_dataloader': dict(dataset=dict(type='ImageFolder', data_root=str(folder), split=split))
        for split in ('train', 'val')
    }
    cfg = Config(dict(loaders, **settings))
    apply(cfg, data_splits, str(Path(folder).parent / 'w'))
    found = {}
    for split in ('train', 'val'):
        dataset = ImageFolder(
            **{key: value for key, value in cfg[f'{split}_dataloader'].dataset.items() if key != 'type'}
        )
        for number in range(len(dataset)):
            info = dataset.get_data_info(number)
            found[os.path.relpath(info['img_path'], folder)] = (split, dataset.CLASSES[info['gt_label']])
    return found, table_of(cfg)


def read(path):
    """The pixels that a training gets, BGR."""
    return LoadImage().read(str(path))


@row('folders in class folders')
def _(root):
    save(picture(77), root, 'ant', 'red', 'wood', '1.png')
    assert names_in(root)['ant/red/wood/1.png'] == 'ant'
    assert divided(root)[0]['ant/red/wood/1.png'][1] == 'ant'


@row('images beside the class folders')
def _(root):
    save(picture(77), root, '1.png')
    assert '1.png' not in names_in(root)
    assert left_out(root) == 'images beside the class folders (1)'


@row('an empty class folder')
def _(root):
    (root / 'cow').mkdir()
    with pytest.raises(ValueError, match=r'no image for 1 of 3 classes .* \(cow\)'):
        names_in(root)
    assert len(names_in(root, empty_classes='warn')) == 12


@row('a class of one image')
def _(root):
    save(picture(77), root, 'cow', '1.png')
    found, log = divided(root)
    assert found['cow/1.png'] == ('train', 'cow')
    assert '1 of 3 classes has too few images for one in the validation: cow.' in log


@row('links to images and folders')
def _(root):
    save(picture(77), root.parent, 'elsewhere', '1.png')
    (root / 'ant' / 'link.png').symlink_to(root.parent / 'elsewhere' / '1.png')
    (root / 'cow').symlink_to(root.parent / 'elsewhere')
    found = names_in(root)
    assert (found['ant/link.png'], found['cow/1.png']) == ('ant', 'cow')


@row('broken links, links in a circle')
def _(root):
    (root / 'ant' / 'broken.png').symlink_to(root / 'nowhere.png')
    (root / 'ant' / 'circle').symlink_to(root / 'ant')
    (root / 'ant' / 'a').mkdir()
    (root / 'bee' / 'b').mkdir()
    (root / 'ant' / 'a' / 'to_b').symlink_to(root / 'bee' / 'b')
    (root / 'bee' / 'b' / 'to_a').symlink_to(root / 'ant' / 'a')
    assert len(names_in(root)) == 12
    assert left_out(root) == 'links to a folder around them (3), broken links (1)'


@row('hidden files, `.DS_Store`, `__MACOSX`')
def _(root):
    save(picture(77), root, 'ant', '.hidden.png')
    save(picture(77), root, '__MACOSX', 'ant', '1.png')
    save(picture(77), root, '.trash', '1.png')
    (root / 'ant' / '.DS_Store').write_bytes(b'\0')
    assert len(names_in(root)) == 12
    assert left_out(root) == 'hidden (4)'


@row('`Thumbs.db`, texts, sounds, SVG')
def _(root):
    for name in ('Thumbs.db', 'ant.txt', 'ant.ogg', 'ant.svg', 'bee.svg', 'README'):
        (root / 'ant' / name).write_bytes(b'x')
    assert len(names_in(root)) == 12
    assert set(left_out(root).split(', ')) == {'.db (1)', '.txt (1)', '.ogg (1)', '.svg (2)', 'without extension (1)'}


@row('`.JPG`, `.Png`')
def _(root):
    save(picture(77), root, 'ant', '1.JPG')
    save(picture(78), root, 'ant', '2.Png')
    assert {'ant/1.JPG', 'ant/2.Png'} <= set(names_in(root))


@row('PNG called `.jpg`')
def _(root):
    picture(77).save(root / 'ant' / '77.jpg', 'PNG')
    np.testing.assert_array_equal(read(root / 'ant' / '77.jpg'), np.asarray(picture(77))[..., ::-1])


def is_unreadable(root, path, reason):
    with pytest.raises(UnreadableImageError, match=f'cannot read .*{path.name}: .*{reason}'):
        read(path)
    training = ImageFolder(data_root=str(root), pipeline=LOAD, on_unreadable='skip')
    assert len([training[number] for number in range(len(training))]) == 13
    assert len(ImageFolder(data_root=str(root), pipeline=LOAD, on_unreadable='skip', test_mode=True)) == 12
    assert divided(root)[0][str(path.relative_to(root))][1] == 'ant'  # the training names it


@row('a text called `.jpg`')
def _(root):
    (root / 'ant' / 'text.jpg').write_text('a text')
    is_unreadable(root, root / 'ant' / 'text.jpg', 'its 6 bytes are not a known image format')


@row('an empty file, a truncated image')
def _(root):
    path = root / 'ant' / 'broken.png'
    path.write_bytes(b'')
    is_unreadable(root, path, 'the file is empty')
    for extension in ('jpg', 'png', 'webp', 'gif', 'bmp'):
        path = save(picture(77, (200, 200)), root.parent, f'whole.{extension}')
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UnreadableImageError, match='broken'):
            read(path)


@row('only files that are no images')
def _(root):
    for path in root.rglob('*.png'):
        path.write_bytes(b'a text')
    with pytest.raises(UnreadableImageError, match='none of 12 files with the extension of an image is one'):
        divided(root)


@row('only one class')
def _(root):
    for path in (root / 'bee').iterdir():
        path.unlink()
    (root / 'bee').rmdir()
    with pytest.raises(ConfigError, match=r"got one, 'ant'\. Give each class its own"):
        divided(root)
    assert set(names_in(root).values()) == {'ant'}


@row('letters of two characters (names from macOS)')
def _(root):
    save(picture(77), root, 'Ku\u0308ken', '1.png')
    save(picture(78), root, 'K\u00fcken', '2.png')
    assert {name for name in names_in(root).values() if name not in ('ant', 'bee')} == {'K\u00fcken'}
    found = divided(root)[0]
    assert found['Ku\u0308ken/1.png'][1] == found['K\u00fcken/2.png'][1] == 'K\u00fcken'
    (root / 'list.csv').write_text('path,label\nKu\u0308ken/2.png,Ku\u0308ken\nK\u00fcken/1.png,K\u00fcken\n')
    dataset = ImageFolder(data_root=str(root / 'list.csv'), pipeline=LOAD)
    assert [dataset[number]['img'].shape for number in range(2)] == [(40, 48, 3)] * 2
    assert dataset.CLASSES == ('K\u00fcken',)


@row('class names with spaces, dots, commas, quotes, a bar, or that are numbers')
def _(root):
    names = ['a b', ' c ', 'd.e', 'f,g', 'h|i', '"j"', "k's", '007', '12', '3', 'l;m']
    for position, name in enumerate(names):
        for number in range(5):
            save(picture(10_000 + 10 * position + number), root, name, f'{number}.png')
    found = divided(root)[0]
    assert {path: label for path, (_, label) in found.items()} == names_in(root)
    assert {label for split, label in found.values() if split == 'val'} == {*names, 'ant', 'bee'}


@row('a line break in a file name')
def _(root):
    names = ['new\nline.png', 'two\n\nlines.png', 'carriage\rreturn.png']
    for number, name in enumerate(names):
        save(picture(12_000 + number), root, 'ant', name)
    found = divided(root)[0]
    assert {f'ant/{name}' for name in names} <= found.keys()
    assert {path: label for path, (_, label) in found.items()} == names_in(root)


@row('a file name that is not UTF-8')
def _(root):
    save(picture(77), root, 'ant', 'x.png').rename(os.fsdecode(os.fsencode(root) + b'/ant/\xff.png'))
    assert len(names_in(root)) == 13
    assert {path: label for path, (_, label) in divided(root)[0].items()} == names_in(root)


@row('EXIF orientation')
def _(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    for extension in ('jpg', 'png', 'webp', 'tif'):
        picture(77, (30, 20)).save(root / f'turned.{extension}', exif=exif)
        assert read(root / f'turned.{extension}').shape == (30, 20, 3)


@row('CMYK, grey, palette, 1 bit')
def _(root):
    red = Image.new('RGB', (8, 8), 'red')
    for mode, name in (('CMYK', 'a.jpg'), ('CMYK', 'a.tif'), ('P', 'a.png'), ('P', 'a.gif')):
        np.testing.assert_allclose(read(save(red.convert(mode), root, name))[4, 4], [0, 0, 255], atol=3)
    for mode in ('L', '1'):
        assert read(save(Image.new(mode, (8, 8), 255), root, 'b.png'))[4, 4].tolist() == [255] * 3


@row('16 bits a channel')
def _(root):
    deep = Image.fromarray(np.full((8, 8), 257 * 100, np.uint16))
    assert read(save(deep, root, 'deep.png'))[4, 4].tolist() == [100] * 3
    with pytest.raises(ImageDepthError, match='depth=12'):
        read(save(Image.fromarray(np.full((8, 8), 4000, np.uint16)), root, 'deep.png'))


@row('transparency')
def _(root):
    glass = Image.new('RGBA', (8, 8), (0, 0, 0, 0))
    assert read(save(glass, root, 'glass.png'))[4, 4].tolist() == [255] * 3


@row('animated GIF, WebP, PNG; pages of TIFF')
def _(root):
    images = [Image.new('RGB', (8, 8), color) for color in ('red', 'green', 'blue')]
    for extension in ('gif', 'webp', 'png', 'tif'):
        path = root / f'animated.{extension}'
        images[0].save(
            path, save_all=True, append_images=images[1:], **({'lossless': True} if 'w' in extension else {})
        )
        assert read(path)[4, 4].tolist() == [0, 0, 255]


@row('more than 178 million pixels')
def _(root):
    header = b'IHDR' + struct.pack('>IIBBBBB', 18_000, 10_000, 8, 0, 0, 0, 0)
    path = root / 'ant' / 'huge.png'
    chunks = [header, b'IDAT\0']
    chunks = [struct.pack('>I', len(one) - 4) + one + struct.pack('>I', zlib.crc32(one)) for one in chunks]
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(chunks))
    with pytest.raises(UnreadableImageError, match=r'180000000 pixels\) exceeds limit'):
        read(path)
    assert divided(root)[0]['ant/huge.png'][1] == 'ant'
    Image.MAX_IMAGE_PIXELS, limit = 100, Image.MAX_IMAGE_PIXELS  # one as large would take seconds
    try:
        assert read(save(picture(77), root, 'large.jpg')).shape == (40, 48, 3)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@row('near-duplicates, mirrored too')
def _(root):
    for number in range(4):
        save(picture(number).transpose(Image.Transpose.FLIP_LEFT_RIGHT), root, 'ant', 'turned', f'{number}.jpg')
    found, _ = divided(root)
    assert all(found[f'ant/{number}.png'][0] == found[f'ant/turned/{number}.jpg'][0] for number in range(4))
    own = root.parent / 'own'
    class_folders(own / 'train', ant=6, bee=6)
    class_folders(own / 'val', ant=2, bee=1)
    assert '6 images nearly equal to an image of another split' in divided(own)[1]


@row('one image in two classes')
def _(root):
    save(picture(0), root, 'bee', 'also an ant.png')
    found, log = divided(root)
    assert found['bee/also an ant.png'][0] == found['ant/0.png'][0]
    assert '2 images nearly equal to one with another label: ant/0.png, bee/also an ant.png.' in log


@row('a listed image that is not there')
def _(root):
    (root / 'list.csv').write_text('path,label\nant/0.png,ant\nbee/99.png,bee\n')
    with pytest.raises(
        FileNotFoundError, match=rf'1 of 2 images is not there: .*bee/99\.png\. Write paths below {root}'
    ):
        divided(root / 'list.csv')
