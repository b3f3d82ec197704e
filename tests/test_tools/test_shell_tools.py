"""Shell tools: checks of their arguments, and the commands that they start, with fakes of srun and torchrun."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'


def start(*command, **environment):
    return subprocess.run(
        list(map(str, command)),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def program(folder, name, text):
    """Put a program into a folder that comes first in the PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return f'{folder}:{os.environ["PATH"]}'


@pytest.mark.parametrize('tool', [*sorted(path.name for path in TOOLS.glob('*.sh')), '../.ci/run'])
def test_syntax_of_each_script(tool):
    result = start('bash', '-n', TOOLS / tool)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('tool', ['dist_train.sh', 'dist_test.sh'])
def test_too_few_arguments(tool):
    result = start('bash', TOOLS / tool, 'config.py')
    assert result.returncode == 2
    assert result.stderr.startswith(f'usage: bash tools/{tool}')


@pytest.mark.parametrize('number', ['0', 'two', '-1'])
def test_invalid_number_of_processes(number):
    result = start('bash', TOOLS / 'dist_train.sh', 'x.py', number)
    assert result.returncode == 2
    assert f"expected the number of processes as an integer from 1, got '{number}'" in result.stderr


@pytest.mark.parametrize('visible', [None, '0,3'])
def test_more_processes_than_gpus_is_an_error(monkeypatch, tmp_path, visible):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    environment = dict(PATH=program(tmp_path / 'bin', 'nvidia-smi', '#!/bin/sh\necho "GPU 0: a"\necho "GPU 1: b"\n'))
    if visible:
        environment['CUDA_VISIBLE_DEVICES'] = visible
    result = start('bash', TOOLS / 'dist_train.sh', 'x.py', 8, **environment)
    assert result.returncode == 2
    assert result.stderr.count('\n') == 1
    assert 'expected at most 2 processes, one for each visible GPU, got 8' in result.stderr


def test_missing_config_starts_no_processes():
    result = start('bash', TOOLS / 'dist_train.sh', 'none.py', 2, PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='-1')
    assert result.returncode == 2
    assert "config='none.py' does not exist" in result.stderr
    assert 'ChildFailedError' not in result.stderr


