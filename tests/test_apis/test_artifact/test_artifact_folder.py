"""A folder is there complete or not at all, and nothing but an artifact is replaced."""

import errno
import json
import os

import pytest
from command_runs import run_command
from safetensors import SafetensorError

from hybridcls.apis.artifact.artifact_folder import check_out_folder, lost_with, unfinished_folder
from hybridcls.apis.artifact.shipped.runtime import FORMAT
from hybridcls.safetensors_folder import write_safetensors


def _raise(error):
    raise error


@pytest.mark.parametrize('command', ['verify', 'enroll'])
def test_a_graph_that_may_run_code_is_not_opened(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('hybridcls.checkpoint_reading._trusted', False)  # and back, after verify has set it
    sidecar = dict(
        format='hybridcls artifact', version=1, model=dict(format='torch_export', file='graph.dat'), preprocessing={},
        classes=[], provenance={}, files={},
    )  # fmt: skip
    (tmp_path / 'model.json').write_text(json.dumps(sidecar))
    options = ['--list'] if command == 'enroll' else []
    assert run_command(command, tmp_path, *options) == 2
    assert 'add --trust-checkpoint' in capsys.readouterr().err
    run_command(command, tmp_path, *options, '--trust-checkpoint')
    said = capsys.readouterr()
    assert 'graph.dat is not listed' in said.out + said.err


def test_it_appears_when_it_is_complete(tmp_path):
    out = tmp_path / 'new' / 'a'
    with unfinished_folder(str(out)) as folder:
        (folder / 'model.json').write_text('{}')
        assert not out.exists()
        assert folder.parent == out.parent
    assert [path.name for path in out.parent.iterdir()] == ['a']
    assert out.stat().st_mode & 0o777 == 0o777 & ~_umask()


def test_a_failure_leaves_what_was_there(tmp_path):
    out = tmp_path / 'a'
    with unfinished_folder(str(out)) as folder:
        (folder / 'model.json').write_text('old')
    with pytest.raises(OSError, match='full'), unfinished_folder(str(out)) as folder:
        _fill(folder)
    assert (out / 'model.json').read_text() == 'old'
    assert os.listdir(tmp_path) == ['a']
    with unfinished_folder(str(out)) as folder:
        (folder / 'model.json').write_text('new')
    assert (out / 'model.json').read_text() == 'new'
    assert os.listdir(tmp_path) == ['a']


def _mounted(monkeypatch, out):
    monkeypatch.setattr(type(out), 'is_mount', lambda self: self == out)


def _bound(monkeypatch, out):
    """A folder that is mounted from its own disk, which no attribute shows."""
    rename = type(out).rename

    def refuse(self, target):
        if self == out:
            raise OSError(errno.EBUSY, 'Device or resource busy')
        return rename(self, target)

    monkeypatch.setattr(type(out), 'rename', refuse)


def _current(monkeypatch, out):
    monkeypatch.chdir(out)


@pytest.mark.parametrize('made', [_mounted, _bound, _current])
def test_a_folder_that_cannot_be_renamed_is_filled(made, tmp_path, monkeypatch):
    out = tmp_path / 'volume'
    out.mkdir()
    number = out.stat().st_ino
    made(monkeypatch, out)
    for text in ('old', 'new'):
        with unfinished_folder(str(out)) as folder:
            (folder / 'model.json').write_text(json.dumps(dict(format=FORMAT, text=text)))
            (folder / text).touch()
        assert sorted(os.listdir(out)) == ['model.json', text]
        assert text in (out / 'model.json').read_text()
    with pytest.raises(OSError, match='full'), unfinished_folder(str(out)) as folder:
        _fill(folder)
    assert sorted(os.listdir(out)) == ['model.json', 'new']
    assert os.listdir(tmp_path) == ['volume']
    assert out.stat().st_ino == number


def test_what_a_killed_export_left_in_a_volume_does_not_stop_the_next(tmp_path):
    out = tmp_path / 'volume'
    (out / '.unfinished_volume_x').mkdir(parents=True)
    check_out_folder('export', str(out), False)


@pytest.mark.parametrize('where', ['safetensors.torch.save_file', 'hybridcls.safetensors_folder._write_zeros'])
def test_a_full_disk_is_a_sentence(where, tmp_path, monkeypatch):
    out = str(tmp_path / 'a')
    monkeypatch.setattr('safetensors.torch.save_file', lambda *_, **__: _raise(SafetensorError('I/O error')))
    monkeypatch.setattr(where, lambda *_, **__: _raise(OSError(errno.ENOSPC, 'No space left on device')))
    with (
        pytest.raises(OSError, match=r'/a could not be written \(No space left on device\)\. Free space there'),
        unfinished_folder(out) as folder,
    ):
        write_safetensors({}, folder / 'a.safetensors')
    assert os.listdir(tmp_path) == []


def test_only_an_artifact_is_replaced_and_only_with_force(tmp_path):
    out = tmp_path / 'a'
    check_out_folder('export', str(out), False)
    out.mkdir()
    check_out_folder('export', str(out), False)  # empty
    (out / 'photo.jpg').touch()
    for force in (False, True):
        with pytest.raises(FileExistsError, match='is no hybridcls artifact'):
            check_out_folder('export', str(out), force)
    for other in ('{}', 'torn', json.dumps(dict(format='hybridcls checkpoint'))):  # the weights would be lost
        (out / 'model.json').write_text(other)
        with pytest.raises(FileExistsError, match='is no hybridcls artifact'):
            check_out_folder('export', str(out), True)
    check_out_folder('pull', str(out), True, formats=('hybridcls artifact', 'hybridcls checkpoint'))
    (out / 'model.json').write_text(json.dumps(dict(format='hybridcls artifact')))
    with pytest.raises(FileExistsError, match='Add --force'):
        check_out_folder('export', str(out), False)
    check_out_folder('export', str(out), True)
    with pytest.raises(FileExistsError, match='is no hybridcls artifact'):
        check_out_folder('export', str(out / 'photo.jpg'), True)
    with pytest.raises(PermissionError, match='is not a writable folder'):
        check_out_folder('export', str(out / 'photo.jpg' / 'b'), True)


def _fill(folder):
    (folder / 'model.json').write_text('new')
    raise OSError('full')


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_enrolled_classes_that_are_lost_are_named(tmp_path):
    assert lost_with(str(tmp_path / 'nothing')) == []
    (tmp_path / 'model.json').write_text(json.dumps(dict(format=FORMAT, enrolled=None)))
    assert lost_with(str(tmp_path)) == []
    enrolled = dict(classes=[dict(name='mug'), dict(name='cup')])
    (tmp_path / 'model.json').write_text(json.dumps(dict(format=FORMAT, enrolled=enrolled)))
    assert lost_with(str(tmp_path)) == [
        f'The classes that were enrolled in {tmp_path} (mug, cup) go with it: enroll them again.'
    ]
