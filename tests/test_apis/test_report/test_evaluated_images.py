"""Answers become arrays."""

from types import SimpleNamespace

import numpy as np
import pytest
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.image_inputs import Item, read_inputs
from hybridcls.apis.inference_settings import InferenceSettings
from hybridcls.apis.report.evaluated_images import evaluate_images


@pytest.fixture(scope='module')
def model(tmp_path_factory, digit_folder):
    cfg = config_of(CNN, LINEAR, digit_folder / 'train')
    return write_checkpoint(tmp_path_factory.mktemp('w') / 'epoch_1.pth', cfg)[0]


def test_answers_become_arrays(model, digit_folder, tmp_path):
    loaded = hybridcls.load(model, 'cpu')
    items = list(read_inputs(str(digit_folder / 'val')).items)
    broken = tmp_path / 'broken.png'
    broken.write_bytes(b'nothing')
    found = evaluate_images(loaded, [items[0], Item(str(broken), str(broken), items[0].label), *items[1:]])
    assert found.unreadable == [str(broken)]
    assert [item.path for item in found.items] == [item.path for item in items]
    assert [loaded.classes[label] for label in found.labels] == [item.label for item in items]
    again = np.stack([answer.scores for answer in loaded(str(digit_folder / 'val'))])
    np.testing.assert_allclose(found.scores, again, atol=1e-6)
    assert (evaluate_images(loaded, items[:3], unknown=True).labels == -1).all()


def test_what_a_calibration_is_given_stays_with_its_image_where_the_config_compiles(model, digit_folder, monkeypatch):
    monkeypatch.setattr('hybridcls.apis.compile_plan.estimated_compile_seconds', lambda network: 0.0)
    loaded = hybridcls.load(model, 'cpu')
    loaded.calibration = SimpleNamespace(calibration=SimpleNamespace(precision='float32'))  # leaves scores as they are
    loaded.wanted_settings = InferenceSettings(compile='eager')
    found = evaluate_images(loaded, list(read_inputs(str(digit_folder / 'val')).items)[:14], batch_size=4)
    np.testing.assert_array_equal(found.uncalibrated, found.scores)
