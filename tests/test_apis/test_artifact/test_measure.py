"""Metrics of a sidecar: their values and the ends of their intervals."""

import shutil

import numpy as np
import pytest
import torch
from exported_model import exported_model
from mmengine.logging import HistoryBuffer
from scipy.stats import binomtest
from sklearn.metrics import f1_score

import hybridcls
from hybridcls.apis.artifact.measure import artifact_metrics, measured, metric_sentence, recorded_metrics
from hybridcls.apis.artifact.reference import add_reference
from hybridcls.apis.artifact.sidecar import read_sidecar
from hybridcls.apis.image_inputs import read_inputs


def test_accuracy_and_its_exact_interval():
    scores = torch.tensor([[0.9, 0.1]] * 6 + [[0.2, 0.8]] * 4)
    labels = torch.tensor([0] * 5 + [1] * 5)
    found = measured(scores, labels)
    ends = binomtest(9, 10).proportion_ci(0.95, 'exact')
    top1 = found['accuracy/top1']
    np.testing.assert_allclose([top1['value'], top1['low'], top1['high']], [90, 100 * ends.low, 100 * ends.high])
    assert (top1['images'], top1['unit'], top1['confidence']) == (10, '%', 0.95)
    # In the bin of 0.9 five of six are right, in that of 0.8 all four.
    np.testing.assert_allclose(found['calibration/ece']['value'], 60 * abs(0.9 - 5 / 6) + 40 * 0.2, atol=1e-5)
    assert found['calibration/ece']['low'] <= found['calibration/ece']['value']
    assert found['calibration/nll']['unit'] == 'nats'


def test_few_images_have_no_interval_and_no_nan():
    found = measured(torch.tensor([[0.9, 0.1]] * 3), torch.tensor([0, 0, 1]))
    assert found['calibration/ece']['low'] is None


def test_what_is_answered_above_a_threshold():
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.55, 0.45], [0.1, 0.9]])
    found = measured(scores, torch.tensor([0, 1, 0, -1]), threshold=0.6)
    assert found['answered']['value'] == 75
    np.testing.assert_allclose(found['error_of_answered']['value'], 200 / 3)  # an unknown one is wrong where answered
    assert found['error_of_answered']['images'] == 3
    assert measured(scores, torch.tensor([0, 1, 0, 1]), threshold=0.95)['error_of_answered']['value'] is None


CALIBRATION = dict(scaling=dict(kind='temperature', temperature=0.5), risk=dict(threshold=0.8))
ONE = dict(classes=['Ant', 'Bee'], folders=['ant', 'bee'], multi_label=False, calibration=CALIBRATION)
SCORES = dict(probabilities=np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]], np.float32))


def test_what_an_artifact_answers_is_measured_after_its_calibration():
    found = artifact_metrics(ONE, SCORES, ['ant', 'Bee', None, 'crab'])
    assert (found['accuracy/top1']['value'], found['accuracy/top1']['images']) == (50, 2)  # the crab is of no class
    squared = np.array([[0.81, 0.01], [0.36, 0.16]])  # temperature 0.5
    probability = squared[[0, 1], [0, 1]] / squared.sum(1)
    np.testing.assert_allclose(found['calibration/nll']['value'], -np.log(probability).mean(), rtol=1e-5)
    assert found['answered']['value'] == pytest.approx(200 / 3)  # 0.36 / 0.52 is below the threshold
    assert found['error_of_answered']['value'] == 50  # the crab was answered


@pytest.mark.parametrize('labels', [[None] * 4, ['crab'] * 4])
def test_without_labels_nothing_is_measured(labels):
    assert artifact_metrics(ONE, SCORES, labels) == {}
    assert artifact_metrics(ONE, dict(embedding=SCORES['probabilities']), ['ant'] * 4) == {}


def test_several_labels_an_image():
    sidecar = dict(classes=['a', 'b', 'c'], folders=None, multi_label=True, class_thresholds=[0.5, 0.4, 0.9])
    draw = np.random.default_rng(0)
    scores, true = draw.random((40, 3), np.float32), draw.random((40, 3)) < 0.5
    labels = ['|'.join(np.array(['a', 'b', 'c'])[row]) for row in true]
    found = artifact_metrics(sidecar, dict(probabilities=scores), labels)['multi-label/f1']
    np.testing.assert_allclose(found['value'], 100 * f1_score(true, scores >= [0.5, 0.4, 0.9], average='macro'))
    assert found['low'] < found['value'] < found['high']
    assert found['images'] == 40


def test_a_metric_in_a_line():
    found = measured(torch.tensor([[0.9, 0.1]] * 3), torch.tensor([0, 0, 1]), threshold=0.95)
    assert metric_sentence('error_of_answered', found['error_of_answered']).endswith(': no value, of 0 images')
    assert '(' not in metric_sentence('calibration/ece', found['calibration/ece'])


def test_a_best_checkpoint_has_the_numbers_of_its_validation(tmp_path):
    scalars = {
        f'val/{name}': HistoryBuffer([value], [1])
        for name, value in (('accuracy/top1', 91.5), ('accuracy/top1_low', 88.0), ('data_time', 0.1))
    }
    for name in ('best_top1_epoch_1.pth', 'epoch_1.pth'):
        torch.save(dict(state_dict={}, meta={}, message_hub=dict(log_scalars=scalars)), tmp_path / name)
    found = recorded_metrics(str(tmp_path / 'best_top1_epoch_1.pth'))
    assert set(found) == {'accuracy/top1'}
    assert (found['accuracy/top1']['value'], found['accuracy/top1']['low']) == (91.5, 88.0)
    assert recorded_metrics(str(tmp_path / 'epoch_1.pth')) == {}


def test_held_out_images_of_an_export_measure_it(tmp_path, digit_folder):
    pytest.importorskip('onnxscript', reason='needs the extra: pip install hybridcls[export]')
    shutil.copytree(exported_model().folder, tmp_path / 'artifact')
    notes = add_reference(tmp_path / 'artifact', list(read_inputs(str(digit_folder / 'train')).items))
    top1 = read_sidecar(tmp_path / 'artifact')['metrics']['accuracy/top1']
    answers = hybridcls.load(exported_model().checkpoint, 'cpu')(str(digit_folder / 'train'), top_k=1)
    right = [answer.top[0][0] == answer.label for answer in answers]
    np.testing.assert_allclose(top1['value'], 100 * np.mean(right), rtol=1e-5)
    assert metric_sentence('accuracy/top1', top1) in notes
