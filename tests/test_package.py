"""The installed package contains the configs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
