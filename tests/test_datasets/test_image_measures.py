"""What images look like, of pictures whose numbers are known."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from hybridcls.datasets.image_measures import measure_image, measure_images


def of_pixels(pixels):
    return measure_image(Image.fromarray(np.asarray(pixels, dtype=np.uint8)))


def test_halves_of_black_and_white():
    pixels = np.zeros((8, 16), dtype=np.uint8)
    pixels[:, 8:] = 255
    found = of_pixels(pixels)
    assert (found.brightness, found.contrast, found.saturation, found.grey) == (0.5, 0.5, 0.0, 'yes')
    assert (found.shorter_side, found.aspect_ratio) == (8, 2)
    assert found.sharpness == pytest.approx(math.sqrt(2 / 16))  # two columns of 16 have +-1
    assert math.isnan(found.jpeg_quality)
    assert found.camera == ''


def test_saturated_and_blurred():
    red = of_pixels(np.tile(np.array([255, 0, 0], dtype=np.uint8), (8, 8, 1)))
    assert (red.saturation, red.grey, red.sharpness) == (1.0, 'no', 0.0)


@pytest.mark.parametrize('quality', [30, 75, 95])
def test_jpeg_quality_and_camera(quality, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0110], exif[0x0112] = 'Box 3', 6  # turned by 90 degrees
    image.save(tmp_path / 'a.jpg', quality=quality, exif=exif)
    found = measure_image(str(tmp_path / 'a.jpg'))
    assert (found.jpeg_quality, found.camera, found.format) == (quality, 'Box 3', 'JPEG')
    assert found.aspect_ratio == pytest.approx(40 / 60)


def test_other_sources_and_what_cannot_be_read(tmp_path):
    deep = Image.fromarray(np.full((4, 4), 32768, dtype=np.uint16))
    clear = Image.new('RGBA', (4, 4), (0, 0, 0, 0))
    content = io.BytesIO()
    clear.save(content, 'PNG')
    (tmp_path / 'bad.jpg').write_bytes(b'no image')
    found = measure_images([deep, content.getvalue(), str(tmp_path / 'bad.jpg'), str(tmp_path / 'missing.jpg')])
    assert found[0].brightness == pytest.approx(0.5, abs=0.01)
    assert found[1].brightness == 1.0  # transparent is white
    assert found[2:] == [None, None]
