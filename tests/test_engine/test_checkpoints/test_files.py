"""Checkpoint files: written atomically, found again, and checked."""

import os
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from hybridcls.command_line import explain_error
from hybridcls.engine.checkpoints import files as checkpoint_files
from hybridcls.engine.checkpoints.files import (
    atomic_write,
    check_checkpoint,
    check_writable,
    is_valid_checkpoint,
    latest_valid_checkpoint,
)


def save(path, value=0.0):
    torch.save(dict(state_dict=dict(weight=torch.full((1000,), value))), path)


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def test_a_write_that_fails_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / 'deep' / 'file'
    atomic_write(b'old', path)

    def no_room(handle):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', no_room)
    with pytest.raises(OSError, match=r'file could not be written \(No space left on device\)\. Its earlier'):
        atomic_write(b'new', path)
    with pytest.raises(
        OSError, match=r'other could not be written \(No space left on device\)\. Free space there'
    ) as it:
        atomic_write(b'new', path.with_name('other'))
    assert explain_error(it.value) == it.value.strerror  # a sentence without the number of the error
    assert path.read_bytes() == b'old'
    assert os.listdir(path.parent) == ['file']


def test_a_valid_checkpoint_is_told_from_a_damaged_one(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    save(path)
    assert is_valid_checkpoint(path)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = next(info for info in archive.infolist() if info.file_size == 4000)
    data[entry.header_offset + 500] ^= 1  # one bit within the weights
    path.write_bytes(data)
    assert not is_valid_checkpoint(path)
    save(path)
    cut(path)
    assert not is_valid_checkpoint(path)
    path.write_bytes(b'')
    assert not is_valid_checkpoint(path)
    assert not is_valid_checkpoint(tmp_path / 'none.pth')


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    path.touch()

    def refuse(*args, **kwargs):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr('builtins.open', refuse)
    with pytest.raises(PermissionError, match='Permission denied'):
        check_checkpoint(str(path))


def test_healthy_files_of_every_format_are_whole(tmp_path):
    weights = dict(weight=torch.arange(1000.0))
    old, new = tmp_path / 'old.pth', tmp_path / 'new.safetensors'
    torch.save(dict(state_dict=weights), old, _use_new_zipfile_serialization=False)  # as torch did before 1.6
    save_file(weights, new)
    for path in (old, new):
        check_checkpoint(str(path))
        cut(path)
        with pytest.raises(ValueError, match='is not a valid checkpoint: it is damaged or incomplete'):
            check_checkpoint(str(path))
    for content in (b'', b'\x80', b'\x80\x02]', b'some text', b'PK\x03\x04'):
        old.write_bytes(content)
        assert not is_valid_checkpoint(old)


def test_whether_a_file_is_whole_is_found_out_without_running_it(tmp_path):
    torch.save(dict(meta=Touch(tmp_path / 'canary')), tmp_path / 'm.pth', _use_new_zipfile_serialization=False)
    assert is_valid_checkpoint(tmp_path / 'm.pth')
    assert not (tmp_path / 'canary').exists()


class Touch:
    """Pickles as a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


def test_the_last_checkpoint_is_taken(tmp_path):
    for number in (1, 2, 10):
        save(tmp_path / f'epoch_{number}.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    assert latest_valid_checkpoint(tmp_path) == str(tmp_path / 'epoch_2.pth')


@pytest.mark.parametrize('trouble', ['cut', 'gone', 'note gone', 'note empty'])
def test_without_a_whole_last_one_the_newest_whole_one_is_taken(tmp_path, trouble):
    for number in (2, 9, 10):
        save(tmp_path / f'epoch_{number}.pth')
    save(tmp_path / 'best_top1_epoch_11.pth')  # has no optimizer: never resumed from
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_10.pth'))
    expected = tmp_path / 'epoch_9.pth'
    if trouble == 'cut':
        cut(tmp_path / 'epoch_10.pth')
    elif trouble == 'gone':
        (tmp_path / 'epoch_10.pth').unlink()
    else:
        (tmp_path / 'last_checkpoint').write_text('')
        expected = tmp_path / 'epoch_10.pth'
    assert latest_valid_checkpoint(tmp_path) == str(expected)


def test_a_work_dir_that_was_moved(tmp_path):
    (tmp_path / 'here').mkdir()
    save(tmp_path / 'here' / 'epoch_3.pth')
    (tmp_path / 'here' / 'last_checkpoint').write_text('/was/elsewhere/epoch_3.pth')
    assert latest_valid_checkpoint(tmp_path / 'here') == str(tmp_path / 'here' / 'epoch_3.pth')


def test_nothing_to_go_on_from(tmp_path):
    assert latest_valid_checkpoint(tmp_path) is None
    assert latest_valid_checkpoint(tmp_path / 'none') is None
    (tmp_path / 'epoch_1.pth').write_bytes(b'PK')
    assert latest_valid_checkpoint(tmp_path) is None


def test_a_work_dir_that_is_a_file(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(NotADirectoryError, match=r'work dir .*file/deep.* cannot be used.*--work-dir'):
        check_writable(tmp_path / 'file' / 'deep')
    with pytest.raises(NotADirectoryError, match='--work-dir'):
        check_writable(tmp_path / 'file')


def test_a_work_dir_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(self, data):
        raise PermissionError(13, 'Permission denied', str(self))

    monkeypatch.setattr(checkpoint_files.Path, 'write_bytes', refuse)
    with pytest.raises(PermissionError, match=r'cannot be written \(Permission denied\).*--work-dir'):
        check_writable(tmp_path / 'new')


def test_a_work_dir_whose_path_is_not_utf8(tmp_path):
    """The note of the last checkpoint, the log and the dump of the config name it."""
    with pytest.raises(ValueError, match=r'its path is not UTF-8\. Choose another with --work-dir .* LANG=C\.UTF-8'):
        check_writable(os.path.join(tmp_path, os.fsdecode(b'K\xfcken')))
    assert os.listdir(tmp_path) == []
    check_writable(tmp_path / 'Küken')


def test_a_good_work_dir_is_left_clean(tmp_path):
    check_writable(tmp_path / 'a' / 'b')
    assert os.listdir(tmp_path / 'a' / 'b') == []
