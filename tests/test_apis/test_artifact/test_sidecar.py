"""A whole artifact: what its sidecar says, and that it answers as predict does where torch cannot be imported."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from exportable_models import CASES, write_case
from exported_model import exported_model
from trained_checkpoints import CLASSES

import hybridcls
from hybridcls.apis.artifact.shipped.runtime import Model, file_digest
from hybridcls.apis.artifact.sidecar import read_sidecar, write_artifact, write_sidecar
from hybridcls.apis.artifact.verification import verify_artifact
from hybridcls.apis.trained_model import read_trained_model

pytest.importorskip('onnxruntime', reason='needs the extra: pip install hybridcls[export]')
pytest.importorskip('onnxscript', reason='needs the extra: pip install hybridcls[export]')

BLOCKED = ('torch', 'hybridcls', 'cv2', 'mmengine', 'mmcv', 'mmpretrain', 'timm', 'scipy', 'sklearn')
PROGRAM = f"""
import importlib.abc, json, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition('.')[0] in {BLOCKED!r}:
            raise ImportError(f'{{name}} must not be imported')

sys.meta_path.insert(0, Blocker())
sys.path.insert(0, sys.argv[1])
from runtime import Model
model = Model()
print(json.dumps(model.predict(sys.argv[2:], batch_size=5)))
assert not set(sys.modules) & set({BLOCKED!r})
"""


@pytest.fixture(scope='module')
def photos(digit_folder):
    golden = [path for path in sorted((exported_model().folder / 'golden').iterdir()) if path.suffix != '.npz']
    return list(map(str, [*sorted((digit_folder / 'val' / 'one').iterdir()), *golden]))


def run(*command, **options):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, **options)


def test_answers_without_torch_are_those_of_predict(photos, tmp_path):
    (tmp_path / 'program.py').write_text(PROGRAM)
    done = run('-I', tmp_path / 'program.py', exported_model().folder, *photos, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert len({answer['class'] for answer in answers}) > 2  # 'unknown' among them
    model = hybridcls.load(exported_model().checkpoint, 'cpu')
    for got, expected in zip(answers, model(photos), strict=True):
        assert got['path'] == expected.path
        assert (got['class'], got['answered']) == (expected.class_name, expected.answered)
        assert got['prediction_set'] == list(expected.prediction_set)
        assert [name for name, _ in got['top']] == [name for name, _ in expected.top]
        np.testing.assert_allclose([score for _, score in got['top']], [s for _, s in expected.top], atol=1e-5)
        for name, value in expected.uncertainties.items():
            np.testing.assert_allclose(got[name], value, atol=1e-5)


def test_in_a_shell(photos, tmp_path):
    script = exported_model().folder / 'runtime.py'
    done = run(script, photos[0], tmp_path / 'nowhere.png', '--top-k', '2', cwd=tmp_path)
    assert done.returncode == 1
    answer, unread = sorted(map(json.loads, done.stdout.splitlines()), key=lambda line: 'error' in line)
    assert answer['path'] == photos[0]
    assert len(answer['top']) == 2
    assert unread['error'].startswith(f'cannot read {tmp_path / "nowhere.png"}')
    folder = run(script, os.path.dirname(photos[0]), cwd=tmp_path)
    assert folder.returncode == 0
    assert len(folder.stdout.splitlines()) == len(os.listdir(os.path.dirname(photos[0])))


def test_what_the_sidecar_says():
    sidecar = read_sidecar(exported_model().folder)
    assert sidecar['classes'] == list(CLASSES)
    assert sidecar['preprocessing']['size'] == sidecar['model']['input']['shape'][1:3] == [64, 64]
    assert (sidecar['multi_label'], sidecar['heads']) == (False, None)
    assert sidecar['calibration']['risk']['threshold'] == 0.6
    files = {path.relative_to(exported_model().folder).as_posix() for path in exported_model().folder.rglob('*')}
    assert set(sidecar['files']) == {name for name in files if '.' in name and '__pycache__' not in name} - {
        'model.json'
    }
    assert {'model.onnx', 'config.py', 'runtime.py', 'golden/golden.npz'} <= set(sidecar['files'])
    folder = str(exported_model().folder.parent)
    assert folder not in json.dumps(sidecar)


def test_an_artifact_that_was_changed_says_which_file(tmp_path):
    folder = tmp_path / 'artifact'
    shutil.copytree(exported_model().folder, folder)
    content = bytearray((folder / 'model.onnx').read_bytes())
    content[len(content) // 2] ^= 1
    (folder / 'model.onnx').write_bytes(content)
    (folder / 'golden' / 'wide.png').unlink()
    with pytest.raises(ValueError, match=r'golden/wide.png is missing; model.onnx has changed'):
        Model(folder)
    done = run(folder / 'runtime.py', 'a.png')
    assert done.returncode == 2
    assert 'model.onnx has changed' in done.stderr
    assert 'Traceback' not in done.stderr


def edited(folder, key, edit):
    sidecar = json.loads((folder / 'model.json').read_text(encoding='utf8'))
    sidecar[key] = edit(sidecar[key])
    (folder / 'model.json').write_text(json.dumps(sidecar, indent=3, sort_keys=True), encoding='utf8')
    return sidecar


@pytest.mark.parametrize(('key', 'edit', 'said'), [
    ('classes', lambda old: [f'other {name}' for name in old], 'the calibration is for the classes'),
    ('folders', lambda old: ['b', 'a', 'c', 'd'], "was edited in 'folders'"),
    ('calibration', lambda old: {**old, 'risk': {**old['risk'], 'threshold': 0.61}}, "was edited in 'calibration'"),
    ('class_thresholds', lambda old: [0.5] * 4, "was edited in 'class_thresholds'"),
    ('metrics', lambda old: {**old, 'accuracy': dict(value=100.0)}, "was edited in 'metrics'"),
    ('preprocessing', lambda old: {**old, 'size': [65, 64]}, "was edited in 'preprocessing'"),
    ('files', lambda old: {name: one for name, one in old.items() if name != 'runtime.py'}, "was edited in 'files'"),
    ('drift', lambda old: dict(file='../reference.npz'), 'reference.npz is not listed'),
])  # fmt: skip
def test_a_sidecar_that_was_edited_says_where(tmp_path, key, edit, said):
    folder = shutil.copytree(exported_model().folder, tmp_path / 'artifact')
    edited(folder, key, edit)
    with pytest.raises(ValueError, match=said):
        Model(folder)
    report = verify_artifact(folder)
    assert {one.name for one in report.findings} & {'file', 'threshold'}


def test_classes_in_another_order_are_noticed_without_a_calibration_too(tmp_path):
    folder = shutil.copytree(exported_model().folder, tmp_path / 'artifact')
    sidecar = json.loads((folder / 'model.json').read_text(encoding='utf8'))
    write_sidecar(folder, sidecar | dict(calibration=None))
    edited(folder, 'classes', lambda old: old[::-1])
    with pytest.raises(ValueError, match=r"model.json was edited in 'classes'\."):
        Model(folder)
    assert [one.name for one in verify_artifact(folder).findings] == ['file']
    sidecar = edited(folder, 'classes', lambda old: old[::-1])
    assert Model(folder).classes == sidecar['classes']  # another layout of the text is no edit
    del sidecar['digests']
    (folder / 'model.json').write_text(json.dumps(sidecar), encoding='utf8')
    assert any('no digests' in one for one in verify_artifact(folder).notes)


@pytest.mark.parametrize('key', ['model', 'preprocessing', 'classes', 'provenance', 'files'])
def test_a_sidecar_that_lacks_a_part_is_said_in_a_sentence(tmp_path, key):
    folder = shutil.copytree(exported_model().folder, tmp_path / 'artifact')
    sidecar = json.loads((folder / 'model.json').read_text(encoding='utf8'))
    del sidecar[key]
    (folder / 'model.json').write_text(json.dumps(sidecar), encoding='utf8')
    for check in (True, False):
        with pytest.raises(ValueError, match=f'damaged: it has no {key}'):
            Model(folder, check_files=check)


def test_files_are_listed_as_they_are(tmp_path):
    (tmp_path / 'golden').mkdir()
    (tmp_path / 'golden' / 'a.png').write_bytes(b'abc')
    (tmp_path / '__pycache__').mkdir()
    (tmp_path / '__pycache__' / 'b.pyc').write_bytes(b'')
    write_sidecar(tmp_path, dict(classes=['ä']))
    text = (tmp_path / 'model.json').read_text(encoding='utf8')
    assert json.loads(text)['files'] == {
        'golden/a.png': dict(sha256=file_digest(str(tmp_path / 'golden' / 'a.png')), bytes=3)
    }
    assert 'ä' in text


@pytest.mark.parametrize(
    'name',
    ['MultiLabelHead', "mmpretrain's MultiLabelLinearClsHead", 'EnsembleClassifier of MultiLabelHead', 'SupConHead',
     'MultiHead'],
)  # fmt: skip
def test_what_the_sidecar_says_of_heads(tmp_path, name):
    trained = read_trained_model(write_case(tmp_path / 'case', CASES[name]))
    (tmp_path / 'model.onnx').write_bytes(b'')
    sidecar = write_artifact(tmp_path, trained, dict(file='model.onnx'), lambda images: dict(embedding=images[:, 0, 0]))
    thresholds = [
        [head.thr] * 4 if hasattr(head, 'thr') else head.thresholds.values.tolist()
        for head in (part.head for part in getattr(trained.model, 'members', [trained.model]))
        if 'MultiLabel' in name
    ]
    assert sidecar['multi_label'] == bool(thresholds)
    if thresholds:
        np.testing.assert_allclose(sidecar['class_thresholds'], np.mean(thresholds, axis=0), rtol=1e-6)
    main = {head: said['main'] for head, said in (sidecar['heads'] or {}).items()}
    assert main == (dict(face=True, evidence=False) if name == 'MultiHead' else {})
    assert len(sidecar['classes']) == (0 if name == 'SupConHead' else 4)
