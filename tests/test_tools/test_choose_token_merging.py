"""tools/choose_token_merging.py as a user starts it, against tests of the printed config."""

import importlib.util
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from timm.layers import Mlp

from hybridcls.apis import merging_choice
from hybridcls.apis.timing import Timing
from hybridcls.datasets import Digits
from hybridcls.engine import load_config
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.models.adapters import add_token_merging, remove_token_merging
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
        with isolated_globals():
            module.main()

    return run


@pytest.mark.slow
def test_output_has_speed_accuracy_and_config(tool, tmp_path, capsys):
    config = tmp_path / 'vit.py'
    config.write_text(CONFIG)
    model = MODELS.build(load_config(config, {}).model)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'vit.pth')
    # Any time will do: what is asked for must be reached by no merging at all.
    tool(config, tmp_path / 'vit.pth', '--target-ms', 60000, '--rounds', 1, '--work-dir', tmp_path / 'w')
    output = capsys.readouterr().out
    assert 'r = 0: ' in output
    assert 'token merging' in output
    accuracy = next(line for line in output.splitlines() if line.startswith('accuracy/top1')).split()
    assert accuracy[1] == accuracy[2]
    assert accuracy[3] == '+0.0000'
    assert 'fast enough without merging' in output
    assert 'token_merging_ratio' not in output.split('fast enough')[1]


@pytest.fixture
def clock(monkeypatch):
    """A machine on which a forward pass takes as many milliseconds as the MLPs of its blocks have patches."""

    def timings(functions, rounds, warmup):
        lengths = {}
        for name, function in functions.items():
            seen = []

            def look(module, inputs, seen=seen):
                if isinstance(module, Mlp):
                    seen.append(inputs[0].shape[1] - 1)

            handle = torch.nn.modules.module.register_module_forward_pre_hook(look)
            function()
            handle.remove()
            lengths[name] = sum(seen) / 1e3
        merged, whole = lengths['merged'], lengths['whole']
        return dict(merged=Timing(merged, 1.0, (1.0, 1.0)), whole=Timing(whole, whole / merged, (1.0, 1.0)))

    monkeypatch.setattr(merging_choice, 'interleaved_timings', timings)


def images_and_labels():
    """Those that the config tests, without any of its transforms."""
    digits = Digits(split='test', indices=16)
    images = np.stack([cv2.resize(digits[i]['img'], (32, 32)) for i in range(16)])
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 255, torch.tensor([digits[i]['gt_label'] for i in range(16)])


def accuracy(model, ratio):
    """Top-1 in percent."""
    images, labels = images_and_labels()
    merging = add_token_merging(model, ratio)
    predicted = model.eval()(images).argmax(1)
    merging.undo()
    return 100 * (predicted == labels).float().mean().item()


def test_chosen_tested_and_printed_ratio_are_equal(tool, clock, tmp_path, capsys):
    """Also where the config merges tokens itself, twice: that would hide what was chosen."""
    config = tmp_path / 'vit.py'
    config.write_text(
        CONFIG + "custom_hooks = [dict(type='TokenMergingHook', token_merging_ratio=0.5)]\n"
        "model['backbone']['token_merging_ratio'] = 0.5\n"
    )
    torch.manual_seed(5)
    model = MODELS.build(load_config(config, {}).model)
    remove_token_merging(model)
    with torch.no_grad():  # the nearest mean: a random head gives all images the same class
        images, labels = images_and_labels()
        features = model.eval().extract_feat(images)[-1]
        means = torch.stack(
            [
                features[labels == digit].mean(0) if (labels == digit).any() else features.mean(0) - 9
                for digit in range(10)
            ]
        )
        model.head.fc.weight.copy_(means)
        model.head.fc.bias.copy_(-means.square().sum(1) / 2)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'vit.pth')
    # Six blocks of 16 patches are 96; r = 1 falling leaves 75 (1.28 times as fast), r = 2 leaves 46 (2.09), 3 too few.
    tool(
        config,
        tmp_path / 'vit.pth',
        '--speedup',
        1.5,
        '--inflection',
        -1,
        '--batch-size',
        20,
        '--work-dir',
        tmp_path / 'w',
    )
    output = capsys.readouterr().out
    assert 'r = 2: 46.0 ms for 20 images, 2.09 times as fast as without merging (96.0 ms)' in output
    assert '16 patch tokens become 6' in output
    row = next(line for line in output.splitlines() if line.startswith('accuracy/top1')).split()
    whole, merged = accuracy(model, 0), accuracy(model, dict(r=2, inflection=-1))
    assert whole != merged
    assert [float(number) for number in row[1:]] == pytest.approx([whole, merged, merged - whole], abs=1e-3)
    ratio = 'token_merging_ratio=dict(r=2, inflection=-1)'
    assert f"custom_hooks = [dict(type='TokenMergingHook', {ratio})]" in output
    assert f'model = dict(backbone=dict({ratio}))' in output


def test_missing_checkpoint_is_an_error(tool, tmp_path):
    (tmp_path / 'vit.py').write_text(CONFIG)
    with pytest.raises(FileNotFoundError, match=r'choose_token_merging: checkpoint=.*none\.pth'):
        tool(tmp_path / 'vit.py', tmp_path / 'none.pth', '--speedup', 1.3)
