"""`tools/print_config.py`: the final config as Python, or the output of `hybridcls explain`."""

import importlib.util
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def print_config(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location('print_config', ROOT / 'tools' / 'print_config.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['print_config.py', *map(str, arguments)])
        tool.main()
        return capsys.readouterr().out

    return run


def test_output_is_a_config(print_config):
    out = print_config(ROOT / 'configs' / 'digits' / 'ce_hybrid.py', '--cfg-options', 'lr=0.5')
    assert out.startswith('Config:\n')
    cfg = Config.fromstring(out.removeprefix('Config:\n'), '.py')
    assert cfg.optim_wrapper.optimizer.lr == 0.5
    assert cfg.train_dataloader.batch_size == 64


def test_shipped_names_and_short_options(print_config):
    assert 'lr=0.125' in print_config('digits/ce_hybrid', '--lr', '0.125')


def test_chain_is_printed_without_completion(print_config):
    assert "name='supcon'" in print_config(ROOT / 'configs' / 'digits' / 'two_phase.py')


def test_explain_option(print_config, capsys):
    with pytest.raises(SystemExit) as ended:
        print_config(ROOT / 'configs' / 'digits' / 'ce_hybrid.py', 'model.neck.fusion_dim', '--explain')
    assert ended.value.code == 0
    assert '-> DHAFusion' in capsys.readouterr().out
