"""An artifact says what its scores by hand say, without torch; a checkpoint says what predict says."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_artifact import CLASSES, expected_scores, write_tiny_artifact
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.demo.asked_model import Artifact, Checkpoint, is_artifact
from hybridcls.apis.demo.page import Page

pytest.importorskip('onnx', reason='the extra export is not installed')
pytest.importorskip('onnxruntime', reason='the extra export is not installed')
COLOR = (40, 90, 30)


@pytest.fixture
def artifact(tmp_path):
    return write_tiny_artifact(tmp_path / 'artifact')


def _png(color):
    buffer = io.BytesIO()
    Image.new('RGB', (20, 30), color).save(buffer, 'PNG')
    return buffer.getvalue()


def test_the_scores_are_those_of_hand(artifact):
    model = Artifact(artifact)
    said = model.ask(_png(COLOR))
    expected = expected_scores(COLOR)
    order = np.argsort(-expected)
    assert [name for name, _ in said.answer['top']] == [CLASSES[one] for one in order]
    np.testing.assert_allclose([score for _, score in said.answer['top']], expected[order], atol=1e-5)
    np.testing.assert_allclose(said.embedding, COLOR, atol=1e-4)
    assert said.seen.shape == (8, 8, 3)
    assert said.read.shape == (30, 20, 3)


def test_an_artifact_needs_no_torch_and_runs_none_of_its_code(artifact, tmp_path):
    (artifact / 'runtime.py').write_text('raise SystemExit("run")')
    (tmp_path / 'a.png').write_bytes(_png(COLOR))
    image = str(tmp_path / 'a.png')
    code = (
        'import sys; from pathlib import Path; from hybridcls.apis.demo.asked_model import Artifact; '
        'from hybridcls.apis.demo.page import Page; '
        f'print(len(Page(Artifact(Path({str(artifact)!r}))).answer({image!r}))); print("torch" in sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.split()[1:] == ['False'], done.stderr


def test_an_archive_of_torch_export_needs_trust(artifact):
    sidecar = json.loads((artifact / 'model.json').read_text())
    sidecar['model']['format'] = 'torch_export'
    (artifact / 'model.json').write_text(json.dumps(sidecar))
    assert is_artifact(artifact)
    with pytest.raises(ValueError, match=r'may run code when it is read. .* add --trust-checkpoint'):
        Artifact(artifact)


def test_a_checkpoint_says_what_predict_says(digit_folder, tmp_path):
    path = write_checkpoint(tmp_path / 'work' / 'epoch_1.pth', config_of(CNN, LINEAR))[0]
    inferencer = hybridcls.load(path, 'cpu')
    model = Checkpoint(inferencer)
    file = sorted((digit_folder / 'val').rglob('*.png'))[0]
    expected = inferencer.predict(str(file), top_k=4)
    said = model.ask(file.read_bytes())
    assert [tuple(one) for one in said.answer['top']] == list(expected.top)
    assert np.array_equal(said.embedding, inferencer.embed(str(file))[0])
    assert np.array_equal(said.read, np.asarray(Image.open(file).convert('RGB')))
    assert said.seen.shape == (64, 64, 3)
    assert expected.class_name in ''.join(Page(model).answer(str(file)))
    (tmp_path / 'notes.png').write_text('no image')
    assert 'notes.png cannot be answered: ' in Page(model).answer(str(tmp_path / 'notes.png'))[0]
    assert model.name == 'work/epoch_1.pth'
