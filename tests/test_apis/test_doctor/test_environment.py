"""The machine is compared with what hybridcls was run with."""

import importlib.metadata
import shutil
from collections import namedtuple

from hybridcls.apis.doctor import environment
from hybridcls.apis.doctor.environment import available_memory, check_environment, cpu_count


def levels(findings):
    return {(one.level, one.change) for one in findings if one.level != 'note'}


def test_this_machine_is_fine():
    assert levels(check_environment()) == set()
    assert cpu_count() >= 1
    assert available_memory() > 2**20


def test_versions_outside_of_the_range(monkeypatch):
    real = importlib.metadata.version
    versions = dict(timm='0.9.2', mmengine='0.10.7')
    monkeypatch.setattr(importlib.metadata, 'version', lambda name: versions.get(name) or real(name))
    found = levels(environment._versions())
    assert any(level == 'warning' and 'timm>=' in change for level, change in found)
    assert any(level == 'problem' and 'pip uninstall -y mmengine' in change for level, change in found)


def test_a_package_that_is_missing(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == 'scikit-learn':
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, 'version', version)
    assert any('scikit-learn' in change for level, change in levels(environment._versions()) if level == 'problem')


def test_a_full_disk_and_too_many_threads(monkeypatch):
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage(10**12, 10**12, 10**6))
    monkeypatch.setattr('torch.get_num_threads', lambda: 4 * cpu_count())
    changes = {change for _, change in levels(check_environment())}
    assert {'TMPDIR=FOLDER', f'OMP_NUM_THREADS={cpu_count()}'} <= changes
