"""Image formats: readable extensions and headers, against files that Pillow and OpenCV write."""

import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image, features

from hybridcls.datasets import image_formats
from hybridcls.datasets.image_formats import image_header, missing_decoder, readable_extensions
from hybridcls.datasets.transforms import LoadImage


@pytest.mark.parametrize('extension', readable_extensions())
def test_readable_extensions_are_read(tmp_path, extension):
    """Whatever Pillow or OpenCV can write of it is read again; a flat colour survives every codec."""
    path = tmp_path / f'image{extension}'
    kind = Image.registered_extensions().get(extension)
    if kind in Image.SAVE:
        Image.new('1' if extension == '.pbm' else 'RGB', (64, 48), 'white').save(path, kind)
    elif not cv2.imwrite(str(path), np.full((48, 64, 3), 255, np.uint8)):
        pytest.skip(f'nothing here writes {extension}')
    image = LoadImage()(dict(img_path=str(path)))['img']
    assert image.shape == (48, 64, 3)
    assert image.min() >= 250


def test_common_formats_are_readable():
    assert {'.jpg', '.jpeg', '.jfif', '.png', '.webp', '.bmp', '.ppm', '.tif', '.tiff', '.gif'} <= {
        *readable_extensions()
    }
    assert '.psd' not in readable_extensions()
    assert '.pfm' not in readable_extensions(), 'floats'


@pytest.fixture
def fresh():
    """Ask the decoders again, before and after."""
    for cached in (readable_extensions, image_formats.register_decoders):
        cached.cache_clear()
    yield
    for cached in (readable_extensions, image_formats.register_decoders):
        cached.cache_clear()


def test_codecs_decide_what_is_readable(monkeypatch, fresh):
    monkeypatch.setattr(features, 'check', lambda name: name != 'avif')
    monkeypatch.setattr(cv2, 'haveImageWriter', lambda name: name == 'x.jp2')
    assert '.avif' not in readable_extensions()
    assert '.jp2' in readable_extensions()
    assert missing_decoder('.avif') == 'a Pillow built with AVIF'
    assert missing_decoder('.jp2') is None
    assert missing_decoder('.txt') is None


def test_installed_pillow_plugin_is_used(tmp_path, monkeypatch, fresh):
    """A fake of pillow-heif, which registers on a call."""
    (tmp_path / 'pillow_heif.py').write_text(
        'from PIL import Image, ImageFile\n'
        'class Fake(ImageFile.ImageFile):\n'
        "    format = 'HEIF'\n"
        'def register_heif_opener():\n'
        "    Image.register_open('HEIF', Fake)\n"
    )
    if 'pillow_heif' in sys.modules or '.heic' in readable_extensions():
        pytest.skip('the real one is installed')
    assert missing_decoder('.heic') == 'pip install pillow-heif'
    image_formats.register_decoders.cache_clear()
    readable_extensions.cache_clear()
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert '.heic' in readable_extensions()
        assert missing_decoder('.heic') is None
    finally:
        sys.modules.pop('pillow_heif', None)
        Image.OPEN.pop('HEIF', None)
        Image.ID.remove('HEIF')


def encoded(mode, kind, **options):
    buffer = io.BytesIO()
    Image.new(mode, (3, 2)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (encoded('RGB', 'JPEG'), 'RGB'),
        (encoded('CMYK', 'JPEG'), 'CMYK'),
        (encoded('L', 'PNG'), 'grey'),
        (encoded('1', 'PNG'), '1-bit'),
        (encoded('LA', 'PNG'), 'grey with transparency'),
        (encoded('L', 'PNG', transparency=0), 'grey with transparency'),
        (encoded('P', 'PNG', transparency=0), 'palette with transparency'),
        (encoded('RGBA', 'WEBP'), 'RGB with transparency'),
        (cv2.imencode('.png', np.zeros((2, 3), np.uint16))[1].tobytes(), '16-bit grey'),
        (cv2.imencode('.png', np.zeros((2, 3, 3), np.uint16))[1].tobytes(), '16-bit RGB'),
        (cv2.imencode('.png', np.zeros((2, 3, 4), np.uint16))[1].tobytes(), '16-bit RGB with transparency'),
        (cv2.imencode('.tiff', np.zeros((2, 3), np.uint16))[1].tobytes(), '16-bit grey'),
        (cv2.imencode('.tiff', np.zeros((2, 3, 3), np.uint16))[1].tobytes(), '16-bit RGB'),
        (encoded('F', 'TIFF'), '32-bit grey'),
        (b'P5\n3 2\n4095\n' + bytes(12), '16-bit grey'),
    ],
)
def test_header_describes_the_image(content, message):
    assert str(image_header(Image.open(io.BytesIO(content)), content[:25])) == message
