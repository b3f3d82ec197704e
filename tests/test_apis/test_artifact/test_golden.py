"""The golden images are of all kinds, the same each time, and small."""

import io

import numpy as np
import pytest
from PIL import Image
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

from hybridcls.apis.artifact.golden import MOST_BYTES, golden_images, write_golden
from hybridcls.apis.artifact.shipped.runtime import prepare_image, read_image
from hybridcls.apis.artifact.sidecar import preprocessing_of
from hybridcls.apis.trained_model import read_trained_model


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    cfg = config_of(CNN, LINEAR)
    return read_trained_model(write_checkpoint(tmp_path_factory.mktemp('model') / 'epoch_1.pth', cfg)[0])


def at(trained, size):
    """Another size of the images, which the network is not asked about."""
    from hybridcls.datasets.transforms import CenterCropToSize

    trained.pipeline.transforms[1] = CenterCropToSize(size)
    return trained


def logits(images):
    return dict(logits=images.reshape(len(images), -1)[:, :5].astype(np.float32))


def test_ten_png_and_six_jpeg_of_all_kinds():
    images = {name: Image.open(io.BytesIO(content)) for name, content in golden_images().items()}
    kinds = [image.format for image in images.values()]
    assert (kinds.count('PNG'), kinds.count('JPEG')) == (10, 6)
    assert {image.mode for image in images.values()} >= {'RGB', 'RGBA', 'P', 'L', 'LA', 'I;16', 'CMYK'}
    assert images['turned.jpg'].getexif()[0x0112] == 6
    assert images['halved.jpg'].layer[0][1:3] == (2, 2)  # 4:2:0: two by two pixels share their colour
    assert max(images['large.jpg'].size) == 1200
    assert max(images['tiny.jpg'].size) < 8
    assert golden_images() == golden_images()


def test_images_are_bright_enough_for_the_bits_of_the_pipeline():
    deep = Image.open(io.BytesIO(golden_images(bits=12)['deep_grey.png']))
    assert 2**11 < np.asarray(deep).max() < 2**12


@pytest.mark.parametrize('size', [64, 384])
def test_stages_are_those_of_the_runtime_and_small(trained, tmp_path, size):
    trained = at(trained, size)
    said = write_golden(tmp_path, trained, logits, normalized=lambda images: dict(cnn=images.transpose(0, 3, 1, 2) / 2))
    with np.load(tmp_path / said['file']) as stages:
        assert stages['names'].tolist() == said['images']
        given = preprocessing_of(trained)
        for number, name in enumerate(said['images']):
            decoded = read_image(tmp_path / said['folder'] / name, given['decode'])
            assert np.array_equal(decoded, stages[f'decoded_{number}']), name
            assert np.array_equal(prepare_image(decoded, given['steps']), stages['input'][number]), name
        assert stages['logits'].tolist() == logits(stages['input'])['logits'].tolist()
        assert stages['normalized_cnn'].dtype == np.float16
        assert stages['normalized_cnn'][3, 0, 1, 1] == stages['input'][3, 16, 16, 0] / 2
    assert sum(file.stat().st_size for file in (tmp_path / 'golden').iterdir()) < MOST_BYTES / 2


def test_the_same_model_gives_the_same_bytes(trained, tmp_path):
    for name in ('one', 'two'):
        write_golden(tmp_path / name, at(trained, 64), logits)
    assert (tmp_path / 'one/golden/golden.npz').read_bytes() == (tmp_path / 'two/golden/golden.npz').read_bytes()


def test_own_images_are_copied_and_said(trained, tmp_path):
    (tmp_path / 'own').mkdir()
    Image.fromarray(np.full((40, 50, 3), 7, np.uint8)).save(tmp_path / 'own' / 'mine.png')
    said = write_golden(tmp_path / 'out', at(trained, 64), logits, own=str(tmp_path / 'own'))
    assert said['own']
    assert said['images'] == ['00_mine.png']


def test_too_many_own_images_are_refused(trained, tmp_path):
    (tmp_path / 'own').mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (1300, 1300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / 'own' / 'noise.png')
    with pytest.raises(ValueError, match=r'at most 4 MB with their stages, got \d+\.\d MB of 1'):
        write_golden(tmp_path / 'out', at(trained, 64), logits, own=str(tmp_path / 'own'))
