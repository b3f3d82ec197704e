import io
import pickle

import cv2
import numpy as np
import pytest
from PIL import Image

from hybridcls.datasets.transforms import LoadImage, UnreadableImageError
from hybridcls.registry import TRANSFORMS


def picture(size=64):
    few = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(few, (size, size), interpolation=cv2.INTER_CUBIC)  # RGB for Pillow below


def encoded(mode, kind, size=64, **options):
    buffer = io.BytesIO()
    Image.fromarray(picture(size)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ('mode', 'kind'),
    [
        ('RGB', 'PNG'),
        ('RGB', 'JPEG'),
        ('RGB', 'BMP'),
        ('RGB', 'WEBP'),
        ('RGB', 'TIFF'),
        ('RGB', 'PPM'),
        ('L', 'PNG'),
        ('L', 'JPEG'),
        ('RGBA', 'PNG'),
        ('LA', 'PNG'),
        ('P', 'PNG'),
        ('1', 'PNG'),
        ('CMYK', 'JPEG'),
    ],
)
def test_every_kind_becomes_three_channels_as_pillow_sees_them(tmp_path, mode, kind):
    path = tmp_path / f'image.{kind.lower()}'
    path.write_bytes(encoded(mode, kind))
    results = LoadImage()(dict(img_path=str(path)))
    with Image.open(path) as image:
        expected = np.array(image.convert('RGB'))[..., ::-1]
    assert results['img'].dtype == np.uint8
    assert results['img_shape'] == results['ori_shape'] == (64, 64)
    assert np.abs(results['img'].astype(int) - expected).max() <= 2  # JPEG decoders differ by rounding


def test_sixteen_bits_become_eight(tmp_path):
    gray = picture()[..., 0]
    cv2.imwrite(str(tmp_path / 'deep.png'), gray.astype(np.uint16) * 257)
    image = LoadImage()(dict(img_path=str(tmp_path / 'deep.png')))['img']
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.repeat(gray[..., None], 3, -1))


@pytest.mark.parametrize(
    ('name', 'content', 'says'),
    [
        ('empty.jpg', b'', 'the file is empty'),
        ('text.png', b'no image at all, only words', 'no known kind of image'),
        ('cut.jpg', encoded('RGB', 'JPEG', 640)[:-2000], 'the image is broken'),
        ('cut_progressive.jpg', encoded('RGB', 'JPEG', 640, progressive=True)[:-2000], 'the image is broken'),
        ('cut.png', encoded('RGB', 'PNG', 640)[:-2000], 'the image is broken'),
        ('cut.bmp', encoded('RGB', 'BMP')[:-2000], 'the image is broken'),
        ('header.png', encoded('RGB', 'PNG')[:20], 'broken|no known kind'),
        ('float.tif', cv2.imencode('.tiff', np.ones((8, 8), np.float32))[1].tobytes(), 'TIFF image of mode F'),
    ],
)
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_a_file_that_is_no_image_is_named_with_the_reason(tmp_path, name, content, says, backend):
    if (name, backend) == ('float.tif', 'pillow'):
        pytest.skip('Pillow reads it')
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=says) as caught:
        LoadImage(imdecode_backend=backend)(dict(img_path=str(path)))
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(UnreadableImageError, match=r'nothing\.png: No such file or directory'):
        LoadImage()(dict(img_path=str(tmp_path / 'nothing.png')))
    with pytest.raises(UnreadableImageError, match='Is a directory'):
        LoadImage()(dict(img_path=str(tmp_path)))


def test_the_error_survives_the_way_out_of_a_worker():
    # torch rebuilds an exception of a worker from its text alone.
    error = UnreadableImageError('LoadImage: cannot read x.png: empty.')
    assert str(type(error)(str(error))) == str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_an_image_in_memory_is_left_alone():
    image = picture()
    assert TRANSFORMS.build(dict(type='hybridcls.LoadImage'))(dict(img=image))['img'] is image


def test_gray_can_be_asked_for(tmp_path):
    (tmp_path / 'a.png').write_bytes(encoded('RGB', 'PNG'))
    assert LoadImage(color_type='grayscale')(dict(img_path=str(tmp_path / 'a.png')))['img'].shape == (64, 64)
