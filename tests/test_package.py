"""The installed package contains the configs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hybridcls.cli.find_config import shipped_configs

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_configs_of_the_installed_package(tmp_path):
    """Built as for a wheel, ``hybridcls::`` paths find the configs, in mmengine's ``_base_`` and in ours."""
    subprocess.run(
        [sys.executable, 'setup.py', '-q', 'build_py', '--build-lib', str(tmp_path / 'lib')],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    inside = {path.name for path in (tmp_path / 'lib/hybridcls/.mim').iterdir()}
    assert inside == {'configs', 'tools', 'model-index.yml'}
    assert (tmp_path / 'lib/hybridcls/apis/fidelity/official_numbers.npz').is_file()
    assert (tmp_path / 'lib/hybridcls/datasets/digits.npz').is_file()
    child = tmp_path / 'child.py'
    child.write_text("_base_ = 'hybridcls::digits/adaface_hybrid.py'\nmodel = dict(head=dict(margin=0.25))\n")
    code = (
        'import hybridcls; from mmengine.config import Config; from hybridcls.engine import load_config\n'
        f'cfg = Config.fromfile({str(child)!r})\n'
        "print(hybridcls.__file__, cfg.model.head.type, cfg.model.head.margin, end=' ')\n"
        "print(load_config('hybridcls::digits/adaface_hybrid.py').model.head.type)\n"
    )
    out = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(tmp_path / 'lib')},
    )
    assert out.stdout.split()[-4:] == [
        str(tmp_path / 'lib/hybridcls/__init__.py'),
        'AdaFaceHead',
        '0.25',
        'AdaFaceHead',
    ], out.stderr

    def command(*arguments):
        words = [sys.executable, '-m', 'hybridcls', *arguments]
        env = {**os.environ, 'PYTHONPATH': str(tmp_path / 'lib')}
        return subprocess.run(words, cwd=tmp_path / 'lib', capture_output=True, text=True, env=env)

    listed = json.loads(command('list', '--json').stdout)['items']
    assert {row['name'] for row in listed} == set(shipped_configs())
    unknown = command('train', 'digits/ce_hybird')
    assert unknown.returncode == 2
    assert "Did you mean 'digits/ce_hybrid'" in unknown.stderr


@pytest.mark.nightly
def test_the_command_of_a_wheel_in_an_empty_folder(tmp_path):
    """Install the wheel, and train, test and list by bare names in a folder with nothing in it."""
    pip = [sys.executable, '-m', 'pip', '-q', '--disable-pip-version-check']
    wheel = ['wheel', '--no-deps', '--no-build-isolation', '-w', str(tmp_path / 'wheel'), str(copied(tmp_path))]
    subprocess.run([*pip, *wheel], check=True)
    (file,) = (tmp_path / 'wheel').iterdir()
    subprocess.run([*pip, 'install', '--no-deps', '--target', str(tmp_path / 'lib'), str(file)], check=True)
    user = tmp_path / 'user'
    user.mkdir()

    def command(*arguments):
        env = {**os.environ, 'PYTHONPATH': str(tmp_path / 'lib'), 'HF_HUB_OFFLINE': '1'}
        words = [sys.executable, str(tmp_path / 'lib' / 'bin' / 'hybridcls'), *arguments]
        done = subprocess.run(words, cwd=user, capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert {row['name'] for row in json.loads(command('list', '--json'))['items']} == set(shipped_configs())
    assert 'AdaFaceHead' in command('explain', 'digits/two_phase', 'adaface.model.head.type')
    result = json.loads(command('train', 'digits/ce_vit', '--epochs', '1', '--json'))
    assert (result['work_dir'], result['config'][: len(str(tmp_path))]) == ('work_dirs/ce_vit', str(tmp_path))
    tested = json.loads(command('test', 'work_dirs/ce_vit', '--json'))
    assert tested['checkpoint'] == result['checkpoint']
    assert [path.name for path in user.iterdir()] == ['work_dirs']


def copied(tmp_path):
    """The files that git knows, since a build writes beside them."""
    names = subprocess.run(
        ['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        (tmp_path / 'source' / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / 'source' / name)
    return tmp_path / 'source'
