"""Decisions that differ are counted, and those that rounding explains are told from the others."""

import json
import shutil

import pytest
from exported_model import exported_model

import hybridcls
from hybridcls.apis.artifact.agreement import agreement
from hybridcls.apis.artifact.sidecar import write_sidecar

pytest.importorskip('onnxruntime', reason='needs the extra: pip install hybridcls[export]')
pytest.importorskip('onnxscript', reason='needs the extra: pip install hybridcls[export]')


def golden():
    return str(exported_model().folder / 'golden')


@pytest.fixture(scope='module')
def model():
    return hybridcls.load(exported_model().checkpoint, 'cpu')


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(exported_model().folder, tmp_path / 'artifact')
    return tmp_path / 'artifact'


def with_threshold(folder, value):
    sidecar = json.loads((folder / 'model.json').read_text())
    sidecar['calibration']['risk']['threshold'] = value
    write_sidecar(folder, sidecar)


def test_an_artifact_agrees_with_its_checkpoint(model):
    found = agreement(model, exported_model().folder, golden())
    assert found.images == 16
    assert 0 <= found.difference < 1e-4
    assert (found.differing, found.unexplained) == (0, ())
    assert str(found).startswith(f'{found.images} images: answers differ by at most ')


def test_another_threshold_is_found(model, copy):
    with_threshold(copy, 0.999)
    found = agreement(model, copy, golden())
    answered = sum(answer.answered for answer in model(golden()))
    assert found.differing == len(found.unexplained) == answered > 0


def test_what_lies_at_a_threshold_is_counted(model, copy):
    answer = max(model(golden()), key=lambda one: one.probability)
    with_threshold(copy, answer.probability + 1e-5)
    found = agreement(model, copy, [answer.path])
    assert (found.near, found.differing, found.unexplained) == (1, 1, ())
