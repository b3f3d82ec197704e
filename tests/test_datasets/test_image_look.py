"""One look at a file: can it be read, what is it, and is it the same as another."""

import io

import numpy as np
import pytest
from made_images import picture, save
from PIL import Image

from hybridcls.datasets.image_look import look_at


def test_what_a_look_finds(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1, (60, 40)).save(tmp_path / 'a.jpg', exif=exif)
    look = look_at(str(tmp_path / 'a.jpg'))
    assert (look.problem, look.size, look.is_rotated, str(look.header)) == ('', (60, 40), True, 'RGB')
    assert look.signature.shape == (151,)
    assert not look.is_flat
    assert np.linalg.norm(look.signature[:143]) == pytest.approx(1, abs=1e-4)


def test_problems(tmp_path):
    file = save(picture(2), tmp_path, 'a.png')
    content = file.read_bytes()
    assert look_at(str(file)).problem == ''
    for broken in (content[:-8], content[: len(content) // 2], b'', b'text'):
        file.write_bytes(broken)  # another size: not the look of before
        assert look_at(str(file)).problem
    assert look_at(str(tmp_path / 'none.png')).problem
    file.write_bytes(content + b'behind the end')
    assert look_at(str(file)).problem == ''


def test_a_blank_image_is_flat(tmp_path):
    look = look_at(str(save(Image.new('L', (30, 30), 7), tmp_path, 'blank.png')))
    assert look.is_flat
    assert look.signature is None
    assert look.digest


def test_one_digest_for_one_content(tmp_path):
    content = io.BytesIO()
    picture(3).save(content, 'PNG')
    for name in ('a.png', 'b.png'):
        (tmp_path / name).write_bytes(content.getvalue())
    assert look_at(str(tmp_path / 'a.png')).digest == look_at(str(tmp_path / 'b.png')).digest


def test_frames_and_colours(tmp_path):
    first, second = picture(1), picture(2)
    first.save(tmp_path / 'a.gif', save_all=True, append_images=[second])
    first.save(tmp_path / 'a.png')
    first.convert('L').save(tmp_path / 'grey.png')
    first.convert('L').convert('RGB').save(tmp_path / 'grey.jpg')
    looks = {name: look_at(str(tmp_path / name)) for name in ('a.gif', 'a.png', 'grey.png', 'grey.jpg')}
    assert [look.frames for look in looks.values()] == [2, 1, 1, 1]
    assert [look.is_colored for look in looks.values()] == [True, True, False, False]


@pytest.mark.parametrize('factor', [257, 16, 1])  # 16 bits; 12 bits, and 8 bits in 16
def test_an_image_of_16_bits_looks_like_the_one_of_8(tmp_path, factor):
    eight = picture(4).convert('L')
    save(eight, tmp_path, '8.png')
    save(Image.fromarray(np.asarray(eight).astype(np.uint16) * factor), tmp_path, '16.png')
    expected, look = (look_at(str(tmp_path / name)) for name in ('8.png', '16.png'))
    np.testing.assert_allclose(look.signature, expected.signature, atol=0.02)


@pytest.mark.parametrize('level', [0, 3000, 65535])
def test_a_blank_image_of_16_bits_is_flat(tmp_path, level):
    assert look_at(str(save(Image.fromarray(np.full((30, 30), level, np.uint16)), tmp_path, 'blank.png'))).is_flat
