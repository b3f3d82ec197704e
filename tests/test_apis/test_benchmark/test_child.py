"""A candidate in a process of its own."""

import subprocess
import sys

import pytest
from tiny_artifact import write_tiny_artifact

from hybridcls.apis.benchmark.candidate import Candidate
from hybridcls.apis.benchmark.child import Child, ChildError


@pytest.mark.nightly
def test_it_answers_says_its_memory_and_why_it_cannot(tmp_path):
    folder = str(write_tiny_artifact(tmp_path / 'artifact'))
    one, broken = Child(Candidate('a', None, folder, 1)), Child(Candidate('b', None, str(tmp_path / 'none'), 1))
    try:
        one.wait()
        assert one.ask('prepare', 2) > 0
        assert one.ask('run') > 0
        memory = one.ask('memory')
        assert memory['peak'] is None or memory['peak'] > memory['beyond'] >= 0
        with pytest.raises(ChildError):
            broken.wait()
        with pytest.raises(ChildError):
            one.ask('answers', 'no images')
        assert one.ask('run') > 0  # it lives on
        one._process.kill()
        with pytest.raises(ChildError, match='has ended'):
            one.ask('run')
    finally:
        one.close()
        broken.close()


@pytest.mark.nightly
def test_a_child_imports_without_warnings(tmp_path):
    """mmcv warns of operations that nothing here uses, in a process that has no console of its own to be quiet on."""
    program = (
        'from hybridcls.apis.benchmark.candidate import Candidate\n'
        'from hybridcls.apis.benchmark.child import Child\n'
        f'one = Child(Candidate("a", None, {str(write_tiny_artifact(tmp_path / "artifact"))!r}, 1))\n'
        'one.wait()\none.close()\n'
    )
    quiet = [sys.executable, '-c', f'import hybridcls.ignored_warnings\n{program}']
    assert subprocess.run(quiet, capture_output=True, text=True, check=True, cwd=tmp_path).stderr == ''
