"""Right and wrong answers of users' whole code: what is wrong is named, and nothing else."""

import json

import hand_made_artifact as made
import numpy as np
import onnxruntime
import pytest
from at_night import at_night
from PIL import Image, ImageOps
from planted_mistakes import coarse_chroma, crop, is_jpeg, load, normalized, torch_crop

from hybridcls.apis.artifact.shipped.graph_check import open_artifact
from hybridcls.apis.artifact.shipped.score_check import explain, read_answer
from hybridcls.apis.artifact.shipped.verify import collect, read_golden

S = 32


class Code:
    """A user's code around the artifact's graph."""

    def __init__(self, folder, network):
        self.folder = folder
        self.session = onnxruntime.InferenceSession(str(folder / 'model.onnx'), providers=['CPUExecutionProvider'])
        network.onnx(folder.parent / 'floats.onnx', S, floats='NCHW')
        self.floats = onnxruntime.InferenceSession(str(folder.parent / 'floats.onnx'))
        network.onnx(folder.parent / 'bare.onnx', S, merged=False)
        self.bare = onnxruntime.InferenceSession(str(folder.parent / 'bare.onnx'))
        self.sidecar = json.loads((folder / 'model.json').read_text())
        self.goldens, self.stages = read_golden(str(folder), self.sidecar)
        self.graph = open_artifact(str(folder), self.sidecar)

    def logits(self, pixels):
        return self.session.run(['logits'], {'images': np.ascontiguousarray(pixels)[None].astype(np.uint8)})[0][0]

    def bare_logits(self, pixels):
        return self.bare.run(['logits'], {'images': np.ascontiguousarray(pixels)[None]})[0][0]

    def float_logits(self, values):
        values = np.asarray(values, np.float32).transpose(2, 0, 1)[None]
        return self.floats.run(['logits'], {'images': np.ascontiguousarray(values)})[0][0]

    def scores(self, pixels):
        """Calibrated."""
        return softmax(self.logits(pixels) / made.TEMPERATURE)

    def decision(self, pixels, threshold=made.THRESHOLD):
        scores = self.scores(pixels)
        best = int(scores.argmax())
        return made.CLASSES[best] if scores[best] >= threshold else 'unknown'

    def names(self, predict):
        given = collect(predict, self.goldens, as_array=False)
        return [one.name for one in explain(given, predict, self.goldens, self.stages, self.sidecar, self.graph)]


