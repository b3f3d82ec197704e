"""A file, a folder or a model in the Hub's local cache stands for one file of weights."""

import os

import pytest

from hybridcls.models.weights.weight_files import weights_file


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b'')


def test_a_file_and_an_address_stay(tmp_path):
    touch(tmp_path, 'w.pth')
    assert weights_file('x', tmp_path / 'w.pth') == str(tmp_path / 'w.pth')
    assert weights_file('x', 'https://host/w.pth') == 'https://host/w.pth'


def test_a_folder_as_the_hub_has_it(tmp_path):
    touch(tmp_path, 'config.json', 'pytorch_model.bin', 'other.safetensors')
    assert weights_file('x', tmp_path) == str(tmp_path / 'pytorch_model.bin')
    touch(tmp_path, 'model.safetensors')
    assert weights_file('x', tmp_path) == str(tmp_path / 'model.safetensors')


def test_the_snapshot_that_the_cache_names_counts_else_the_newest(tmp_path):
    cached = tmp_path / 'models--timm--test_vit'
    touch(cached / 'snapshots', 'old/model.safetensors', 'new/model.safetensors')
    os.utime(cached / 'snapshots' / 'old', (1, 1))
    assert weights_file('x', cached) == str(cached / 'snapshots' / 'new' / 'model.safetensors')
    touch(cached, 'refs/main')
    (cached / 'refs' / 'main').write_text('old')
    assert weights_file('x', cached) == str(cached / 'snapshots' / 'old' / 'model.safetensors')


def test_what_is_not_one_file_is_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x: checkpoint_path='.*no\.pth' does not exist"):
        weights_file('x', tmp_path / 'no.pth')
    touch(tmp_path, 'a.txt')
    with pytest.raises(FileNotFoundError, match=r'x: expected one file of weights .*, got a\.txt\.'):
        weights_file('x', tmp_path)
    touch(tmp_path, 'a.pth', 'b.pth')
    with pytest.raises(ValueError, match=r'got 2: a\.pth, b\.pth\. Name the one that is meant'):
        weights_file('x', tmp_path)
