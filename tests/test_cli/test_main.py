"""The command `hybridcls`: exit codes, output and imports."""

import os
import subprocess
import sys
from unittest.mock import patch

import pytest
from mmengine.logging import MMLogger

from hybridcls.cli import main as command
from hybridcls.command_line import TRACEBACK_VARIABLE
from hybridcls.compat.mmengine import instances_of
from hybridcls.engine.runner.global_instances import isolated_globals


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['hybridcls', *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    return ended.value.code


@pytest.fixture
def fake(monkeypatch):
    """Replace `explain` by a function of the test."""

    def set_run(run):
        monkeypatch.setattr(command.SUBCOMMANDS['explain'], 'run', run)

    monkeypatch.setenv(TRACEBACK_VARIABLE, '0')
    return set_run


def raising(error):
    def run(args):
        raise error

    return run


def test_help_imports_no_torch():
    code = (
        'import sys\n'
        'from hybridcls.cli.main import main\n'
        f'for words in {[["--help"], *([name, "--help"] for name in command.SUBCOMMANDS)]}:\n'
        '    sys.argv = ["hybridcls", *words]\n'
        '    try:\n'
        '        main()\n'
        '    except SystemExit as ended:\n'
        '        assert ended.code == 0, words\n'
        '    assert "torch" not in sys.modules and "mmpretrain" not in sys.modules, words\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('usage: hybridcls') == 1 + len(command.SUBCOMMANDS)


def test_python_m_hybridcls():
    done = subprocess.run([sys.executable, '-m', 'hybridcls', '--version'], capture_output=True, text=True)
    assert (done.returncode, done.stdout[:10]) == (0, 'hybridcls ')


@pytest.mark.parametrize('found', [0, 1])
def test_subcommand_returns_the_exit_code(monkeypatch, fake, found):
    fake(lambda args: found)
    assert run_main(monkeypatch, 'explain', 'x.py') == found


def test_user_error_exits_with_2_and_one_line(monkeypatch, capsys, tmp_path):
    assert run_main(monkeypatch, 'explain', tmp_path / 'no.py') == 2
    assert 'does not exist' in capsys.readouterr().err
    assert run_main(monkeypatch, 'explian', 'x.py') == 2
    assert run_main(monkeypatch) == 2


def test_a_traceback_leaves_the_exit_code(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv(TRACEBACK_VARIABLE, '0')
    assert run_main(monkeypatch, 'explain', tmp_path / 'no.py', '--traceback') == 2
    assert 'Traceback' in capsys.readouterr().err


def test_bug_exits_with_3(monkeypatch, fake, capsys):
    fake(raising(RuntimeError('broken')))
    assert run_main(monkeypatch, 'explain', 'x.py') == 3
    assert 'RuntimeError: broken' in capsys.readouterr().err


def test_interrupt_exits_with_130(monkeypatch, fake):
    fake(raising(KeyboardInterrupt()))
    assert run_main(monkeypatch, 'explain', 'x.py') == 130


def test_closed_stdout_is_not_an_error(tmp_path):
    code = 'from hybridcls.cli import main as m\nm.explain.run = lambda args: print("x\\n" * 10 ** 6) or 0\nm.main()\n'
    ends = os.pipe()
    process = subprocess.Popen(
        [sys.executable, '-c', code, 'explain', 'x.py'], stdout=ends[1], stderr=subprocess.PIPE, text=True
    )
    os.close(ends[1])
    os.read(ends[0], 10)
    os.close(ends[0])
    _, errors = process.communicate(timeout=240)
    assert (process.returncode, errors) == (0, '')


@pytest.mark.parametrize('moved', [False, True], ids=['no log', 'the log of a folder that was moved'])
def test_the_log_of_a_bug_is_named(monkeypatch, fake, capsys, tmp_path, moved):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    fake(raising(RuntimeError('broken')))
    with patch.dict(instances_of(MMLogger), clear=True), isolated_globals():  # those of other tests may have files
        if moved:
            (tmp_path / 'w').mkdir()
            MMLogger.get_instance('of_a_moved_run', log_file=str(tmp_path / 'w' / 'run.log'))
            (tmp_path / 'w').rename(tmp_path / 'moved')
        assert run_main(monkeypatch, 'explain', 'x.py') == 3
    (log,) = tmp_path.glob('hybridcls_*.log')
    assert f'Repair it there. The log with this traceback: {log}\n' in capsys.readouterr().err
    assert 'hybridcls explain x.py\nTraceback' in log.read_text()
    assert 'RuntimeError: broken\nThis comes from code outside hybridcls: ' in log.read_text()


def test_a_bug_within_a_run_is_in_its_log(monkeypatch, fake, capsys, tmp_path):
    def run(args):
        MMLogger.get_instance('of_a_bug', log_file=str(tmp_path / 'run.log'))
        raise RuntimeError('broken')

    fake(run)
    with isolated_globals():
        assert run_main(monkeypatch, 'explain', 'x.py') == 3
    assert f'traceback: {tmp_path / "run.log"}\n' in capsys.readouterr().err
    assert 'RuntimeError: broken' in (tmp_path / 'run.log').read_text()


def test_the_log_of_a_bug_names_arguments_that_are_not_utf8(monkeypatch, fake, tmp_path):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    fake(raising(RuntimeError('broken')))
    with patch.dict(instances_of(MMLogger), clear=True), isolated_globals():
        assert run_main(monkeypatch, 'explain', os.fsdecode(b'K\xfcken.py')) == 3
    (log,) = tmp_path.glob('hybridcls_*.log')
    assert 'RuntimeError: broken' in log.read_text()