def softmax(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()


@pytest.fixture(scope='module')
def code(tmp_path_factory):
    return Code(*made.make_artifact(tmp_path_factory.mktemp('artifact') / 'A', S))


def right(path):
    return crop(load(path), S)


def bilinear(path):
    return crop(load(path), S, filter=Image.Resampling.BILINEAR)


ORDER = [2, 0, 1, 3, 5, 4]
WRONG = {
    'uncalibrated': (lambda code, path: softmax(code.logits(right(path))), ['calibration']),
    'logits': (lambda code, path: code.logits(right(path)), ['logits']),
    'softmax twice': (lambda code, path: softmax(code.scores(right(path))), ['double softmax']),
    'softmax twice, uncalibrated': (lambda code, path: softmax(softmax(code.logits(right(path)))), ['double softmax']),
    'percent': (lambda code, path: 100 * code.scores(right(path)), ['percent']),
    'order': (lambda code, path: code.scores(right(path))[ORDER], ['class order']),
    'order reversed': (lambda code, path: code.scores(right(path))[::-1], ['class order']),
    'order of names': (
        lambda code, path: (made.CLASSES[::-1][int(code.logits(right(path)).argmax())],
                            float(code.scores(right(path)).max())), ['class order']),
    'order and BGR': (lambda code, path: code.scores(right(path))[ORDER] if 'turned' not in path else
                      code.scores(crop(load(path, exif=False), S))[ORDER], ['class order', 'exif']),
    'BGR': (lambda code, path: code.scores(right(path)[..., ::-1]), ['BGR']),
    'bilinear': (lambda code, path: code.scores(bilinear(path)), ['filter']),
    'BGR and bilinear': (lambda code, path: code.scores(bilinear(path)[..., ::-1]), ['BGR', 'filter']),
    'whole image': (lambda code, path: code.scores(np.asarray(load(path).resize((S, S), 3))), ['no crop']),
    'BGR, class alone': (lambda code, path: code.decision(right(path)[..., ::-1]), ['BGR']),
    'turned by 180': (lambda code, path: code.scores(right(path)[::-1, ::-1]), ['rotation']),
    'adapter not merged': (lambda code, path: softmax(code.bare_logits(right(path)) / made.TEMPERATURE), ['adapter']),
    'adapter not merged, class alone': (
        lambda code, path: made.CLASSES[int(code.bare_logits(right(path)).argmax())], ['adapter']),
    'letterbox': (lambda code, path: code.scores(np.asarray(ImageOps.pad(load(path), (S, S), 3))), ['padding']),
    'EXIF': (lambda code, path: code.scores(crop(load(path, exif=False), S)), ['exif']),
    'alpha': (lambda code, path: code.scores(crop(load(path, background=(0, 0, 0)), S)), ['alpha']),
    'chroma': (lambda code, path: code.scores(crop(coarse_chroma(load(path)) if is_jpeg(path) else load(path), S)),
               ['JPEG decoder']),
    'statistics of 0.5': (
        lambda code, path: softmax(code.float_logits(normalized(right(path), 0.5, 0.5)) / made.TEMPERATURE),
                          ['normalization']),
    'not normalized': (lambda code, path: softmax(code.float_logits(right(path) / 255) / made.TEMPERATURE), ['range']),
    'threshold too high': (lambda code, path: code.decision(right(path), 0.75), ['threshold']),
    'threshold too low': (lambda code, path: code.decision(right(path), 0.5), ['threshold']),
    'threshold for raw scores': (
        lambda code, path: code.decision(right(path), 0) if softmax(code.logits(right(path))).max() >= made.THRESHOLD
        else 'unknown', ['calibration']),
    'no threshold': (lambda code, path: dict(label=code.decision(right(path), 0), answered=True), ['threshold']),
    'other classes': (lambda code, path: 'horse', ['classes']),
    'too many scores': (lambda code, path: np.zeros(7), ['classes']),
}  # fmt: skip


@pytest.mark.parametrize('mistake', at_night(WRONG, 'statistics of 0.5', 'bilinear', 'turned by 180'))
def test_mistakes_are_named(code, mistake):
    predict, expected = WRONG[mistake]
    assert code.names(lambda path: predict(code, path)) == expected


RIGHT = {
    'scores': lambda code, path: code.scores(right(path)),
    'batch': lambda code, path: code.scores(right(path))[None].astype(np.float32),
    'list': lambda code, path: code.scores(right(path)).tolist(),
    'decision': lambda code, path: code.decision(right(path)),
    'number': lambda code, path: int(code.logits(right(path)).argmax()),
    'class and score': lambda code, path: (code.decision(right(path)), float(code.scores(right(path)).max())),
    'dict': lambda code, path: dict(label=code.decision(right(path)), score=code.scores(right(path)).max()),
    'torchvision': lambda code, path: code.scores(torch_crop(path, S).permute(1, 2, 0).numpy()),
    'own network': lambda code, path: softmax(code.float_logits(normalized(right(path))) / made.TEMPERATURE),
    'of Hugging Face': lambda code, path: [
        dict(label=name, score=score) for name, score in zip(made.CLASSES, code.scores(right(path)), strict=True)
    ],
}


def test_right_answers_are_not_blamed(code):
    assert {name: found for name, predict in RIGHT.items()
            if (found := code.names(lambda path, predict=predict: predict(code, path)))} == {}  # fmt: skip


def test_the_artifacts_own_runtime_is_right(code):
    from hybridcls.apis.artifact.shipped.runtime import Model

    assert code.names(lambda path: Model(code.folder).predict(path)) == []


def test_the_threshold_is_bracketed(code):
    def predict(path):
        return code.decision(right(path), 0.7)

    given = collect(predict, code.goldens, as_array=False)
    (found,) = explain(given, predict, code.goldens, code.stages, code.sidecar, code.graph)
    low, high = (float(one) for one in found.message.split('between ')[1].split(' on,')[0].split(' and '))
    assert low < 0.7 <= high
    assert high - low < 0.2


@pytest.mark.parametrize(
    ('value', 'message'), [(object(), 'expected'), ({'x': 1}, 'keys'), (9, 'expected a class from 0 to 5, got 9')]
)
def test_what_is_no_answer(value, message):
    with pytest.raises(ValueError, match=message):
        read_answer(value, made.CLASSES)
