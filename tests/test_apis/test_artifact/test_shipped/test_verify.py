"""verify.py as it is shipped: a process without torch, hybridcls or OpenCV, and what it says and returns."""

import json
import shutil
import subprocess
import sys
import textwrap

import hand_made_artifact as made
import numpy as np
import pytest

from hybridcls.apis.artifact.shipped.runtime import with_digests
from hybridcls.apis.artifact.shipped.verify import load_function, to_array, verify

S = 32
BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'torchvision', 'cv2', 'hybridcls', 'mmengine', 'mmcv', 'scipy', 'onnx'):
            raise ImportError(f'{name} is blocked')
sys.meta_path.insert(0, Blocker())
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.fixture(scope='module')
def original(tmp_path_factory):
    return made.make_artifact(tmp_path_factory.mktemp('artifact') / 'A', S)[0]


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / 'A')


def run(folder, *options, cwd=None):
    """Run verify.py in a process that lacks all but numpy, Pillow and onnxruntime."""
    command = [sys.executable, '-c', BLOCKED, 'verify.py', *options]
    done = subprocess.run(command, cwd=cwd or folder, capture_output=True, text=True, env={})
    return done.returncode, done.stdout, done.stderr


def change(folder, **changes):
    """Change model.json, by hand."""
    sidecar = json.loads((folder / 'model.json').read_text())
    for path, value in changes.items():
        *keys, last = path.split('__')
        part = sidecar
        for key in keys:
            part = part[int(key) if key.isdigit() else key]
        part[last] = value
    (folder / 'model.json').write_text(json.dumps(sidecar))


CODE = """
import numpy as np
from PIL import Image, ImageOps
import runtime
model = runtime.Model('.', check_files=False)

def right(path):
    return model.prepare(path)

def bgr(path):
    return model.prepare(path)[..., ::-1]

def predict(path):
    return model.predict(path)

def broken(path):
    raise RuntimeError('no disk')
"""


def test_it_runs_with_numpy_pillow_and_onnxruntime_alone(folder, tmp_path):
    (folder / 'my_code.py').write_text(CODE)
    code, out, err = run(folder)
    assert (code, err) == (0, '')
    assert 'all is right' in out
    code, out, _ = run(folder, '--pipeline', 'my_code.py:right', '--predict', 'my_code.py:predict')
    assert code == 0, out
    code, out, _ = run(folder, '--pipeline', 'my_code.py:bgr')
    assert code == 1
    assert 'MISMATCH  BGR: ' in out
    assert 'COLOR_BGR2RGB' in out
    code, out, _ = run(folder, '--pipeline', 'my_code.py:bgr', '--json')
    found = json.loads(out)
    assert (code, found['ok'], [one['name'] for one in found['findings']]) == (1, False, ['BGR'])


@pytest.mark.parametrize(('options', 'sentence'), [
    (['--pipeline', 'my_code.py:rigth'], "has no function 'rigth'"),
    (['--pipeline', 'my_code.py'], 'expected FILE.py:FUNCTION'),
    (['--pipeline', 'nowhere.py:right'], 'there is no file nowhere.py'),
    (['--pipeline', 'my_code.py:broken'], 'no disk'),
    (['--model', 'nowhere.onnx'], 'there is no file nowhere.onnx'),
    (['nowhere'], 'nowhere'),
])  # fmt: skip
def test_an_error_of_the_user_is_a_sentence(folder, options, sentence):
    (folder / 'my_code.py').write_text(CODE)
    code, out, err = run(folder, *options)
    assert (code, out) == (2, '')
    assert sentence in err
    assert 'Traceback' not in err
    assert len(err.splitlines()) == 1


def test_changed_and_missing_files_are_named(folder):
    (folder / 'runtime.py').write_text((folder / 'runtime.py').read_text() + '\n')
    (folder / 'golden' / 'tiny.jpg').unlink()
    report = run(folder, '--json')
    names = [one['message'] for one in json.loads(report[1])['findings']]
    assert report[0] == 1
    assert any('runtime.py has changed' in one for one in names)
    assert any('golden/tiny.jpg is missing' in one for one in names)


