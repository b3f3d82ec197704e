"""tools/choose_token_merging.py as a user starts it."""
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from hybridcls.engine import load_config
from hybridcls.engine.runner_instances import own_instances
from hybridcls.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """
img_size = 32
num_classes = 10
model = dict(type='HybridClassifier',
             backbone=dict(type='HybridBackbone', vit=dict(model_name='test_vit', patch_size=8)),
             head=dict(type='LinearHead', num_classes=10))
test_dataloader = dict(batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                       dataset=dict(type='Digits', split='test', indices=16,
                                    pipeline=[dict(type='ResizeToSize', img_size=32), dict(type='PackInputs')]))
test_evaluator = [dict(type='Accuracy')]
test_cfg = dict()
log_level = 'ERROR'
"""


@pytest.fixture
def tool(monkeypatch):
    spec = importlib.util.spec_from_file_location('choose_token_merging', ROOT / 'tools' / 'choose_token_merging.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['choose_token_merging.py', *map(str, arguments)])
        with own_instances():
            module.main()

    return run


@pytest.mark.slow
def test_prints_the_speed_the_accuracy_and_what_to_type(tool, tmp_path, capsys):
    config = tmp_path / 'vit.py'
    config.write_text(CONFIG)
    model = MODELS.build(load_config(config, {}).model)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'vit.pth')
    # Any time will do: what is asked for must be reached by no merging at all.
    tool(config, tmp_path / 'vit.pth', '--target-ms', 60000, '--rounds', 1, '--work-dir', tmp_path / 'w')
    said = capsys.readouterr().out
    assert 'r = 0: ' in said
    assert 'token merging' in said
    accuracy = next(line for line in said.splitlines() if line.startswith('accuracy/top1')).split()
    assert accuracy[1] == accuracy[2]
    assert accuracy[3] == '+0.0000'
    assert 'token_merging_ratio=dict(r=0)' in said


def test_a_checkpoint_that_is_not_there(tool, tmp_path):
    (tmp_path / 'vit.py').write_text(CONFIG)
    with pytest.raises(FileNotFoundError, match=r'choose_token_merging: checkpoint=.*none\.pth'):
        tool(tmp_path / 'vit.py', tmp_path / 'none.pth', '--speedup', 1.3)
