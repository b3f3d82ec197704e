"""The exported forms of a checkpoint: written once, int8 from float32, and never refused for what it loses."""

import json
import shutil

import numpy as np
import pytest
from tiny_artifact import CLASSES, write_tiny_artifact

from hybridcls.apis.artifact import quantized_artifact
from hybridcls.apis.artifact.quantize import Quantization
from hybridcls.apis.benchmark import exports
from hybridcls.apis.benchmark.candidate import GraphRunner
from hybridcls.apis.benchmark.exports import Exports
from hybridcls.apis.image_inputs import Item


@pytest.fixture
def called(monkeypatch):
    """What the slow functions are called with."""
    asked = []

    def export(checkpoint, folder, form, **options):
        asked.append((checkpoint, form, options))
        write_tiny_artifact(folder)

    def quantize(before, after, images, target, tell):
        asked.append((len(images), target))
        shutil.copy(before, after)
        return Quantization('minmax', 0.01, 3, [], ['conv_1'])

    monkeypatch.setattr(exports, 'export', export)
    monkeypatch.setattr(quantized_artifact, 'quantize', quantize)
    return asked


def test_int8_is_made_of_the_float32_that_is_there(called, tmp_path):
    image = np.full((9, 9, 3), (90, 20, 160), np.uint8)
    items = [Item(None, image, CLASSES[number % 4]) for number in range(160)]
    found = Exports('a.pth', tmp_path, None, items, 2.0, lambda text: None)
    folders = [found.folder_of(name) for name in ('onnxruntime', 'onnxruntime_int8', 'onnxruntime')]
    assert folders[0] == folders[2] != folders[1]
    # Of a calibrated checkpoint the raw scores: the benchmark calibrates those of all rows alike.
    assert called == [('a.pth', 'onnx', dict(config=None, calibration=False)), (40, 0.06)]
    assert json.loads((folders[1] / 'model.json').read_text())['model']['dtype'] == 'int8'
    answers = [GraphRunner(str(folder), 1).answers(image[None, :8, :8])['probabilities'] for folder in folders]
    np.testing.assert_array_equal(answers[0], answers[1])
    assert '40 of 160 images have set the ranges' in found.notes[0]
    assert 'conv_1' in found.notes[0]


def test_few_images_are_refused_before_anything_is_exported(called, tmp_path):
    for items, sentence in (([], 'pass --data'), ([Item(None, None, 'cat')] * 127, 'at least 128')):
        with pytest.raises(ValueError, match=sentence):
            Exports('a.pth', tmp_path, None, items, 0.5, lambda text: None).folder_of('onnxruntime_int8')
    assert not called
