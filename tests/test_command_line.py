"""command_line: one line for user errors, a traceback for bugs, exit codes and the end of a process."""

import os
import subprocess
import sys
import warnings
import weakref
from importlib.util import find_spec

import pytest
import torch.distributed as dist

from hybridcls.checks import check_file, check_number
from hybridcls.command_line import explain_error, run_tool


def caught(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except Exception as error:
        return error
    raise AssertionError('nothing was raised')


def test_our_errors_are_one_line():
    assert 'expected rho' in explain_error(caught(check_number, 'SAM', 'rho', -1, low=0))
    assert 'does not exist' in explain_error(caught(check_file, 'train', 'config', 'none.py'))
    assert 'none.txt' in explain_error(caught(open, 'none.txt'))
    assert explain_error(caught(_write_on_a_full_disk)) == '[Errno 28] No space left on device'


def _write_on_a_full_disk():
    with open('/dev/full', 'wb', buffering=0) as file:
        file.write(b'x')


@pytest.mark.parametrize('folder', ['file', 'file/below/it'])
def test_the_folder_of_the_compiler_that_cannot_be_made(folder, tmp_path, monkeypatch):
    """It is made at the import of torchvision, so that nothing of ours comes to say it."""
    (tmp_path / 'file').touch()
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / folder))
    said = explain_error(caught(os.makedirs, tmp_path / folder, exist_ok=True))
    assert said.startswith(f'torch: expected a folder that can be made for what torch.compile builds, got {tmp_path}')
    assert said.endswith('Set TORCHINDUCTOR_CACHE_DIR to another one.')
    other = caught(os.makedirs, tmp_path / 'file' / 'other')
    monkeypatch.delenv('TORCHINDUCTOR_CACHE_DIR')
    assert 'torch' not in explain_error(other)


def test_bug_is_not_explained():
    assert explain_error(caught(lambda: {}['x'])) is None
    assert explain_error(caught(lambda: 1 / 0)) is None
    assert explain_error(caught(check_number)) is None, 'we called ourselves wrongly'


def test_constructor_error_has_the_class_name():
    from hybridcls.registry import TRANSFORMS

    if find_spec('albumentations') is None:
        error = caught(TRANSFORMS.build, dict(type='Albu', transforms=[]))
        assert explain_error(error) == 'Albumentations: albumentations is not installed'
    error = caught(TRANSFORMS.build, dict(type='mmpretrain.RandomErasing', mode='random'))
    assert explain_error(error) is None, 'a bare assertion does not help a user'


def test_what_went_wrong_after_a_constructor_is_a_fault_of_the_program():
    """Only what the constructor itself raises, or one of its parents, is about its arguments."""
    from mmengine.registry import Registry

    registry = Registry('things')

    @registry.register_module()
    class Parent:
        def __init__(self):
            raise ValueError('no such file')

    @registry.register_module()
    class Child(Parent):
        pass

    @registry.register_module()
    class Helped:
        def __init__(self):
            self.help()

        def help(self):
            raise ValueError('a helper')

    assert explain_error(caught(registry.build, dict(type='Child'))) == 'Child: no such file'
    assert explain_error(caught(registry.build, dict(type='Helped'))) is None
    assert explain_error(caught(Parent)) is None, 'nothing was built from a config'


@pytest.mark.parametrize('variable', ['0', '1'])
def test_user_error_exits_with_2_without_traceback(monkeypatch, capsys, variable):
    monkeypatch.setenv('HYBRIDCLS_TRACEBACK', variable)
    if variable == '1':
        with pytest.raises(ValueError, match='rho'):
            run_tool(lambda: check_number('SAM', 'rho', -1, low=0))
        return
    with pytest.raises(SystemExit) as end:
        run_tool(lambda: check_number('SAM', 'rho', -1, low=0))
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith('\nerror: SAM: expected rho in [0, inf), got -1')
    assert 'Traceback' not in printed


def test_interrupt_exits_with_130(capsys):

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run_tool(interrupt)
    assert end.value.code == 130
    assert capsys.readouterr().err == 'Interrupted.\n'


def test_bug_has_a_traceback():
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 / 0)


def test_import_is_light():
    code = "import sys, hybridcls.command_line; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_process_group_is_destroyed_at_the_end(tmp_path):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/init', rank=0, world_size=1)
    try:
        run_tool(lambda: None)
        assert not dist.is_initialized()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def test_type_error_of_a_hook_is_shown():
    """mmengine raises it again, with another text."""
    from mmengine.runner import Runner

    from hybridcls.checks import check_known_keys

    class Wrong:
        def before_run(self, runner):
            check_known_keys('Hook', ['x'], ['y'])

    runner = Runner.__new__(Runner)
    runner._hooks = [Wrong()]
    with pytest.raises(TypeError) as raised:
        runner.call_hook('before_run')
    assert explain_error(raised.value) == "Hook: unknown key 'x'. Known keys: y."


class Circle:
    """What only the garbage collector frees: a Runner is one."""

    def __init__(self):
        self.itself = self


@pytest.mark.parametrize('status', [0, 75])
def test_runner_is_deleted_before_the_process_group(monkeypatch, status):
    """A DDP model that outlives the process group aborts the process, now and then."""
    alive = []

    def main():
        runner = Circle()
        alive.append(weakref.ref(runner))
        if status:
            raise SystemExit(status)

    monkeypatch.setattr(dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(dist, 'destroy_process_group', lambda: alive.append(alive[0]()))
    if status:
        with pytest.raises(SystemExit) as ended:
            run_tool(main)
        assert ended.value.code == status
    else:
        run_tool(main)
    assert alive[1:] == [None]


def test_irrelevant_warnings_are_hidden(capsys):
    def warn():
        for text, module in (
            ('This DataLoader will create 8 worker processes in total.', 'torch.utils.data.dataloader'),
            ('Grad strides do not match bucket view strides.', 'torch.autograd.graph'),
            ('The anomaly was here.', 'torch.autograd.graph'),
        ):
            warnings.warn_explicit(text, UserWarning, f'{module}.py', 1, module)
        warnings.warn('This is for you.', stacklevel=1)

    with warnings.catch_warnings(record=True) as shown:
        run_tool(warn)
    assert [str(one.message) for one in shown] == ['The anomaly was here.', 'This is for you.']
