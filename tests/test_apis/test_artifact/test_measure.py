"""Metrics of a sidecar: their values and the ends of their intervals."""

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from scipy.stats import binomtest
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.artifact.measure import measure, measured, recorded_metrics

MULTI = dict(type='MultiLabelHead', num_classes=4, thresholds=0.4999)


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


def test_a_model_on_a_folder(tmp_path, digit_folder):
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, LINEAR))
    model = hybridcls.load(path, 'cpu')
    found = measure(model, str(digit_folder / 'val'))['accuracy/top1']
    answers = list(model(str(digit_folder / 'val')))
    right = [answer.class_name == answer.label for answer in answers]
    np.testing.assert_allclose(found['value'], 100 * np.mean(right), rtol=1e-5)
    assert found['images'] == len(answers)


def test_several_labels_an_image(tmp_path, digit_folder):
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, MULTI))
    model = hybridcls.load(path, 'cpu')
    files = sorted((digit_folder / 'val').rglob('*.png'))
    labels = [f'{file.parent.name}|two' if number % 3 else '' for number, file in enumerate(files)]
    table = tmp_path / 'labels.csv'
    table.write_text('path,label\n' + ''.join(f'{file},{label}\n' for file, label in zip(files, labels, strict=True)))
    found = measure(model, str(table))['multi-label/f1']
    answers = model(str(table))
    list(answers)
    np.testing.assert_allclose(found['value'], 100 * answers.accuracy.f1)
    assert found['low'] < found['value'] < found['high']
    table.write_text(f'path\n{files[0]}\n')
    with pytest.raises(ValueError, match='expected images with labels'):
        measure(model, str(table))


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
