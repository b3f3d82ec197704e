"""Bounds of requirements/: both ends are there, the oldest set pins the lower ones, and what is installed is within."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]

FOLDER = Path(__file__).resolve().parents[1] / 'requirements'
BOUNDED = ('runtime', 'lora')


def read(name):
    """Requirements of a file by name."""
    lines = (line.split('#')[0].strip() for line in (FOLDER / f'{name}.txt').read_text().splitlines())
    return {requirement.name: requirement.specifier for requirement in map(Requirement, filter(None, lines))}


def bounds_of(specifier):
    """The operators of a specifier with their versions."""
    return {part.operator: part.version for part in specifier}


@pytest.mark.parametrize('file', BOUNDED)
def test_each_has_a_lower_and_an_upper_bound(file):
    assert all(set(bounds_of(specifier)) == {'>=', '<'} for specifier in read(file).values())


def test_the_oldest_set_is_the_lower_bounds():
    pins = {name: bounds_of(specifier)['=='] for name, specifier in read('oldest').items()}
    for file in BOUNDED:
        for name, specifier in read(file).items():
            assert Version(pins[name]) == Version(bounds_of(specifier)['>=']), name


@pytest.mark.parametrize('file', BOUNDED)
def test_what_is_installed_is_within(file):
    for name, specifier in read(file).items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue  # an extra
        assert installed in specifier, f'{name} {installed}'


def test_the_tests_of_the_oldest_set_are_there():
    core = re.search(r'CORE=\((.*?)\)', (ROOT / 'tools/oldest.sh').read_text(encoding='utf8'), re.DOTALL)
    for place in core.group(1).split():
        file, _, name = place.partition('::')
        assert (ROOT / file).exists(), file
        assert f'def {name}' in (ROOT / file).read_text(encoding='utf8') if name else True, place
