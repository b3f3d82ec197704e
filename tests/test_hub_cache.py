"""Where the Hub's library keeps files; what is asked of its server is tested with the weights that need it."""

import pytest
from huggingface_hub import constants

from hybridcls.hub_cache import cache_folder, cached_file, check_answers


def test_files_of_the_cache_are_found_by_its_documented_layout(tmp_path):
    folder = tmp_path / 'models--timm--some.tag'
    assert cache_folder('timm/some.tag', tmp_path) == str(folder)
    for name in ('b', 'c'):
        (folder / 'snapshots' / 'abc').mkdir(parents=True, exist_ok=True)
        (folder / 'snapshots' / 'abc' / name).write_bytes(b'')
    (folder / 'refs').mkdir()
    (folder / 'refs' / 'main').write_text('abc')
    assert cached_file('timm/some.tag', ['a', 'b', 'c'], cache_dir=tmp_path) == str(folder / 'snapshots' / 'abc' / 'b')
    assert cached_file('timm/some.tag', ['a'], cache_dir=tmp_path) is None
    assert cached_file('timm/other', ['b'], cache_dir=tmp_path) is None


def test_nothing_is_asked_offline(monkeypatch):
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    with pytest.raises(FileNotFoundError, match=r'x: .* of some are not .* \(there\), and HF_HUB_OFFLINE is set'):
        check_answers('x', 'some', 'there')
