"""tools/test.py with evidential heads, MC dropout, ensembles and test-time augmentation."""

import importlib.util
import json
import pickle
import sys
from pathlib import Path

import pytest
import scipy.stats
import torch

from hybridcls.command_line import run_tool
from hybridcls.engine.runner.global_instances import isolated_globals
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
test_evaluator = [dict(type='OODMetric', scores=('epistemic', 'least_confidence')), dict(type='CalibrationMetric'),
                  dict(type='VerificationMetric')]
test_cfg = dict()
log_level = 'ERROR'
"""

MULTI = dict(
    type='MultiHead',
    in_channels=32,
    main='evidence',
    heads=dict(face=dict(type='ArcFaceHead', scale=4.0), evidence=dict(type='EvidentialHead')),
)


@pytest.fixture
def folder(tmp_path):
    """Configs of a Monte-Carlo dropout model and of an ensemble, and two checkpoints of the plain one."""
    (tmp_path / 'base.py').write_text(BASE)
    (tmp_path / 'dropout.py').write_text(
        "_base_ = 'base.py'\nmodel = dict(type='MCDropoutClassifier', dropout=0.3, samples=4)\n"
    )
    (tmp_path / 'ensemble.py').write_text(
        "_base_ = 'base.py'\nmodel = dict(type='EnsembleClassifier', members=['0.pth', '1.pth'])\n"
    )
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
    with isolated_globals():
        try:
            run_tool(tool.main)
        except SystemExit as end:
            return end.code
    return 0


@pytest.mark.parametrize('arguments', [('dropout.py', '0.pth'), ('ensemble.py',)], ids=str)
def test_metrics_of_uncertainty(folder, monkeypatch, arguments):
    results = []
    for name in ('first.json', 'second.json'):
        assert start(folder, monkeypatch, *arguments, '--out', name, '--out-item', 'metrics') in (0, None)
        results.append(json.loads((folder / name).read_text()))
    assert results[0] == results[1]  # deterministic
    assert {'ood/auroc_epistemic', 'ood/fpr95_least_confidence', 'calibration/ece', 'verification/tar@0.001'} <= set(
        results[0]
    )
    assert 'verification/tar@0.0001' not in results[0]  # 2,415 pairs


def test_a_file_of_pairs(folder, monkeypatch):
    (folder / 'pairs.txt').write_text(''.join(f'{n} {(7 * n + 3) % 50} {n % 2}\n' for n in range(50)))
    (folder / 'pairs.py').write_text(
        "_base_ = 'base.py'\ntest_dataloader = dict(dataset=dict(_delete_=True, type='Digits', split='test', "
        'digits=range(8), pipeline=_base_.pipeline, indices=50))\n'
        "test_evaluator = [dict(type='VerificationMetric', pairs='pairs.txt', far=0.1)]\n"
    )
    assert start(folder, monkeypatch, 'pairs.py', '0.pth', '--out', 'out.json', '--out-item', 'metrics') in (0, None)
    assert set(json.loads((folder / 'out.json').read_text())) == {
        'verification/tar@0.1',
        'verification/accuracy',
        'verification/accuracy_std',
    }


def test_heads_are_aggregated_over_views(folder, monkeypatch):
    torch.manual_seed(0)
    (folder / 'plain.py').write_text(
        f"_base_ = 'base.py'\nmodel = dict(head=dict(_delete_=True, **{MULTI}))\n"
        "test_evaluator = [dict(type='OODMetric', scores=('epistemic', 'vacuity'))]\n"
    )
    (folder / 'mirrored.py').write_text(
        "_base_ = 'plain.py'\nflip = [dict(type='RandomFlip', prob=1.), *_base_.pipeline]\n"
        "marked = [dict(type='MarkUnknown'), *flip]\ntest_dataloader = dict(dataset=dict(datasets=["
        'dict(_base_.test_dataloader.dataset.datasets[0], pipeline=flip),'
        'dict(_base_.test_dataloader.dataset.datasets[1], pipeline=marked)]))\n'
    )
    parts = {}
    exec(BASE, parts)
    model = MODELS.build(dict(parts['model'], head=dict(MULTI, num_classes=8)))
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter)  # members that differ
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'plain.pth')
    found = {}
    for name, arguments in dict(plain=['plain.py'], mirrored=['mirrored.py'], joined=['plain.py', '--tta']).items():
        config, *options = arguments
        assert start(folder, monkeypatch, config, 'plain.pth', '--out', f'{name}.pkl', *options) in (0, None)
        found[name] = pickle.loads((folder / f'{name}.pkl').read_bytes())
    assert len(found['joined']) == 70
    for joined, *views in zip(*(found[name] for name in ('joined', 'plain', 'mirrored')), strict=True):
        assert joined['gt_label'].tolist() == views[0]['gt_label'].tolist()
        check_joined(joined, views)
        for name in MULTI['heads']:
            check_joined(joined['heads'][name], [view['heads'][name] for view in views])
    assert any(
        abs(sample['epistemic'] - view['epistemic']) > 1e-3
        for sample, view in zip(found['joined'], found['plain'], strict=True)
    )


def test_tta_pipeline_with_several_datasets_is_an_error(folder, monkeypatch, capsys):
    (folder / 'views.py').write_text("_base_ = 'base.py'\ntta_pipeline = [dict(type='PackInputs')]\n")
    assert start(folder, monkeypatch, 'views.py', '0.pth', '--tta') == 2
    assert 'expected one dataset for tta_pipeline, got 2 in test_dataloader.dataset' in capsys.readouterr().err


def check_joined(joined, views):
    """The mean member; its uncertainties add up to its entropy."""
    mean = (views[0]['pred_score'] + views[1]['pred_score']) / 2
    torch.testing.assert_close(joined['pred_score'], mean)
    assert joined['pred_label'].item() == mean.argmax()
    assert joined['total'].item() == pytest.approx(scipy.stats.entropy(mean), rel=1e-5, abs=1e-6)
    assert joined['total'].item() == pytest.approx(joined['aleatoric'].item() + joined['epistemic'].item(), rel=1e-5)
    torch.testing.assert_close(joined['embedding'], (views[0]['embedding'] + views[1]['embedding']) / 2)
    own = [view.get('aleatoric', scipy.stats.entropy(view['pred_score'])) for view in views]
    assert joined['aleatoric'].item() == pytest.approx(float(own[0] + own[1]) / 2, rel=1e-5, abs=1e-6)
    assert ('vacuity' in joined) == ('vacuity' in views[0])
    if 'vacuity' in joined:
        torch.testing.assert_close(joined['vacuity'], (views[0]['vacuity'] + views[1]['vacuity']) / 2)


def test_missing_checkpoint_is_an_error(folder, monkeypatch, capsys):
    assert start(folder, monkeypatch, 'dropout.py') == 2
    assert 'test: no checkpoint was given. Name one after the config' in capsys.readouterr().err
