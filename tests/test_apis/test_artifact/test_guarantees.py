"""What an artifact promises, asked of the artifact itself: its threshold, and its alarm, through onnxruntime.

The graph is written by hand: the first pixel of an image has the logits of three classes.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from scipy.stats import binom

from hybridcls.apis.artifact.reference import add_reference
from hybridcls.apis.artifact.shipped import runtime
from hybridcls.apis.artifact.sidecar import write_sidecar
from hybridcls.apis.calibration_fit import LabelledScores, fit_calibration
from hybridcls.apis.image_inputs import read_inputs

CLASSES = ['cat', 'dog', 'owl']
SIZE = 6
RISK, CONFIDENCE, RESAMPLINGS = 0.1, 0.9, 40


def drawn(count, seed, sharpness=2.0, light=0):
    """Images whose first pixel has logits that are too sure, and their labels."""
    draw = np.random.default_rng(seed)
    images = (draw.integers(60, 120, (count, SIZE, SIZE, 3)) + light).astype(np.uint8)
    logits = draw.normal(size=(count, 3)) * sharpness
    labels = (logits + draw.gumbel(size=(count, 3))).argmax(1)
    images[:, 0, 0] = np.clip(np.rint(128 + 16 * 1.5 * logits), 0, 255)
    return images, labels


def save(folder, images, labels):
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = Path(folder) / CLASSES[label] / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    """An artifact without calibration and reference."""
    folder = tmp_path_factory.mktemp('artifact')
    nodes = [
        helper.make_node('Cast', ['images'], ['floats'], to=TensorProto.FLOAT),
        helper.make_node('Slice', ['floats', 'zeros', 'ones', 'sides'], ['pixel']),
        helper.make_node('ReduceMean', ['pixel', 'sides'], ['bytes'], keepdims=0),
        helper.make_node('Sub', ['bytes', 'middle'], ['centered']),
        helper.make_node('Div', ['centered', 'sixteen'], ['logits']),
        helper.make_node('Softmax', ['logits'], ['probabilities']),
        helper.make_node('ReduceMean', ['floats', 'sides'], ['embedding'], keepdims=0),
    ]
    whole = {'zeros': [0, 0], 'ones': [1, 1], 'sides': [1, 2]}
    known = [helper.make_tensor(name, TensorProto.INT64, [2], values) for name, values in whole.items()]
    known += [
        helper.make_tensor(name, TensorProto.FLOAT, [], [value])
        for name, value in (('middle', 128.0), ('sixteen', 16.0))
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ['N', 3])
        for name in ('logits', 'probabilities', 'embedding')
    ]
    images = helper.make_tensor_value_info('images', TensorProto.UINT8, ['N', SIZE, SIZE, 3])
    graph = helper.make_graph(nodes, 'by hand', [images], outputs, known)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10), folder / 'model.onnx'
    )
    for name in ('runtime.py', 'alarm.py'):
        shutil.copyfile(Path(runtime.__file__).with_name(name), folder / name)
    decode = dict(background=None, exif=True, depth='scale', gray=False, cmyk='pillow')
    write_sidecar(folder, dict(
        format='hybridcls artifact', version=1, classes=CLASSES, folders=None, multi_label=False, calibration=None,
        model=dict(file='model.onnx', format='onnx', input=dict(name='images', shape=['N', SIZE, SIZE, 3]),
                   outputs={value.name: {} for value in outputs}),
        preprocessing=dict(decode=decode, steps=[], size=[SIZE, SIZE]), drift=None,
        metrics={}, provenance=dict(weights_sha256=''),
    ))  # fmt: skip
    return folder


@pytest.fixture(scope='module')
def artifact(plain, tmp_path_factory):
    """The same with held-out images."""
    folder = shutil.copytree(plain, tmp_path_factory.mktemp('more') / 'artifact')
    save(folder.parent / 'held_out', *drawn(200, 1))
    items = list(read_inputs(str(folder.parent / 'held_out')).items)
    names = 'brightness, color, detail, grain, least_confidence, norm, distance'
    notes = add_reference(folder, items)
    assert notes[-1] == f'The alarm compares with 200 held-out images in {names}.'
    assert any('the embedding and the class of each of the 200 held-out images' in note for note in notes)
    return folder


def test_the_threshold_of_a_calibration_holds_in_the_artifact(plain):
    """As test_risk_threshold.py, but the scores are onnxruntime's, and runtime.py decides."""
    model = runtime.Model(plain)
    images, labels = drawn(1200, 0)
    outputs = model.run(images)
    names = np.array(CLASSES)[labels]
    draw, risks, missed = np.random.default_rng(0), [], []
    for _ in range(RESAMPLINGS):
        rows = draw.integers(0, len(images), 500)
        given = LabelledScores(torch.from_numpy(outputs['probabilities'][rows]), torch.from_numpy(labels[rows]))
        report = fit_calibration(given, CLASSES, 'temperature', RISK, CONFIDENCE, 0.1, measure=False)
        model.sidecar['calibration'] = report.calibration.to_json()
        answers = model.decide(outputs)
        answered = np.array([answer.get('answered', False) for answer in answers])
        assert [answer['class'] == 'unknown' for answer in answers if 'answered' in answer] == (
            [] if report.calibration.risk is None else (~answered).tolist()
        )
        wrong = np.array([answer['class'] for answer in answers]) != names
        risks.append(wrong[answered].mean() if answered.any() else 0)
        missed.append(
            np.mean([name not in answer['prediction_set'] for name, answer in zip(names, answers, strict=True)])
        )
    assert (np.array(risks) > RISK).sum() <= binom.ppf(0.99, RESAMPLINGS, 1 - CONFIDENCE)
    assert np.mean(risks) > RISK / 3  # it answers
    assert np.mean(missed) <= 0.1 + 0.01
    assert (model.run(images)['probabilities'].argmax(1) != labels).mean() > 2 * RISK  # without, it would not hold


