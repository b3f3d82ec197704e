"""An artifact in int8: what it loses is measured on images that did not quantize it, and decides."""

import json
import shutil

import numpy as np
import pytest
import torch

pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

import onnx
from onnx import numpy_helper
from trained_checkpoints import CLASSES, CNN, LINEAR, config_of, write_checkpoint

from hybridcls.apis.artifact import TooMuchLost, export, quantized_artifact
from hybridcls.apis.artifact.quantize import Quantization
from hybridcls.apis.artifact.quantized_artifact import quantize_artifact
from hybridcls.apis.artifact.shipped.runtime import Model
from hybridcls.apis.artifact.sidecar import write_sidecar
from hybridcls.apis.image_inputs import Item


def calibration(model, threshold, **more):
    return dict(
        format='hybridcls calibration', version=1, checkpoint='a.pth', classes=list(CLASSES),
        weights_sha256=model.sidecar['provenance']['weights_sha256'], scaling=dict(kind='none'), img_size=[64, 64],
        precision='float32', preprocessing_version=2, images=500,
        risk=dict(risk=0.3, confidence=0.95, threshold=threshold, answered=100, errors=1, images=200), sets=None,
        measured={},
    ) | more  # fmt: skip


@pytest.fixture(scope='module')
def artifact(tmp_path_factory):
    """In float32, with larger weights of the head than chance gives, so that its probabilities are not all alike."""
    root = tmp_path_factory.mktemp('artifact')
    path, _ = write_checkpoint(root / 'a.pth', config_of(CNN, LINEAR))
    content = torch.load(path)
    content['state_dict']['head.fc.weight'] *= 50
    torch.save(content, path)
    export(path, root / 'float32')
    return root / 'float32'


@pytest.fixture(scope='module')
def items(artifact):
    """Coloured noise; the label is what the model says, but for every eighth image."""
    draw = np.random.default_rng(0)
    images = [
        (draw.integers(0, 256, (64, 64, 3)) * draw.random(3) + draw.integers(0, 60, 3)).clip(0, 255).astype(np.uint8)
        for _ in range(240)
    ]
    said = [one['top'] for one in Model(artifact).predict(images)]
    return [
        Item(None, image, top[number % 8 == 0][0]) for number, (image, top) in enumerate(zip(images, said, strict=True))
    ]


@pytest.fixture
def copy(artifact, tmp_path):
    return shutil.copytree(artifact, tmp_path / 'copy')


def broken(onnx_path, out_path, images, target, tell):
    """A quantization that turns the weights of the head around."""
    model = onnx.load(onnx_path)
    for tensor in model.graph.initializer:
        if 'head' in tensor.name or 'fc' in tensor.name:
            tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, out_path)
    return Quantization('minmax', 0.5, 1, [])


def test_the_artifact_becomes_int8(copy, items):
    before = Model(copy)
    threshold = float(np.median([one['probability'] for one in before.predict([item.source for item in items])]))
    write_sidecar(copy, before.sidecar | dict(calibration=calibration(before, threshold)))
    size = (copy / 'model.onnx').stat().st_size
    done = quantize_artifact(copy, items, max_loss=20)
    after = Model(copy)  # all digests are those of the new files
    about = after.sidecar['model']
    assert about['dtype'] == 'int8'
    assert about['quantization']['method'] == done.quantization.method
    assert (copy / 'model.onnx').stat().st_size < 0.5 * size
    assert not list(copy.glob('int8*'))
    # 60 images quantize, and none of them judges
    assert len(done.judges) == 180
    assert after.sidecar['metrics']['int8/accuracy/top1']['images'] == 180
    images = np.stack([before.prepare(item.source) for item in done.judges])
    for dtype, model in (('float32', before), ('int8', after)):
        scores = model.run(images)['probabilities']
        right = [CLASSES[row] == item.label for row, item in zip(scores.argmax(1), done.judges, strict=True)]
        metrics = after.sidecar['metrics']
        assert metrics[f'{dtype}/accuracy/top1']['value'] == pytest.approx(100 * np.mean(right))
        assert metrics[f'{dtype}/answered']['value'] == pytest.approx(100 * np.mean(scores.max(1) >= threshold))
    # the threshold is one of the int8 scores of images that judge
    new = after.sidecar['calibration']
    assert new['precision'] == 'int8'
    assert new['images'] == 180
    scores = after.run(images)['probabilities'].max(1)
    assert np.isclose(scores, new['risk']['threshold'], rtol=0, atol=1e-6).any()
    # golden outputs are those of the graph as it is
    with np.load(copy / 'golden' / 'golden.npz') as golden:
        np.testing.assert_allclose(after.run(golden['input'])['logits'], golden['logits'], atol=1e-5)
        off = np.abs(before.run(golden['input'])['logits'] - golden['logits']).max()
    assert about['difference']['logits'] == pytest.approx(off, abs=1e-4)
    assert any(note.startswith('accuracy: ') for note in done.notes)
    assert any('60 of 240 images (seed 0) quantize, 180 others judge' in note for note in done.notes)


def test_what_loses_too_much_is_refused_and_changes_nothing(copy, items, monkeypatch):
    monkeypatch.setattr(quantized_artifact, 'quantize', broken)
    before = (copy / 'model.json').read_bytes(), (copy / 'model.onnx').read_bytes()
    with pytest.raises(TooMuchLost, match=r'points of accuracy.*more than --max-loss 1\. Nothing was written') as error:
        quantize_artifact(copy, items)
    assert ((copy / 'model.json').read_bytes(), (copy / 'model.onnx').read_bytes()) == before
    lost = error.value.comparisons[0].lost
    assert lost.value > 10
    assert quantize_artifact(copy, items, max_loss=100).comparisons[0].lost == lost


def test_a_threshold_that_int8_does_not_reach_is_left_out(copy, items, monkeypatch):
    monkeypatch.setattr(quantized_artifact, 'quantize', broken)
    model = Model(copy)
    write_sidecar(copy, model.sidecar | dict(calibration=calibration(model, 0.0)))
    notes = quantize_artifact(copy, items, max_loss=100).notes
    kept = json.loads((copy / 'model.json').read_text())['calibration']
    assert kept['risk'] is None  # nearly all answers are wrong now
    assert any('is not reached at any threshold' in note for note in notes)


def test_too_few_images_or_none_of_a_class(copy, items):
    with pytest.raises(ValueError, match='at least 128 held-out images with labels for --dtype int8, got 127'):
        quantize_artifact(copy, items[:127])
    with pytest.raises(ValueError, match='at least two of the classes one, three, two, zero, got cat'):
        quantize_artifact(copy, [item._replace(label='cat') for item in items])


def test_export_checks_before_it_works(tmp_path):
    for options, message in (
        (dict(dtype='int8'), '--dtype int8 needs held-out images'),
        (dict(max_loss=2.0), '--max-loss is for --dtype int8, got float32'),
        (dict(dtype='int8', format='torch_export', data='x'), 'for --format onnx, got torch_export'),
        (dict(dtype='int8', data='x', max_loss=-1.0), '--max-loss'),
    ):
        with pytest.raises(ValueError, match=message):
            export('nowhere.pth', tmp_path / 'out', **options)
