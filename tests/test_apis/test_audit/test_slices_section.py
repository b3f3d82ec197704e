"""Slices on the page: sentences, rows and pictures."""

import numpy as np
import pytest

from hybridcls.apis.audit.slice_attributes import column_attribute
from hybridcls.apis.audit.slices import SliceSearch, find_slices
from hybridcls.apis.audit.slices_section import slices_section
from hybridcls.apis.image_inputs import Item
from hybridcls.apis.report.evaluated_images import EvaluatedImages

CLASSES = ['cat', 'dog']


@pytest.fixture(scope='module')
def images(tmp_path_factory, blobs):
    """Eighty images, of which the even ones are wrong."""
    path = str(tmp_path_factory.mktemp('blobs') / 'a.png')
    blobs(0).save(path)
    labels = np.arange(80) // 40
    scores = np.full((80, 2), 0.2, dtype=np.float32)
    scores[np.arange(80), (labels + (np.arange(80) % 2 == 0)) % 2] = 0.8
    return EvaluatedImages([Item(path, path)] * 80, labels, scores, None)


def test_a_slice_is_a_sentence_a_row_and_pictures(images):
    wrong = images.predicted != images.labels
    camera = column_attribute('camera', ['B' if one else 'A' for one in wrong[:70]] + ['B'] * 10)
    search = find_slices([camera], dict(wrong=wrong), images.labels)
    section = slices_section(search, images, CLASSES)
    assert section.says[0].startswith(
        'Of 45 images with camera B, 40 are wrong: 89 % [76, 96]. Of the other images, 0.0 % [0.0, '
    )
    assert section.tables[0].rows[0][:4] == ['images with camera B', 'wrong', 45, 40]
    assert [one['title'] for one in section.groups] == ['images with camera B: wrong']
    assert section.groups[0]['pictures'][0]['image'].startswith('data:')
    assert section.groups[0]['pictures'][0]['caption'] == '\u2068cat\u2069, predicted \u2068dog\u2069 (0.80)'


def test_nothing_stands_out(images):
    section = slices_section(SliceSearch(tested=7, notes=['A note.']), images, CLASSES)
    assert [section.says[0], *section.says[2:]] == ['No slice was found.', 'A note.']
    assert section.tables == []
