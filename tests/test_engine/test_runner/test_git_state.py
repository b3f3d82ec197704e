"""The state of a repository."""

import shutil
import subprocess

import pytest

from hybridcls.engine.runner.git_state import git_state

pytestmark = pytest.mark.skipif(shutil.which('git') is None, reason='git is not installed')


def test_commit_and_changes_are_told(tmp_path):
    def git(*arguments):
        who = ['-c', 'user.name=n', '-c', 'user.email=e@example.org']
        return subprocess.run(['git', *who, *arguments], cwd=tmp_path, check=True, capture_output=True).stdout.decode()

    git('init', '-q')
    assert git_state(tmp_path) is None  # no commit
    file = tmp_path / 'a.py'
    file.write_text('1')
    git('add', 'a.py')
    git('commit', '-qm', 'one')
    commit = git('rev-parse', 'HEAD').strip()
    assert git_state(tmp_path) == dict(folder=str(tmp_path), commit=commit, dirty=False)
    (tmp_path / 'new.py').write_text('2')
    assert not git_state(file)['dirty']
    file.write_text('3')
    assert git_state(file)['dirty']
    assert git_state(tmp_path / 'new.py') is None  # of no repository, as an installed package inside of one


def test_without_a_repository_or_git_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert git_state(tmp_path) is None
    monkeypatch.setenv('PATH', '')
    assert git_state(tmp_path) is None
