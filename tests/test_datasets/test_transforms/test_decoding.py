"""Files to 8 bits a channel, beside Pillow's and OpenCV's own arithmetic."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from hybridcls.datasets.transforms.decoding import ImageDepthError, decode, from_pillow, to_eight_bits

COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)  # RGB


def content(image, kind='PNG', **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(data, color_type='color', transparency='white', depth='check'):
    return decode(data, color_type, 'cv2', transparency, depth)


@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'TIFF', 'PPM'])
def test_eight_opaque_bits_are_read_blue_first(kind):
    found = read(content(Image.fromarray(COLOURS), kind))
    assert np.array_equal(found.image, COLOURS[..., ::-1])
    assert found[1:] == (False, False, False)


@pytest.mark.parametrize(('orientation', 'turned'), [(1, lambda a: a), (6, lambda a: np.rot90(a, -1)), (2, np.fliplr)])
@pytest.mark.parametrize('kind', ['PNG', 'TIFF'])
def test_an_image_is_turned_as_it_says(orientation, turned, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = content(Image.fromarray(COLOURS), kind, exif=exif)
    assert np.array_equal(read(data).image, turned(COLOURS)[..., ::-1])
    if kind == 'PNG':  # OpenCV turns TIFF whatever it is told
        assert np.array_equal(read(data, 'color_ignore_orientation').image, COLOURS[..., ::-1])


@pytest.mark.parametrize(
    ('transparency', 'background'), [('white', (255, 255, 255)), ('black', (0, 0, 0)), ((10, 20, 30), (10, 20, 30))]
)
def test_a_background_shows_through(transparency, background):
    alpha = np.linspace(0, 255, 35).reshape(5, 7).round().astype(np.uint8)
    found = read(content(Image.fromarray(np.dstack([COLOURS, alpha]))), transparency=transparency)
    share = alpha[..., None] / 255
    expected = COLOURS[..., ::-1] * share + np.array(background) * (1 - share)
    assert np.abs(found.image - expected).max() <= 1
    assert found.blended
    assert not found.emptied


def test_transparency_that_is_dropped_or_not_there():
    alpha = np.full((5, 7), 128, np.uint8)
    assert np.array_equal(read(content(Image.fromarray(np.dstack([COLOURS, alpha]))), transparency='drop').image,
                          COLOURS[..., ::-1])  # fmt: skip
    opaque = read(content(Image.fromarray(np.dstack([COLOURS, np.full((5, 7), 255, np.uint8)]))))
    assert np.array_equal(opaque.image, COLOURS[..., ::-1])
    assert not opaque.blended


def test_a_white_drawing_on_nothing_is_emptied_by_white():
    drawing = np.full((5, 7, 4), 255, np.uint8)
    drawing[0, :, 3] = 0
    assert read(content(Image.fromarray(drawing)), transparency='white').emptied
    assert not read(content(Image.fromarray(drawing)), transparency='black').emptied


@pytest.mark.parametrize('extension', ['.png', '.tiff'])
@pytest.mark.parametrize(('depth', 'full'), [('check', 65535), (16, 65535), ('max', None)])
def test_sixteen_bits_are_scaled_and_rounded(extension, depth, full):
    deep = np.random.default_rng(1).integers(0, 60000, (5, 7, 3)).astype(np.uint16)
    deep[0, 0, 0] = 59999
    found = read(cv2.imencode(extension, deep)[1].tobytes(), depth=depth)
    assert np.array_equal(found.image, np.rint(deep / ((full or 59999) / 255)))
    assert found.reduced


@pytest.mark.parametrize(
    ('largest', 'depth', 'message'),
    [(4095, 'check', 'depth=12 for values of'), (4096, 12, 'expected values below 4096 for depth=12, got 4096')],
)
def test_a_depth_that_is_not_clear_is_an_error(largest, depth, message):
    with pytest.raises(ImageDepthError, match=message):
        to_eight_bits(np.array([[0, largest]], np.uint16), depth)


def test_black_images_are_black():
    assert to_eight_bits(np.zeros((2, 2), np.uint16), 'check').tolist() == [[0, 0], [0, 0]]
    assert to_eight_bits(np.zeros((2, 2), np.uint16), 'max').tolist() == [[0, 0], [0, 0]]


def test_grey_is_pillows():
    found = read(content(Image.fromarray(COLOURS), 'PPM'), 'grayscale')
    assert np.array_equal(found.image, np.asarray(Image.fromarray(COLOURS).convert('L')))


def test_floats_have_no_range():
    with pytest.raises(ImageDepthError, match='mode F of Pillow'):
        from_pillow(Image.new('F', (2, 2)), 'color', 'white', 'check')
