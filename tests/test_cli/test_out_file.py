"""`--out FILE`: checked first, written in one step."""

import os

import pytest

from hybridcls.cli.out_file import check_out, unfinished_out, write_out


def test_no_option_is_no_mistake():
    check_out('test', None, False, ('.csv',))


def test_a_file_that_is_there_stays_without_force(tmp_path):
    file = tmp_path / 'a.csv'
    check_out('test', str(file), False, ('.csv',))
    file.write_text('old')
    with pytest.raises(FileExistsError, match=r"test: --out '.*a.csv' exists. Add --force"):
        check_out('test', str(file), False, ('.csv',))
    check_out('test', str(file), True, ('.csv',))
    assert file.read_text() == 'old'


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match=r"expected --out to end in .csv or .json, got 'a.txt'"):
        check_out('test', 'a.txt', False, ('.csv', '.json'))
    (tmp_path / 'a.csv').mkdir()
    with pytest.raises(IsADirectoryError, match='is a folder'):
        check_out('test', str(tmp_path / 'a.csv'), True, ('.csv',))
    (tmp_path / 'file').touch()
    with pytest.raises(PermissionError, match=r"file' is not a writable folder"):
        check_out('test', str(tmp_path / 'file' / 'below' / 'a.csv'), False, ('.csv',))


def test_the_folder_is_made(tmp_path):
    path = tmp_path / 'new' / 'a.json'
    check_out('test', str(path), False, ('.json',))
    write_out(b'{}', str(path))
    assert path.read_bytes() == b'{}'
    assert os.listdir(path.parent) == ['a.json']


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a.pkl'
    path.write_text('old')

    def write(content):
        with unfinished_out(str(path)) as unfinished, open(unfinished, 'w') as file:
            assert unfinished.endswith('.pkl')
            file.write('part')
            file.write(content)

    with pytest.raises(TypeError):
        write(None)
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['a.pkl']
    write(' and the rest')
    assert path.read_text() == 'part and the rest'
    assert os.listdir(tmp_path) == ['a.pkl']


def test_a_full_disk_is_a_sentence(tmp_path):
    """/dev/full answers each write like a disk without room."""
    path = tmp_path / 'a.pkl'
    with pytest.raises(OSError, match=r'--out .*a.pkl could not be written \(No space left on device\)'):
        write_to_full_disk(path)
    assert os.listdir(tmp_path) == []


def write_to_full_disk(path):
    with unfinished_out(str(path)) as unfinished:
        os.symlink('/dev/full', unfinished)
        with open(unfinished, 'wb') as file:
            file.write(b'x')
