"""Files are compared with the digests that were written down; a folder is ours if its ``model.json`` says so."""

import hashlib
import json

import pytest
import torch

from hybridcls.safetensors_folder import (
    FORMAT,
    check_files,
    digest_of_file,
    folder_weights,
    read_sidecar,
    write_safetensors,
)


def known(content):
    return dict(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def test_every_wrong_file_is_named(tmp_path):
    for name in 'abcd':
        (tmp_path / name).write_bytes(name.encode())
    files = {name: known(name.encode()) for name in 'abcde'}
    check_files(tmp_path, {name: files[name] for name in 'abcd'})
    (tmp_path / 'b').write_bytes(b'x')  # of the same size
    (tmp_path / 'c').write_bytes(b'cc')
    with pytest.raises(ValueError, match=r'got e missing and b, c changed'):
        check_files(tmp_path, files)
    with pytest.raises(ValueError, match='got a changed'):
        check_files(tmp_path, dict(a=None))
    assert digest_of_file(tmp_path / 'a') == known(b'a')['sha256']


def test_a_folder_of_another_project_is_none_of_ours(tmp_path):
    assert folder_weights(tmp_path) is None
    (tmp_path / 'model.safetensors').write_bytes(b'x')
    (tmp_path / 'model.json').write_text('{}')
    assert folder_weights(tmp_path) is None
    assert read_sidecar(tmp_path / 'model.safetensors') is None
    (tmp_path / 'other.safetensors').write_bytes(b'x')
    sidecar = dict(format=FORMAT, version=1, model={}, meta={}, files={'model.safetensors': known(b'x')})
    (tmp_path / 'model.json').write_text(json.dumps(sidecar))
    assert folder_weights(tmp_path) == str(tmp_path / 'model.safetensors')
    assert read_sidecar(tmp_path / 'model.safetensors') == sidecar
    assert read_sidecar(tmp_path / 'other.safetensors') is None
    (tmp_path / 'model.json').write_text(json.dumps(sidecar | dict(meta=None)))
    with pytest.raises(ValueError, match='it lacks meta or files'):
        read_sidecar(tmp_path / 'model.safetensors')


def test_a_file_that_cannot_be_written_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError, match='no_folder'):
        write_safetensors({'weight': torch.zeros(3)}, tmp_path / 'no_folder' / 'a.safetensors')
