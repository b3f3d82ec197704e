"""Norms of degraded images, and of right and wrong answers."""

import numpy as np
import pytest
import torch
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.image_inputs import Item, read_inputs
from hybridcls.apis.report.embedding_norm import _of_right, read_norms
from hybridcls.apis.report.evaluated_images import EvaluatedImages, evaluate_images
from hybridcls.apis.report.norm_section import norm_section
from hybridcls.functional.metrics import auroc


def test_norms_are_read_at_each_severity(tmp_path, digit_folder):
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, LINEAR, digit_folder / 'train'))
    model = hybridcls.load(path, 'cpu')
    known = evaluate_images(model, list(read_inputs(str(digit_folder / 'val')).items)[:8])
    found = read_norms(model, known, kinds=['blur'])
    assert found.images == 8
    assert found.norms['blur'].shape == (8, 6)
    np.testing.assert_allclose(found.norms['blur'][:, 0], np.linalg.norm(known.embeddings, axis=1), rtol=1e-6)
    assert [row['score'] for row in found.rows] == ['norm', 'confidence']
    assert len(norm_section(found).charts) == 1


def test_the_larger_norm_of_the_right_answer_by_auroc():
    rng = np.random.default_rng(0)
    scores = rng.dirichlet([1, 1, 1], 60).astype(np.float32)
    labels = rng.integers(0, 3, 60)
    vectors = np.repeat(rng.integers(1, 9, 60)[:, None], 2, 1).astype(np.float32)  # with ties
    known = EvaluatedImages([Item('a', 'a')] * 60, labels, scores, vectors)
    right = torch.from_numpy(scores.argmax(1) == labels)
    norms = torch.from_numpy(np.linalg.norm(vectors.astype(float), axis=1))
    found = _of_right(known, 'norm')
    assert found['value'] == pytest.approx(100 * float(auroc(-norms[right], -norms[~right])))
    assert found['low'] < found['value'] < found['high']
    known.labels = scores.argmax(1)
    assert _of_right(known, 'norm') == dict(score='norm', value=None, low=None, high=None)
