"""mmengine's steps of reading a config, and where packages keep theirs."""

import pytest
from mmengine.config.utils import MODULE2PACKAGE

from hybridcls.compat.mmengine import merge, read_source, register_package, shipped_config


def test_our_own_configs_are_found_in_a_clone_without_mim(tmp_path, monkeypatch):
    (tmp_path / 'hybridcls').mkdir()
    (tmp_path / 'configs/digits').mkdir(parents=True)
    (tmp_path / 'configs/digits/mine.py').write_text('img_size = 48\n')
    (tmp_path / 'child.py').write_text("_base_ = 'hybridcls::digits/mine.py'\n")
    monkeypatch.setattr('hybridcls.__file__', str(tmp_path / 'hybridcls/__init__.py'))
    assert shipped_config('hybridcls::digits/mine.py') == str(tmp_path / 'configs/digits/mine.py')
    source = read_source(str(tmp_path / 'child.py'))
    assert source.bases == [(str(tmp_path / 'configs/digits/mine.py'), 'hybridcls')]
    with pytest.raises(FileNotFoundError, match=r"no config 'digits/nine.py'\. Did you mean .*mine.py"):
        shipped_config('hybridcls::digits/nine.py')


def test_a_delete_key_deletes_and_is_gone():
    merged = merge(dict(head=dict(_delete_=True, type='B', loss=dict(_delete_=True))), dict(head=dict(type='A', x=1)))
    assert merged == dict(head=dict(type='B', loss={}))


def test_a_registered_package_is_found_by_mmengine():
    register_package('mypackage')
    try:
        assert MODULE2PACKAGE['mypackage'] == 'mypackage'
        assert MODULE2PACKAGE['hybridcls'] == 'hybridcls', 'at the import of hybridcls'
    finally:
        del MODULE2PACKAGE['mypackage']
