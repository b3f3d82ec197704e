"""The graph's outputs are the predictions of a test, and the formulas written out."""

import numpy as np
import pytest
import torch
from exportable_models import CASES, LEVERS, write_case
from scipy.special import digamma, expit, softmax

from hybridcls.apis.artifact.comparison import largest_differences, predictions_of
from hybridcls.apis.artifact.graph import ImageGraph, normalizations_of, normalized_images, run_in_torch
from hybridcls.apis.artifact.network_input import read_network_input
from hybridcls.apis.trained_model import read_trained_model

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
KINDS = [
    'ArcFaceHead', 'EvidentialHead', 'MultiLabelHead', 'MultiHead', 'SupConHead', "mmpretrain's LinearClsHead",
    "mmpretrain's MultiLabelLinearClsHead", 'EnsembleClassifier', 'EnsembleClassifier of MultiLabelHead',
    '`data_preprocessor` with `to_rgb=False`',
]  # fmt: skip


def opened(name, folder):
    trained = read_trained_model(write_case(folder, CASES[name]))
    given = read_network_input(trained)
    return trained, given, run_in_torch(ImageGraph(trained.model, given).eval(), IMAGES)


@pytest.mark.parametrize('name', KINDS)
def test_outputs_are_the_predictions_of_a_test(name, tmp_path):
    trained, given, outputs = opened(name, tmp_path)
    predicted = predictions_of(trained, given, IMAGES)
    assert set(predicted) <= set(outputs)
    assert all(value.dtype == np.float32 and len(value) == 3 for value in outputs.values())
    assert max(largest_differences(list(outputs), [predicted], [outputs]).values()) < 2e-6
    assert outputs['embedding'].std() > 0


def test_the_names_of_a_multi_head(tmp_path):
    _, _, outputs = opened('MultiHead', tmp_path)
    of_evidence = ['logits', 'probabilities', 'vacuity', 'aleatoric', 'epistemic', 'total']
    assert list(outputs)[:3] == ['logits', 'probabilities', 'embedding']
    assert set(outputs) == {
        *list(outputs)[:3], 'face.logits', 'face.probabilities', *(f'evidence.{name}' for name in of_evidence)
    }  # fmt: skip
    assert np.array_equal(outputs['logits'], outputs['face.logits'])
    assert list(opened('SupConHead', tmp_path / 'supcon')[2]) == ['embedding']


def test_margin_heads_give_cosines_times_scale_without_margin(tmp_path):
    trained, _, outputs = opened('ArcFaceHead', tmp_path)
    weight, embedding = trained.model.head.weight.detach().double().numpy(), outputs['embedding'].astype(float)
    unit, classes = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (embedding, weight))
    np.testing.assert_allclose(outputs['logits'], 64 * unit @ classes.T, atol=2e-4)
    np.testing.assert_allclose(outputs['probabilities'], softmax(64 * unit @ classes.T, axis=1), atol=1e-5)


def test_evidential_heads_give_alpha_over_s(tmp_path):
    trained, _, outputs = opened('EvidentialHead', tmp_path)
    fc = trained.model.head.fc
    raw = outputs['embedding'].astype(float) @ fc.weight.detach().double().numpy().T + fc.bias.detach().double().numpy()
    evidence = trained.model.head.loss_module.evidence(torch.from_numpy(raw)).double().numpy()
    alpha = evidence + 1
    strength = alpha.sum(1, keepdims=True)
    np.testing.assert_allclose(outputs['probabilities'], alpha / strength, atol=1e-6)
    np.testing.assert_allclose(outputs['logits'], np.log(alpha), atol=1e-5)
    np.testing.assert_allclose(outputs['vacuity'], 4 / strength[:, 0], atol=1e-6)
    aleatoric = (alpha / strength * (digamma(strength + 1) - digamma(alpha + 1))).sum(1)
    np.testing.assert_allclose(outputs['aleatoric'], aleatoric, atol=1e-6)
    np.testing.assert_allclose(outputs['total'], outputs['aleatoric'] + outputs['epistemic'], atol=1e-6)


def test_several_labels_have_sigmoids(tmp_path):
    _, _, outputs = opened('MultiLabelHead', tmp_path)
    np.testing.assert_allclose(outputs['probabilities'], expit(outputs['logits'].astype(float)), atol=1e-6)


def test_each_normalization_is_told(tmp_path):
    trained, given, _ = opened('DHAFusion', tmp_path)
    said = normalizations_of(trained.model)
    assert set(said) == {'backbone.cnn', 'backbone.vit'}
    seen = normalized_images(trained.model, given, IMAGES)
    for name, of in said.items():
        mean, std = (np.float64(of[key])[:, None, None] for key in ('mean', 'std'))
        expected = (IMAGES.transpose(0, 3, 1, 2) / 255 * of['range'] - mean) / std
        np.testing.assert_allclose(seen[name], expected, atol=1e-5)


def test_a_preprocessor_that_normalizes_is_told(tmp_path):
    trained, given, _ = opened('`data_preprocessor` with mean and std', tmp_path)
    said = normalizations_of(trained.model)
    assert said == dict(data_preprocessor=dict(mean=[120, 110, 100], std=[60, 58, 56], range=255))
    seen = normalized_images(trained.model, given, IMAGES)['data_preprocessor']
    expected = (IMAGES.astype(float) - [120, 110, 100]) / [60, 58, 56]
    np.testing.assert_allclose(seen, expected.transpose(0, 3, 1, 2), atol=1e-5)


def test_a_bare_backbone_is_normalized_for(tmp_path):
    trained, given, _ = opened("mmpretrain's ResNet", tmp_path)
    said = normalizations_of(trained.model)['backbone']
    assert said['mean'] == pytest.approx([0.485, 0.456, 0.406]) and said['range'] == 1
    expected = (IMAGES / 255 - said['mean']) / said['std']
    seen = normalized_images(trained.model, given, IMAGES)['backbone']
    np.testing.assert_allclose(seen, expected.transpose(0, 3, 1, 2), atol=1e-5)


def test_half_precision_is_a_copy(tmp_path):
    trained, given, outputs = opened('`data_preprocessor` with mean and std', tmp_path)
    graph = ImageGraph(trained.model, given).eval()
    half = run_in_torch(graph.in_half(), IMAGES)
    assert all(value.dtype == np.float32 for value in half.values())
    off = np.abs(half['embedding'] - outputs['embedding']).max() / np.abs(outputs['embedding']).max()
    assert 1e-6 < off < 0.01
    assert np.array_equal(run_in_torch(graph, IMAGES)['embedding'], outputs['embedding'])
    assert trained.model.data_preprocessor.mean.dtype == torch.float32


def test_members_without_classes_have_no_mean(tmp_path):
    member = LEVERS['EnsembleClassifier'].model
    case = LEVERS['EnsembleClassifier']._replace(model=dict(member, head=dict(type='SupConHead')))
    trained = read_trained_model(write_case(tmp_path, case))
    with pytest.raises(ValueError, match='expected members with classes, got the head SupConHead'):
        run_in_torch(ImageGraph(trained.model, read_network_input(trained)), IMAGES)
