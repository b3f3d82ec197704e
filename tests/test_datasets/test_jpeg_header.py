"""jpeg_size against Pillow and OpenCV."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from hybridcls.datasets.jpeg_header import jpeg_size


def encoded(mode='RGB', orientation=None, kind='JPEG', **options):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.new(mode, (37, 21)).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


@pytest.mark.parametrize('orientation', [None, 1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize('options', [{}, dict(progressive=True), dict(mode='L'), dict(comment=b'\xff\xc0' * 9)])
def test_the_size_is_that_of_the_decoded_image(orientation, options):
    content = encoded(orientation=orientation, **options)
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert jpeg_size(content) == decoded.shape[:2]
    assert jpeg_size(content, oriented=False) == (21, 37)


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'\xff\xd8',
        encoded()[:30],
        encoded(kind='PNG'),
        encoded('CMYK'),
        b'\xff\xd8' + b'\xff\xe1\x00\x10Exif\0\0MM\0*\xff\xff\xff\xff',
        b'\xff\xd8\xff\xe0\x00\x02nothing',
    ],
)
def test_anything_else_has_no_size(content):
    assert jpeg_size(content) is None