def arguments_of(tmp_path, *command, **environment):
    """What a shell tool would have started: Python is replaced by a program that prints its arguments."""
    program(tmp_path / 'bin', 'python', '#!/bin/sh\nprintf "%s\\n" "$@"\n')
    config = tmp_path / 'my config.py'
    config.write_text('')
    result = start(
        'bash',
        TOOLS / command[0],
        *[config if part == 'CONFIG' else part for part in command[1:]],
        PYTHON=str(tmp_path / 'bin' / 'python'),
        CUDA_VISIBLE_DEVICES='-1',
        **environment,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_single_machine_uses_a_free_port(tmp_path):
    arguments = arguments_of(tmp_path, 'dist_train.sh', 'CONFIG', 2, '--cfg-options', 'a=[1, 2]')
    assert arguments[:3] == ['-m', 'torch.distributed.run', '--standalone']
    assert arguments[-5:] == [str(tmp_path / 'my config.py'), '--launcher', 'pytorch', '--cfg-options', 'a=[1, 2]']


def test_several_machines_use_one_address(tmp_path):
    arguments = arguments_of(
        tmp_path, 'dist_train.sh', 'CONFIG', 8, NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='1234'
    )
    text = ' '.join(arguments)
    assert '--nnodes 2 --node_rank 1 --master_addr 10.0.0.1 --master_port 1234 --nproc_per_node 8' in text


def test_arguments_of_srun(tmp_path):
    path = program(tmp_path / 'bin', 'srun', '#!/bin/sh\nprintf "%s\\n" "$@"\n')
    result = start(
        'bash',
        TOOLS / 'slurm_train.sh',
        'part',
        'job',
        'c.py',
        'w',
        '--amp',
        PATH=path,
        GPUS='4',
        SRUN_ARGS='--qos high',
        PYTHON='python',
    )
    text = ' '.join(result.stdout.splitlines())
    assert '--partition part --job-name job --gres gpu:4 --ntasks 4 --ntasks-per-node 4' in text
    assert '--qos high python -u' in text
    assert text.endswith('train.py c.py --work-dir w --amp --launcher slurm')


@pytest.mark.parametrize(
    ('status', 'job', 'restarts', 'queued'), [(75, '7', '0', True), (75, '', '0', False), (1, '7', '2', False)]
)
def test_preempted_training_is_requeued(tmp_path, status, job, restarts, queued):
    program(tmp_path / 'bin', 'srun', f'#!/bin/sh\necho "$*"\nexit {status}\n')
    path = program(tmp_path / 'bin', 'scontrol', '#!/bin/sh\necho "scontrol $*"\n')
    environment = dict(PATH=path, SLURM_JOB_ID=job, SLURM_RESTART_COUNT=restarts)
    result = start('bash', TOOLS / 'slurm_train.sh', 'part', 'job', 'c.py', 'w', **environment)
    assert result.returncode == status
    assert ('scontrol requeue 7' in result.stdout) == queued
    assert '--signal USR1@120' in result.stdout
    assert ('--work-dir w --resume --launcher slurm' in result.stdout) == (restarts != '0')
    result = start('bash', TOOLS / 'slurm_train.sh', 'part', 'job', 'c.py', 'w', '--resume', **environment)
    assert result.stdout.count('--resume') == 1


def test_arguments_of_torchrun(tmp_path):
    arguments = arguments_of(tmp_path, 'dist_train.sh', 'CONFIG', 2, '--resume', TORCHRUN_ARGS='--max-restarts 3')
    text = ' '.join(arguments)
    assert '--nproc_per_node 2 --max-restarts 3' in text
    assert text.endswith('--launcher pytorch --resume')


def test_without_slurm(tmp_path):
    result = start('/bin/bash', TOOLS / 'slurm_train.sh', 'p', 'j', 'c.py', 'w', PATH=str(tmp_path))
    assert result.returncode == 2
    assert 'not a Slurm cluster; use tools/dist_train.sh' in result.stderr


@pytest.mark.parametrize(
    ('python', 'sentence'),
    [
        (
            '#!/bin/sh\necho "$*" | grep -q python_version && echo 3.7.1\nexit 1\n',
            'is Python 3.7.1, and hybridcls needs',
        ),
        ('#!/bin/sh\necho "$*" | grep -q ensurepip && exit 1\nexit 0\n', 'apt-get install python3-venv'),
        (None, 'is not installed: apt-get install python3'),
    ],
)
def test_missing_program_is_named(tmp_path, python, sentence):
    if python:
        program(tmp_path / 'bin', 'python3', python)
    for tool in ('quickstart.sh', 'run_tests.sh'):
        result = start('bash', TOOLS / tool, VENV=str(tmp_path / 'venv'), PYTHON=str(tmp_path / 'bin' / 'python3'))
        assert result.returncode == 2
        assert sentence in result.stderr


def test_installed_environment_is_reused():
    script = f'source {TOOLS}/environment.sh; make_environment; echo "$PYTHON"'
    venv = Path(sys.prefix)
    if not (venv / 'bin' / 'python').exists() or sys.prefix == sys.base_prefix:
        pytest.skip('the tests do not run in a virtual environment')
    result = start('bash', '-euc', script, VENV=str(venv))
    assert result.returncode == 0, result.stderr
    assert result.stdout == f'{venv}/bin/python\n'


def test_missing_desktop_libraries_use_headless_opencv(tmp_path):
    """cv2 fails for lack of libGL until the other package is installed."""
    log = tmp_path / 'log'
    fake = f"""#!/bin/sh
echo "$*" >> {log}
case "$*" in
    *"version("*) echo 4.9.0.80 ;;
    *"import cv2"*) grep -q "headless==4.9.0.80" {log} && exit 0
                    echo "ImportError: libGL.so.1: cannot open shared object file"; exit 1 ;;
esac
"""
    program(tmp_path, 'python', fake)
    result = start('bash', '-euc', f'source {TOOLS}/environment.sh; PYTHON={tmp_path}/python; fix_opencv')
    assert result.returncode == 0, result.stderr
    lines = log.read_text().splitlines()
    uninstalled = next(index for index, line in enumerate(lines) if 'uninstall' in line)
    installed = next(index for index, line in enumerate(lines) if '--force-reinstall --no-deps' in line)
    assert uninstalled < installed


def test_other_opencv_errors_are_raised(tmp_path):
    program(tmp_path, 'python', '#!/bin/sh\necho "ImportError: numpy is odd"\nexit 1\n')
    result = start('bash', '-euc', f'source {TOOLS}/environment.sh; PYTHON={tmp_path}/python; fix_opencv')
    assert result.returncode == 2
    assert 'import cv2 fails: ImportError: numpy is odd' in result.stderr


@pytest.mark.parametrize(
    ('free', 'status', 'said'),
    [
        (8999, 2, 'error: expected 9000 MB of free disk for '),  # 7000 - 5000 there, and 7000
        (12499, 0, 'warning: '),  # and half of 7000 for wheels
        (12500, 0, ''),
    ],
)
def test_a_disk_that_is_too_small_is_said_before_the_installation(tmp_path, free, status, said):
    program(tmp_path / 'bin', 'df', f'#!/bin/sh\necho Filesystem\necho /dev/a 9 9 {free * 1024} 9% /\n')
    path = program(tmp_path / 'bin', 'du', f'#!/bin/sh\n[ $2 = {tmp_path}/a/. ] && echo "{5000 * 1024} $2"\n')
    script = f'source {TOOLS}/environment.sh; check_disk {tmp_path}/a {tmp_path}/b'
    result = start('bash', '-euo', 'pipefail', '-c', script, PATH=path, NEEDED_MB='7000')
    assert result.returncode == status
    assert result.stderr.startswith(said)
    assert result.stderr.count('\n') == bool(said)


def test_only_what_is_missing_is_asked_of_each_disk(tmp_path):
    """Folders on two disks, none of them there yet, and an environment whose PyTorch is small."""
    program(
        tmp_path / 'bin', 'df', '#!/bin/sh\n[ -e "$2" ] || exit 1\ncase "$2" in */one*) disk=one;; *) disk=two;; esac\n'
        f'echo "//my server/$disk 9 9 {7000 * 1024} 9% /mnt/$disk of 2"\n',
    )  # fmt: skip
    path = program(tmp_path / 'bin', 'uname', '#!/bin/sh\necho Linux x86_64\n')
    (tmp_path / 'one').mkdir()
    (tmp_path / 'two').mkdir()
    script = f'source {TOOLS}/environment.sh; check_disk "$@"'
    command = ('bash', '-euo', 'pipefail', '-c', script, 'bash')
    result = start(*command, tmp_path / 'one/new folder/a', tmp_path / 'two/b', PATH=path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count('warning: ') == 2
    same = (tmp_path / 'one/new folder/a', tmp_path / 'one/b')
    result = start(*command, *same, PATH=path)
    assert result.returncode == 2
    assert 'expected 12400 MB' in result.stderr
    torch = same[0] / 'lib/python3.11/site-packages/torch-2.9.0+cpu.dist-info'
    torch.mkdir(parents=True)
    (torch / 'RECORD').touch()
    result = start(*command, *same, PATH=path)
    assert result.returncode == 0, result.stderr


def test_an_environment_that_was_cut_short_is_repaired(tmp_path):
    """What pip was installing has metadata already, with which it would be taken for installed."""
    venv, log = tmp_path / 'venv', tmp_path / 'log'
    packages = venv / 'lib' / 'python3.11' / 'site-packages'
    for name, record in (('whole-1', 'whole-1.dist-info/INSTALLER,,\n'), ('half-1', 'half/a.py,,\n'), ('less-1', None)):
        (packages / f'{name}.dist-info').mkdir(parents=True)
        if record:
            (packages / f'{name}.dist-info' / 'RECORD').write_text(record)
    (packages / 'other-1.dist-info').mkdir()
    (packages / 'other-1.dist-info' / 'INSTALLER').write_text('conda\n')  # which may leave RECORD out
    (packages / 'less-1.dist-info' / 'INSTALLER').write_text('pip\n')
    (venv / 'tmp').mkdir()  # not ours
    (venv / '.unfinished' / 'pip-unpack-1').mkdir(parents=True)
    program(venv / 'bin', 'pip', '')
    program(venv / 'bin', 'python', f'#!/bin/sh\necho "$*" >> {log}\n[ $2 != pip ] || ls -A $TMPDIR >> {log}\n')
    script = f'cd {tmp_path}; source {TOOLS}/environment.sh; make_environment docs'
    for _ in range(2):
        result = start('env', '-u', 'TMPDIR', 'bash', '-euc', script, VENV='venv', NEEDED_MB='0')
        assert result.returncode == 0, result.stderr
    assert {path.name for path in packages.iterdir()} == {'whole-1.dist-info', 'other-1.dist-info'}
    lines = log.read_text().splitlines()
    (installed,) = (number for number, line in enumerate(lines) if ' pip install ' in line)
    assert not lines[installed + 1].startswith('pip-unpack'), 'it is given an empty folder'
    assert not (venv / '.unfinished').exists()
    assert (venv / 'tmp').exists()