def test_a_calibration_travels(plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / 'artifact')
    model = runtime.Model(folder)
    images, labels = drawn(400, 2)
    outputs = model.run(images)
    given = LabelledScores(torch.from_numpy(outputs['probabilities']), torch.from_numpy(labels))
    model.sidecar['calibration'] = fit_calibration(given, CLASSES, risk=0.2).calibration.to_json()
    write_sidecar(folder, model.sidecar)
    later = runtime.Model(folder).decide(outputs)
    assert later == model.decide(outputs)
    assert {answer['class'] for answer in later} == {*CLASSES, 'unknown'}


def test_the_runtime_asks_the_alarm(artifact):
    model = runtime.Model(artifact)
    same, other = drawn(300, 3)[0], drawn(60, 4, light=25)[0]
    alarm = model.alarm(seed=0)
    answers = list(model.answers(list(same), alarm=alarm))
    assert answers == model.predict(list(same))
    assert (alarm.images, alarm.alarm_at) == (300, None)
    assert str(alarm).startswith('300 images, no alarm (p = ')
    list(model.answers(list(other), alarm=alarm))
    assert 300 < alarm.alarm_at < 340
    assert str(alarm).startswith(f'ALARM at image {alarm.alarm_at} of 360 (p = ')
    assert str(alarm).endswith('these images differ from the held-out ones, in brightness, norm.')


def test_no_alarm_over_streams_of_the_runtime(artifact):
    """Images as the held-out ones: 0.05 of 30 streams, and the 99 % bound."""
    model = runtime.Model(artifact)
    alarms = []
    for seed in range(30):
        alarm = model.alarm(alpha=0.05, seed=seed)
        images, _ = drawn(100, 100 + seed)
        alarms.append(alarm.update(model.run(images), images)['alarm'])
    assert sum(alarms) <= binom.ppf(0.99, 30, 0.05)


def ask(folder, *words):
    done = subprocess.run(
        [sys.executable, '-I', folder / 'runtime.py', *map(str, words)], capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_in_a_shell_a_state_goes_from_call_to_call(artifact, tmp_path):
    """Class folders come in random order: one class after the other would be a shift."""
    save(tmp_path / 'same', *drawn(150, 5))
    save(tmp_path / 'dark', *drawn(40, 6, light=-40))
    state = tmp_path / 'state.json'
    status, lines, said = ask(artifact, '--alarm', '--state', state, tmp_path / 'same')
    assert (status, len(lines)) == (0, 150)
    assert said.startswith('150 images, no alarm')
    classes = [Path(json.loads(line)['path']).parent.name for line in lines]
    assert len(set(classes[:20])) == 3
    status, lines, said = ask(artifact, '--alarm', '--state', state, tmp_path / 'dark')
    assert (status, len(lines)) == (1, 40)
    assert 'of 190' in said
    assert said.startswith('ALARM at image 1')


def test_in_a_shell_what_is_missing_is_a_sentence(plain, artifact, tmp_path):
    save(tmp_path / 'images', *drawn(3, 5))
    status, _, said = ask(plain, '--alarm', tmp_path / 'images')
    assert status == 2
    assert said.endswith('Export it with --data HELD_OUT.\n')
    assert ask(plain, '--state', 'a.json', tmp_path / 'images')[0] == 2
    (tmp_path / 'empty').mkdir()
    assert ask(plain, tmp_path / 'empty')[2] == f'{tmp_path / "empty"} contains no image.\n'


def test_fewer_than_twenty_images_are_no_reference(plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / 'artifact')
    save(tmp_path / 'held_out', *drawn(20, 1))
    broken = next((tmp_path / 'held_out').rglob('*.png'))
    broken.write_bytes(b'no image')
    with pytest.raises(ValueError, match='expected at least 20 held-out images that can be read, got 19'):
        add_reference(folder, list(read_inputs(str(tmp_path / 'held_out')).items))


def test_labels_that_the_model_lacks_are_told(plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / 'artifact')
    save(tmp_path / 'held_out', *drawn(40, 1))
    (tmp_path / 'held_out' / 'owl').rename(tmp_path / 'held_out' / 'newt')
    notes = add_reference(folder, list(read_inputs(str(tmp_path / 'held_out')).items))
    assert notes[0] == 'Labels that are no class of the model count as none: newt.'
    assert np.load(folder / 'reference.npz')['class_counts'][2] == 0
    flat = [item._replace(label='monday') for item in read_inputs(str(tmp_path / 'held_out')).items]
    add_reference(folder, flat)
    assert 'class_counts' not in np.load(folder / 'reference.npz')
