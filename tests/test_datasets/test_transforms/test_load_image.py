"""LoadImage: files of every format and images in memory, against Pillow and values by hand."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose
from PIL import Image
from sklearn.datasets import load_sample_images

from hybridcls.datasets.dataset_parts import connect_loaders
from hybridcls.datasets.transforms import ImageDepthError, LoadImage, UnreadableImageError
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
        ('RGB', 'GIF'),
        ('RGB', 'JPEG2000'),
        ('RGBA', 'PNG'),
        ('RGBA', 'TIFF'),
        ('LA', 'PNG'),
        ('P', 'PNG'),
        ('1', 'PNG'),
        ('1', 'PPM'),
        ('CMYK', 'JPEG'),
    ],
)
def test_every_format_equals_pillows_rgb(tmp_path, mode, kind):
    path = tmp_path / f'image.{kind.lower()}'
    path.write_bytes(encoded(mode, kind))
    results = LoadImage()(dict(img_path=str(path)))
    with Image.open(path) as image:
        expected = np.array(image.convert('RGB'))[..., ::-1]  # their alpha is 255
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
    ('name', 'content', 'message'),
    [
        ('empty.jpg', b'', 'the file is empty'),
        ('text.png', b'no image at all, only words', 'not a known image format'),
        ('cut.jpg', encoded('RGB', 'JPEG', 640)[:-2000], 'the image is broken'),
        ('cut_progressive.jpg', encoded('RGB', 'JPEG', 640, progressive=True)[:-2000], 'the image is broken'),
        ('cut.png', encoded('RGB', 'PNG', 640)[:-2000], 'the image is broken'),
        ('cut.bmp', encoded('RGB', 'BMP')[:-2000], 'the image is broken'),
        ('header.png', encoded('RGB', 'PNG')[:20], 'broken|not a known image format'),
        ('float.tif', cv2.imencode('.tiff', np.ones((8, 8), np.float32))[1].tobytes(), 'TIFF image of mode F'),
    ],
)
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_invalid_file_is_named_with_the_reason(tmp_path, name, content, message, backend):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=message) as caught:
        LoadImage(imdecode_backend=backend)(dict(img_path=str(path)))
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(UnreadableImageError, match=r'nothing\.png: No such file or directory'):
        LoadImage()(dict(img_path=str(tmp_path / 'nothing.png')))
    with pytest.raises(UnreadableImageError, match='Is a directory'):
        LoadImage()(dict(img_path=str(tmp_path)))


def test_array_in_memory_is_unchanged():
    image = picture()
    assert TRANSFORMS.build(dict(type='hybridcls.LoadImage'))(dict(img=image))['img'] is image


@pytest.fixture
def logged(monkeypatch):
    messages = []
    monkeypatch.setattr(
        'hybridcls.datasets.transforms.load_image.print_log', lambda text, **kwargs: messages.append(text)
    )
    return messages


def drawing(mode='RGBA'):
    """A black line on transparency."""
    image = np.zeros((32, 40, 4), np.uint8)
    image[10:14, 5:30, 3] = 255
    return Image.fromarray(image).convert(mode)


class TestTransparency:
    @pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'TIFF', 'GIF', 'JPEG2000', 'AVIF', 'TGA', 'QOI'])
    def test_black_drawing_on_a_white_background(self, tmp_path, kind, logged):
        path = tmp_path / 'image'
        if kind not in Image.SAVE:
            pytest.skip(f'this Pillow writes no {kind}')
        drawing().save(path, kind, **(dict(lossless=True) if kind == 'WEBP' else {}))
        image = LoadImage()(dict(img_path=str(path)))['img']
        assert image.shape == (32, 40, 3)
        assert image[11:13, 10:25].max() <= 30  # AVIF is lossy
        assert image[20:].min() >= 225
        assert 'is partly transparent' in logged[0]

    @pytest.mark.parametrize(
        'save', [dict(mode='LA'), dict(mode='L', transparency=255), dict(mode='P', transparency=0)]
    )
    def test_every_kind_of_transparency(self, tmp_path, save):
        mode, options = save['mode'], {key: value for key, value in save.items() if key != 'mode'}
        image = drawing('LA') if mode == 'LA' else Image.new(mode, (4, 4), options['transparency'])
        image.save(tmp_path / 'a.png', **options)
        read = LoadImage(transparency=(1, 2, 3)).read(str(tmp_path / 'a.png'))
        assert read[-1, -1].tolist() == [1, 2, 3]

    @pytest.mark.parametrize(
        ('transparency', 'expected'), [('white', 178), ('black', 50), ('drop', 100), ((10, 20, 30), (55, 60, 65))]
    )
    def test_half_transparent_grey(self, tmp_path, transparency, expected):
        """100 at an opacity of 128 / 255 over 255, 0 or the colour; below the transparency it is 100."""
        Image.new('RGBA', (2, 2), (100, 100, 100, 128)).save(tmp_path / 'a.png')
        image = LoadImage(transparency=transparency).read(str(tmp_path / 'a.png'))
        assert np.abs(image[0, 0].astype(int) - expected).max() <= 1
        grey = LoadImage('grayscale', transparency=transparency).read(str(tmp_path / 'a.png'))
        assert abs(int(grey[0, 0]) - int(np.mean(expected))) <= 2

    def test_conversion_is_logged_once(self, tmp_path, logged):
        drawing().save(tmp_path / 'a.png')
        Image.new('RGBA', (2, 2), (1, 2, 3, 255)).save(tmp_path / 'opaque.png')
        load = LoadImage()
        load.read(str(tmp_path / 'opaque.png'))
        assert not logged
        for _ in range(2):
            load.read(str(tmp_path / 'a.png'))
        assert len(logged) == 1
        assert "a.png is partly transparent; its background is transparency='white'" in logged[0]

    def test_drawing_in_the_background_colour_is_logged(self, tmp_path, logged):
        drawing().save(tmp_path / 'a.png')
        LoadImage(transparency='black').read(str(tmp_path / 'a.png'))
        assert 'have one colour with' in logged[1]

    def test_unchanged_keeps_four_channels(self, tmp_path):
        drawing().save(tmp_path / 'a.png')
        assert LoadImage('unchanged').read(str(tmp_path / 'a.png')).shape == (32, 40, 4)


class TestDepth:
    @pytest.mark.parametrize('kind', ['.png', '.tiff'])
    @pytest.mark.parametrize('channels', [1, 3])
    def test_twelve_bit_values_in_16_bit_files(self, tmp_path, kind, channels, logged):
        """A ramp over 12 bits keeps its 256 levels, or is refused."""
        ramp = np.broadcast_to(np.arange(4096, dtype=np.uint16).reshape(64, 64, 1), (64, 64, channels))
        path = str(tmp_path / f'a{kind}')
        cv2.imwrite(path, np.ascontiguousarray(ramp))
        with pytest.raises(
            ImageDepthError,
            match=r'a\.\w+: expected 16-bit values above 16383, got at most 4095, .* 16 of 256 .*depth=12',
        ):
            LoadImage().read(path)
        expected = np.rint(ramp / 4095 * 255)
        for depth in (12, 'max'):
            image = LoadImage(depth=depth).read(path)
            assert image.dtype == np.uint8
            np.testing.assert_array_equal(image[..., :1], expected[..., :1])
        assert len(np.unique(LoadImage(depth=16).read(path))) == 17
        with pytest.raises(ImageDepthError, match=r'expected values below 2048 for depth=11, got 4095'):
            LoadImage(depth=11).read(path)
        assert 'has 16 bits a channel; they are scaled to 8 with depth=12' in logged[0]

    def test_lossless_depths_are_accepted(self, tmp_path):
        for values in (0, 2**14, 65535):
            cv2.imwrite(str(tmp_path / 'a.png'), np.full((4, 4), values, np.uint16))
            assert LoadImage().read(str(tmp_path / 'a.png'))[0, 0, 0] == round(values / 257)

    def test_declared_depth_is_scaled(self, tmp_path):
        """PNM declares its largest value: 4095 and 100 are white here."""
        (tmp_path / 'a.pgm').write_bytes(b'P5\n2 1\n4095\n' + np.array([4095, 2048], '>u2').tobytes())
        assert LoadImage().read(str(tmp_path / 'a.pgm'))[0, :, 0].tolist() == [255, 128]
        (tmp_path / 'b.pgm').write_bytes(b'P5\n2 1\n100\n' + bytes([100, 50]))
        assert LoadImage().read(str(tmp_path / 'b.pgm'))[0, :, 0].tolist() == [255, 128]

    @pytest.mark.parametrize('kind', ['.png', '.tiff'])
    def test_sixteen_bits_with_transparency(self, tmp_path, kind):
        image = np.full((3, 2, 4), 65535, np.uint16)
        image[0] = (0, 257 * 100, 65535, 65535)
        image[1, :, 3] = 0
        cv2.imwrite(str(tmp_path / f'a{kind}'), image)
        read = LoadImage(transparency='black').read(str(tmp_path / f'a{kind}'))
        assert read[:, 0].tolist() == [[0, 100, 255], [0, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize(
    ('mode', 'kind'), [('RGB', 'JPEG'), *[(m, k) for m in ('RGB', 'RGBA') for k in ('PNG', 'WEBP', 'TIFF', 'AVIF')]]
)
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_is_applied(tmp_path, mode, kind, orientation):
    if kind not in Image.SAVE:
        pytest.skip(f'this Pillow writes no {kind}')
    quarter = Image.new(mode, (64, 48), 'white')
    quarter.paste('black', (0, 0, 32, 24))  # the upper left quarter
    exif = Image.Exif()
    exif[0x0112] = orientation
    quarter.save(tmp_path / 'image', kind, exif=exif)
    image = LoadImage('grayscale').read(str(tmp_path / 'image'))
    # EXIF 2.3, tag 274: where the stored first row and column are seen.
    corner = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[orientation]
    assert image.shape == ((48, 64) if orientation < 5 else (64, 48))
    height, width = image.shape
    for row in range(2):
        for column in range(2):
            value = image[height // 4 + row * height // 2, width // 4 + column * width // 2]
            assert (value < 30) == ((row, column) == corner)


def png_with(orientation, image):
    exif = Image.Exif()
    exif[0x0112] = orientation
    tag = exif.tobytes().removeprefix(b'Exif\x00\x00')
    chunk = b'eXIf' + tag
    chunk = len(tag).to_bytes(4, 'big') + chunk + zlib.crc32(chunk).to_bytes(4, 'big')
    content = cv2.imencode('.png', image)[1].tobytes()
    return content[:33] + chunk + content[33:]  # after the header


def tiff_with(orientation, image):
    """Uncompressed, 16 bits, RGB and alpha."""
    height, width, _ = image.shape
    pixels = image[..., [2, 1, 0, 3]].tobytes()
    # Of TIFF 6: width, height, bits (below), compression, RGB, place of the pixels, orientation, samples, rows, bytes.
    tags = {256: width, 257: height, 258: 0, 259: 1, 262: 2, 273: 0, 274: orientation, 277: 4, 278: height}
    tags |= {279: len(pixels), 338: 2}  # the fourth is alpha
    after = 8 + 2 + 12 * len(tags) + 4
    tags |= {258: after, 273: after + 8}
    entries = b''.join(
        struct.pack('<HHII', tag, 4 if tag in (273, 279) else 3, 4 if tag == 258 else 1, value)
        for tag, value in tags.items()
    )
    head = struct.pack('<2sHIH', b'II', 42, 8, len(tags))
    return head + entries + bytes(4) + struct.pack('<4H', 16, 16, 16, 16) + pixels


@pytest.mark.parametrize('encode', [png_with, tiff_with])
@pytest.mark.parametrize('orientation', [1, 6])
def test_exif_orientation_of_16_bits_with_alpha(tmp_path, encode, orientation):
    image = np.full((2, 3, 4), 65535, np.uint16)
    image[0, 0, :3] = 0
    image[1, 0, 3] = 0
    (tmp_path / 'image').write_bytes(encode(orientation, image))
    read = LoadImage(transparency=(7, 7, 7)).read(str(tmp_path / 'image'))[..., 0]
    upright = [[0, 255, 255], [7, 255, 255]]
    assert read.tolist() == (upright if orientation == 1 else [[7, 0], [255, 255], [255, 255]])


class TestMemory:
    """An image in the dataset's memory."""

    def load(self, image, **options):
        return LoadImage(**options)(dict(img=image))

    def test_color_order(self):
        rgb = np.array([[[255, 0, 10]]], np.uint8)
        assert self.load(rgb)['img'] is rgb
        assert self.load(rgb, color_order='rgb')['img'].tolist() == [[[10, 0, 255]]]
        grey = np.zeros((3, 4), np.uint8)
        assert self.load(grey, color_order='rgb')['img'] is grey
        with pytest.raises(
            ValueError, match=r"expected an array \(H, W, 3\) with color_order='rgb', got shape \(2, 2, 4"
        ):
            self.load(np.zeros((2, 2, 4), np.uint8), color_order='rgb')

    def test_pillow_image_in_memory(self, logged):
        results = self.load(Image.fromarray(np.array([[[255, 0, 10]] * 2], np.uint8)))
        assert results['img'].tolist() == [[[10, 0, 255]] * 2]
        assert results['img_shape'] == (1, 2)
        assert self.load(drawing())['img'][0, 0].tolist() == [255, 255, 255]
        assert 'an image in memory is partly transparent' in logged[0]
        assert self.load(Image.new('P', (2, 2)))['img'].shape == (2, 2, 3)
        assert self.load(Image.new('L', (2, 2)), color_type='grayscale')['img'].shape == (2, 2)

    def test_only_an_unmodified_pillow_image_is_rotated(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new('RGB', (6, 4)).save(tmp_path / 'a.jpg', exif=exif)
        with Image.open(tmp_path / 'a.jpg') as image:
            assert self.load(image)['img'].shape == (6, 4, 3)
            assert self.load(image.rotate(-90, expand=True))['img'].shape == (6, 4, 3)

    @pytest.mark.parametrize('make', [np.asarray, Image.fromarray])
    def test_pillow_images_of_16_bits(self, make):
        deep = make(np.array([[0, 2048, 4095]], np.uint16))
        with pytest.raises(ImageDepthError, match='LoadImage: an image in memory: expected 16-bit values'):
            self.load(deep)
        image = self.load(deep, depth=12)['img']
        assert image.dtype == np.uint8
        assert image.reshape(3, -1)[:, 0].tolist() == [0, 128, 255]
        with pytest.raises(ImageDepthError, match='mode F'):
            self.load(Image.new('F', (2, 2)))

    def test_bytes_are_those_of_a_file(self, tmp_path):
        path = tmp_path / 'a.png'
        Image.new('LA', (3, 2), (7, 0)).save(path)
        assert (self.load(path.read_bytes())['img'] == LoadImage()(dict(img_path=str(path)))['img']).all()
        with pytest.raises(UnreadableImageError, match='cannot read an image in memory: its 4 bytes are not'):
            self.load(b'text')

    def test_other_types_are_errors(self):
        with pytest.raises(TypeError, match=r'expected img as an array .* or an image of Pillow, got list'):
            self.load([[1, 2]])


class TestVersion:
    """Version 1 reads as hybridcls did before there were versions."""

    @pytest.mark.parametrize('mode', ['RGBA', 'LA', 'RGB'])
    def test_version_1_drops_transparency_and_depth(self, tmp_path, mode):
        drawing(mode).save(tmp_path / 'a.png')
        assert LoadImage(version=1).read(str(tmp_path / 'a.png')).max() == 0
        cv2.imwrite(str(tmp_path / 'b.png'), np.full((2, 2), 4095, np.uint16))
        assert LoadImage(version=1).read(str(tmp_path / 'b.png')).max() == 15

    def test_version_1_reads_new_formats_as_version_2(self, tmp_path):
        drawing().save(tmp_path / 'a.tga')
        assert LoadImage(version=1).read(str(tmp_path / 'a.tga')).max() == 255


@pytest.mark.parametrize(
    'wrong',
    [
        dict(transparency='grey'),
        dict(transparency=(1, 2)),
        dict(transparency=(1, 2, 256)),
        dict(depth='auto'),
        dict(depth=8),
        dict(color_order='BGR'),
        dict(color_type='colour'),
        dict(imdecode_backend='opencv'),
        dict(version=3),
    ],
)
def test_invalid_choices_are_errors(wrong):
    with pytest.raises(ValueError, match=f'LoadImage: .*{next(iter(wrong))}'):
        LoadImage(**wrong)


def test_grayscale(tmp_path):
    (tmp_path / 'a.png').write_bytes(encoded('RGB', 'PNG'))
    assert LoadImage(color_type='grayscale')(dict(img_path=str(tmp_path / 'a.png')))['img'].shape == (64, 64)


class TestDecodeScale:
    """LoadImage(decode_scale='crop') against decoding whole images."""

    def load(self, path, decode_scale='crop', out=(16, 24), between=(), views=None):
        crop = dict(type='hybridcls.RandomCropToSize', img_size=out, interpolation='bicubic', backend='torch')
        crops = dict(type='hybridcls.ImageViews', num_views=views, transforms=[[crop]]) if views else crop
        pipeline = Compose([dict(type='hybridcls.LoadImage', decode_scale=decode_scale), *between, crops])
        connect_loaders(pipeline)
        np.random.seed(0)  # noqa: NPY002
        loaded = pipeline.transforms[0](dict(img_path=str(path)))
        shape = loaded['img'].shape
        for step in pipeline.transforms[1:]:
            loaded = step(loaded)
        return shape, loaded

    @pytest.fixture
    def photo(self, tmp_path):
        image = Image.fromarray(load_sample_images().images[0])
        image.save(tmp_path / 'photo.jpg', quality=90)
        return image, tmp_path / 'photo.jpg'

    @pytest.mark.parametrize('views', [None, 2])
    def test_the_crops_are_those_of_the_whole_image(self, photo, views):
        shape, found = self.load(photo[1], views=views)
        whole, expected = self.load(photo[1], 'full', views=views)
        assert whole == (427, 640, 3)
        assert shape in ((214, 320, 3), (107, 160, 3), (54, 80, 3))
        assert found['ori_shape'] == expected['ori_shape'] == (427, 640)
        pairs = zip(found['img'], expected['img'], strict=True) if views else [(found['img'], expected['img'])]
        for own, other in pairs:
            assert own.shape == (16, 24, 3)
            assert np.abs(own.astype(int) - other).mean() < 6  # half a pixel of the decoded image beside it, at most
            assert np.corrcoef(own.ravel(), other.ravel())[0, 1] > 0.98

    @pytest.mark.parametrize('orientation', [3, 6])
    def test_a_rotated_photograph(self, photo, tmp_path, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo[0].save(tmp_path / 'rotated.jpg', quality=90, exif=exif)
        shape, found = self.load(tmp_path / 'rotated.jpg')
        _, expected = self.load(tmp_path / 'rotated.jpg', 'full')
        assert shape[0] < 427
        assert found['ori_shape'] == ((427, 640) if orientation == 3 else (640, 427))
        assert np.corrcoef(found['img'].ravel(), expected['img'].ravel())[0, 1] > 0.98

    def test_pixels_that_are_needed_are_decoded(self, photo, tmp_path):
        """A large output, a transform in between, another format: the whole image, the same bits."""
        photo[0].save(tmp_path / 'photo.png')
        flip = dict(type='RandomFlip', prob=0.5)
        for path, keys in (
            (photo[1], dict(out=(400, 400))),
            (photo[1], dict(between=[flip])),
            (tmp_path / 'photo.png', {}),
        ):
            shape, found = self.load(path, **keys)
            assert shape == (427, 640, 3)
            np.testing.assert_array_equal(found['img'], self.load(path, 'full', **keys)[1]['img'])

    def test_a_header_that_lies(self, photo, monkeypatch):
        """The crops are drawn again, for the image that came."""
        monkeypatch.setattr('hybridcls.datasets.transforms.load_image.jpeg_size', lambda *_: (640, 427))
        shape, found = self.load(photo[1])
        assert shape == (427, 640, 3)
        assert found['img'].shape == (16, 24, 3)
        assert found['ori_shape'] == (427, 640)

    def test_a_broken_file_is_named(self, photo, tmp_path):
        (tmp_path / 'cut.jpg').write_bytes(photo[1].read_bytes()[:-2000])
        with pytest.raises(UnreadableImageError, match=r'cut\.jpg: the image is broken'):
            self.load(tmp_path / 'cut.jpg')

    def test_grey(self, photo):
        pipeline = Compose(
            [
                dict(type='hybridcls.LoadImage', color_type='grayscale', decode_scale='crop'),
                dict(type='hybridcls.RandomCropToSize', img_size=16, backend='torch'),
            ]
        )
        connect_loaders(pipeline)
        assert pipeline.transforms[0](dict(img_path=str(photo[1])))['img'].ndim == 2
        assert pipeline(dict(img_path=str(photo[1])))['img'].shape == (16, 16)

    @pytest.mark.parametrize('keys', [dict(imdecode_backend='pillow'), dict(color_type='unchanged')])
    def test_it_needs_opencv(self, keys):
        with pytest.raises(ValueError, match=r"with decode_scale='crop', got .* Remove decode_scale"):
            LoadImage(decode_scale='crop', **keys)
