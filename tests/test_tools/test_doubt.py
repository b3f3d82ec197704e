"""tools/test.py with the models that answer several times."""
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from hybridcls.command_line import run_tool
from hybridcls.engine.runner_instances import own_instances
from hybridcls.registry import MODELS

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'test.py'

BASE = """
default_scope = 'hybridcls'
num_classes = 8
model = dict(type='HybridClassifier', backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4),
             neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearHead', in_channels=32))
pipeline = [dict(type='ResizeToSize', img_size=8), dict(type='PackInputs')]
test_dataloader = dict(batch_size=64, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(
    type='ConcatDataset', ignore_keys=['classes'], datasets=[
        dict(type='Digits', split='test', digits=range(8), pipeline=pipeline, indices=50),
        dict(type='Digits', split='test', digits=(8, 9), pipeline=[dict(type='MarkUnknown'), *pipeline], indices=20)]))
test_evaluator = [dict(type='OODMetric', scores=('epistemic', 'max_softmax')), dict(type='CalibrationMetric')]
test_cfg = dict()
log_level = 'ERROR'
"""


@pytest.fixture
def folder(tmp_path):
    """Configs of a Monte-Carlo dropout model and of an ensemble, and two checkpoints of the plain one."""
    (tmp_path / 'base.py').write_text(BASE)
    (tmp_path / 'dropout.py').write_text(
        "_base_ = 'base.py'\nmodel = dict(type='MCDropoutClassifier', dropout=0.3, samples=4)\n")
    (tmp_path / 'ensemble.py').write_text(
        "_base_ = 'base.py'\nmodel = dict(type='EnsembleClassifier', members=['0.pth', '1.pth'])\n")
    parts = {}
    exec(BASE, parts)
    head = dict(parts['model']['head'], num_classes=8)
    for seed in range(2):
        torch.manual_seed(seed)
        model = MODELS.build(dict(parts['model'], head=head))
        torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / f'{seed}.pth')
    return tmp_path


def start(folder, monkeypatch, *arguments):
    """Run the tool in this process; return its exit status."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(sys, 'argv', ['test.py', *map(str, arguments)])
    specification = importlib.util.spec_from_file_location('tool_test', TOOL)
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    with own_instances():
        try:
            run_tool(tool.main)
        except SystemExit as end:
            return end.code
    return 0


@pytest.mark.parametrize('arguments', [('dropout.py', '0.pth'), ('ensemble.py', )], ids=str)
def test_metrics_of_doubt(folder, monkeypatch, arguments):
    results = []
    for name in ('first.json', 'second.json'):
        assert start(folder, monkeypatch, *arguments, '--out', name, '--out-item', 'metrics') in (0, None)
        results.append(json.loads((folder / name).read_text()))
    assert results[0] == results[1]  # deterministic
    assert {'ood/auroc_epistemic', 'ood/fpr95_max_softmax', 'calibration/ece'} <= set(results[0])


def test_other_models_need_their_checkpoint(folder, monkeypatch, capsys):
    assert start(folder, monkeypatch, 'dropout.py') == 2
    assert 'test: no checkpoint was given. Name one after the config' in capsys.readouterr().err
