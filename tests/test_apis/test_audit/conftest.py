"""Pictures of which some are there twice, and a model to audit."""

import numpy as np
import pytest
from PIL import Image
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.audit.duplicate_groups import find_duplicates


def _picture(seed, size=(160, 120)):
    """Blobs: what photographs have, and noise has not."""
    small = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope='session')
def twice_images(tmp_path_factory):
    """Training images 0 to 9, of which 8 is a copy of 0 and 9 a smaller 1; held out: copies of 2 and 3, a crop of 4."""
    folder = tmp_path_factory.mktemp('twice')
    training, held_out = [], []
    for seed in range(10):
        image = _picture({8: 0, 9: 1}.get(seed, seed))
        training.append(str(folder / f'{seed}.png'))
        (image.resize((80, 60)) if seed == 9 else image).save(training[-1])
    for name, image in (
        ('a', _picture(2)),
        ('b', _picture(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        ('c', _picture(4).crop((20, 10, 130, 100))),
        ('d', _picture(77)),
    ):
        held_out.append(str(folder / f'held_{name}.png'))
        image.save(held_out[-1])
    return training, held_out


@pytest.fixture(scope='session')
def twice_found(twice_images):
    """Labels contradict between 1 and 9. Embeddings are near for the crop alone."""
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(10, 6)), generator.normal(size=(4, 6))
    embeddings[1][2] = embeddings[0][4]
    labels = np.array([0, 1, 2, 3, 4, 0, 1, 2, 0, 2])
    return find_duplicates(twice_images[0], labels, twice_images[1], np.array([2, 3, 4, 0]), embeddings)


@pytest.fixture(scope='session')
def blobs():
    """Make a picture of a number."""
    return _picture


@pytest.fixture(scope='session')
def audited_model(tmp_path_factory, digit_folder):
    cfg = config_of(CNN, LINEAR, digit_folder / 'train')
    return hybridcls.load(write_checkpoint(tmp_path_factory.mktemp('w') / 'epoch_1.pth', cfg)[0], 'cpu')
