"""A config by its path, behind `hybridcls::`, or by the name of a shipped one."""

from pathlib import Path

import pytest

from hybridcls.cli.find_config import find_config, shipped_configs
from hybridcls.engine import load_config

ROOT = Path(__file__).resolve().parents[2] / 'configs'


def test_every_config_but_the_bases_is_shipped():
    files = {file.resolve() for file in ROOT.rglob('*.py') if file.relative_to(ROOT).parts[0] != '_base_'}
    assert {file.resolve() for file in shipped_configs().values()} == files
    assert 'digits/ce_hybrid' in shipped_configs()


@pytest.mark.parametrize(
    'name', ['digits/ce_hybrid', 'digits/ce_hybrid.py', 'hybridcls::digits/ce_hybrid.py', 'hybridcls::digits/ce_hybrid']
)
def test_shipped_names_from_any_folder(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Path(find_config('train', name)).resolve() == ROOT / 'digits' / 'ce_hybrid.py'


def test_a_file_comes_before_a_shipped_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'digits').mkdir()
    (tmp_path / 'digits' / 'ce_hybrid.py').touch()
    assert find_config('train', 'digits/ce_hybrid.py') == 'digits/ce_hybrid.py'


def test_configs_of_other_packages_are_left_to_their_loader():
    name = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'
    assert find_config('train', name) == name
    assert load_config(name).model.backbone.depth == 50


@pytest.mark.parametrize(
    ('name', 'hint'),
    [
        ('ce_hybrid', "Did you mean 'digits/ce_hybrid'"),
        ('digits/ce_hybird', "Did you mean 'digits/ce_hybrid'"),
        ('hybridcls::digits/ce_hybird.py', "Did you mean 'digits/ce_hybrid'"),
        ('mine.py', "Did you mean 'mime.py'"),
        ('folder', 'is a folder'),
        ('_base_/default_runtime', 'does not exist'),
        ('xyz', '`hybridcls list recipes` lists the shipped configs'),
    ],
)
def test_an_unknown_name_has_near_names(name, hint, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mime.py').touch()
    (tmp_path / 'folder').mkdir()
    with pytest.raises(FileNotFoundError) as raised:
        find_config('train', name)
    assert hint in str(raised.value)