def test_a_damaged_graph_is_named(folder):
    (folder / 'model.onnx').write_bytes(b'damaged')
    code, out, err = run(folder)
    assert code == 1
    assert 'model.onnx has changed' in out
    assert err == ''


@pytest.mark.parametrize(('changes', 'names'), [
    (dict(preprocessing__steps__0__filter='bilinear'), ['filter']),
    (dict(preprocessing__steps__0__size=[40, 40]), ['crop ratio']),
    (dict(preprocessing__decode__background=[0, 0, 0]), ['alpha']),
    (dict(preprocessing__steps__1__size=[28, 28]), ['size']),
    (dict(calibration__classes=made.CLASSES[::-1]), ['threshold']),
    (dict(model__opset=17), ['opset']),
])  # fmt: skip
def test_a_changed_sidecar_is_named(folder, changes, names):
    change(folder, **changes)
    assert [one.name for one in verify(str(folder)).findings] == names


def test_what_is_allowed_is_a_note(folder):
    change(folder, model__opset=17)
    report = verify(str(folder), allow=['opset'])
    assert report.ok
    assert any('opset' in one for one in report.notes)


def test_to_array():
    torch = pytest.importorskip('torch')
    image = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    for value in (
        image,
        torch.tensor(image, requires_grad=True),
        [image],
        {'a': image, 'b': 'x'},
        torch.tensor(image).bfloat16(),
    ):
        assert to_array(value).squeeze().tolist() == image.tolist()
    with pytest.raises(ValueError, match='2 images'):
        to_array({'a': image, 'b': image})


@pytest.mark.parametrize('name', ['code_with_dataclass', 'json'])  # of a module that is there, too
def test_code_with_dataclasses_is_loaded(tmp_path, name):
    (tmp_path / f'{name}.py').write_text(
        'from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n'
        '@dataclass\nclass Answer:\n    label: str\n\n\ndef answer(path):\n    return Answer(path)\n'
    )
    assert load_function(f'{tmp_path / name}.py:answer', '--predict')('a.png').label == 'a.png'
    assert sys.modules['json'] is json


@pytest.mark.parametrize('tolerance', ['0', '-1', 'nan'])
def test_a_tolerance_is_a_number_above_0(folder, tolerance):
    status, _, error = run(folder, f'--tolerance={tolerance}')
    assert (status, error.startswith('verify: expected --tolerance to be a number above 0, got')) == (2, True)


def test_load_function(tmp_path):
    (tmp_path / 'code.py').write_text(
        textwrap.dedent("""
        import numpy
        def double(x):
            return 2 * x
        """)
    )
    assert load_function(f'{tmp_path / "code.py"}:double', '--pipeline')(3) == 6
    (tmp_path / 'bad.py').write_text('import nothing_of_this_name')
    with pytest.raises(ValueError, match='cannot be imported'):
        load_function(f'{tmp_path / "bad.py"}:double', '--pipeline')


@pytest.mark.parametrize(
    'path', ['model__file', 'golden__file', 'preprocessing__steps__0__op', 'preprocessing__steps__0__filter']
)
def test_a_part_that_was_cut_out_is_named(folder, path):
    before = (folder / 'model.json').read_text()
    sidecar = json.loads(before)
    *keys, last = path.split('__')
    part = sidecar
    for key in keys:
        part = part[int(key) if key.isdigit() else key]
    del part[last]
    (folder / 'model.json').write_text(json.dumps(sidecar))
    code, out, err = run(folder)
    assert (code, 'Traceback' in err, 'model.json is damaged: a part' in err) == (2, False, True), out + err
    before = with_digests(json.loads(before))['digests']
    (folder / 'model.json').write_text(json.dumps(sidecar | dict(digests=before)))
    code, out, err = run(folder)
    assert (code, f"model.json was edited in '{keys[0]}'" in out + err) == (1, True), out + err
