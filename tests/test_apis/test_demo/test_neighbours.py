"""The most similar images of an index, compared with numpy; an index of other weights is refused."""

import re

import numpy as np
import pytest
from PIL import Image
from tiny_artifact import write_tiny_artifact

from hybridcls.apis.demo.asked_model import Artifact
from hybridcls.apis.demo.neighbours import Neighbours
from hybridcls.apis.demo.page import Page
from hybridcls.apis.embedding_index import EmbeddingIndex

pytest.importorskip('onnx', reason='the extra export is not installed')
pytest.importorskip('onnxruntime', reason='the extra export is not installed')
COLORS = dict(red=(200, 10, 10), green=(10, 200, 10), gone=(0, 0, 200))
VECTORS = np.array([*COLORS.values()], np.float32)


@pytest.fixture
def index(tmp_path):
    for name, color in COLORS.items():
        Image.new('RGB', (20, 30), color).save(tmp_path / f'{name}.png')
    (tmp_path / 'gone.png').unlink()
    return write_index(tmp_path, digest='ab')


def write_index(folder, **about):
    path = str(folder / 'index.npz')
    EmbeddingIndex.write(path, [str(folder / f'{name}.png') for name in COLORS], VECTORS, ['r', '<i>', ''], about)
    return path


def test_the_order_and_the_similarities(index):
    neighbours = Neighbours(index, dict(digest='ab'))
    found = neighbours.find(np.array([0, 100, 0], np.float32), 2)
    expected = (VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True))[:, 1]
    assert len(neighbours) == 3
    assert [one.label for one in found] == ['<i>', 'r']
    np.testing.assert_allclose([one.similarity for one in found], np.sort(expected)[::-1][:2], atol=1e-6)
    with pytest.raises(ValueError, match='expected embeddings of 3 numbers'):
        neighbours.find(np.zeros(4, np.float32))


def test_an_index_of_other_weights_is_refused(tmp_path):
    path = write_index(tmp_path, digest='other', checkpoint='w/epoch_9.pth')
    with pytest.raises(ValueError, match='demo: expected embeddings of one model, but the weights differ'):
        Neighbours(path, dict(digest='ab'))


def test_they_are_shown(index, tmp_path):
    model = Artifact(write_tiny_artifact(tmp_path / 'artifact'))
    Image.new('RGB', (9, 9), (5, 150, 20)).save(tmp_path / 'query.png')
    html, images = Page(model, Neighbours(index, model.about), k=3).answer(str(tmp_path / 'query.png'))
    assert '&lt;i&gt;' in html
    assert html.count('data:image/jpeg') == 2  # two of three are there
    assert 'not found' in html
    assert 'gone.png' in html
    assert str(tmp_path) not in html + images
    assert not re.search(r'(src|href)="(?!data:image/)', html + images)
