"""Mixed precision of a config: --amp, and what a device can do."""

from contextlib import nullcontext

import pytest
import torch
from config_helpers import applied, loaded, write
from mmengine.config import Config

from hybridcls import config_path
from hybridcls.engine.config import ConfigError, load_config, provenance_of
from hybridcls.engine.config.mixed_precision import evaluation_precision, mixed_precision


def wrapper_after(monkeypatch, cuda=False, bfloat16=True, **wrapper):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: bfloat16)
    return applied(Config(dict(optim_wrapper=wrapper)), mixed_precision, True).optim_wrapper.to_dict()


@pytest.mark.parametrize('name', ['ComposedOptimWrapper', 'SAMOptimWrapper', 'LookaheadOptimWrapper', 'GCOptimWrapper'])
@pytest.mark.parametrize(('cuda', 'bfloat16', 'expected'), [
    (False, True, 'bfloat16'), (True, True, 'bfloat16'), (True, False, 'float16')])  # fmt: skip
def test_our_wrappers_get_what_the_device_has(monkeypatch, name, cuda, bfloat16, expected):
    for wrapper in (dict(type=name), dict(type=name, amp=None)):
        assert wrapper_after(monkeypatch, cuda, bfloat16, **wrapper)['amp'] == expected


def test_a_written_type_stays_and_is_told(monkeypatch):
    cfg = Config(dict(optim_wrapper=dict(type='ComposedOptimWrapper', amp='float16')))
    assert applied(cfg, mixed_precision, True).optim_wrapper.amp == 'float16'
    assert provenance_of(cfg).notes == ["--amp: the config sets optim_wrapper.amp='float16', which is kept."]


def test_the_plain_wrapper_becomes_ours(monkeypatch):
    expected = dict(type='ComposedOptimWrapper', amp='bfloat16', clip_grad=dict(max_norm=1.0))
    assert wrapper_after(monkeypatch, type='OptimWrapper', clip_grad=dict(max_norm=1.0)) == expected
    assert wrapper_after(monkeypatch, clip_grad=dict(max_norm=1.0)) == expected


def test_mmengines_own_stays_on_cuda_and_becomes_ours_on_the_cpu_with_all_that_is_written(monkeypatch):
    on_cuda = wrapper_after(monkeypatch, True, type='AmpOptimWrapper')
    assert on_cuda == dict(type='AmpOptimWrapper', loss_scale='dynamic')
    on_cpu = wrapper_after(monkeypatch, type='AmpOptimWrapper', loss_scale=512.0, dtype='float16')
    assert on_cpu == dict(type='ComposedOptimWrapper', loss_scale=512.0, dtype='float16')


def test_bfloat16_of_a_shipped_base_is_fitted_to_the_device(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: False)
    base = config_path('hybrid/ce_convnext_swin.py')
    cfg = load_config(write(tmp_path, 'child.py', f'_base_ = {base!r}\n'))
    assert applied(cfg, mixed_precision, False).optim_wrapper.amp == 'float16'
    own = load_config(write(tmp_path, 'own.py', f"_base_ = {base!r}\noptim_wrapper = dict(amp='bfloat16')\n"))
    with pytest.raises(ConfigError, match=r"optim_wrapper\.amp='bfloat16': this device computes with float16 only"):
        applied(own, mixed_precision, False)


def test_nothing_happens_without_the_option(tmp_path):
    cfg = loaded(tmp_path, "optim_wrapper = dict(type='OptimWrapper')\n")
    assert applied(cfg, mixed_precision, False).optim_wrapper == dict(type='OptimWrapper')


def test_what_cannot_be_told_is_an_error(monkeypatch):
    with pytest.raises(ConfigError, match=r"--amp: expected optim_wrapper.type to be .*, got 'ApexOptimWrapper'"):
        wrapper_after(monkeypatch, True, type='ApexOptimWrapper')


def test_several_wrappers_are_none_whose_precision_one_option_sets():
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    with pytest.raises(ConfigError, match='--amp: expected one optimizer wrapper, got one for each of several'):
        applied(Config(dict(optim_wrapper=dict(constructor='C', cnn=wrapper, vit=wrapper))), mixed_precision, True)


@pytest.mark.parametrize('key', ['val_cfg', 'test_cfg'])
def test_loops_of_mmengine_evaluate_in_mixed_precision_on_few_devices(monkeypatch, key):
    cfg = Config({key: dict(fp16=True)})
    monkeypatch.setattr('torch.autocast', lambda **options: nullcontext())
    for kind in ('cpu', 'cuda', 'npu'):
        monkeypatch.setattr('mmengine.device.get_device', lambda kind=kind: kind)
        applied(cfg, evaluation_precision)
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'mps')
    applied(Config({key: dict()}), evaluation_precision)
    with pytest.raises(ConfigError, match=rf'{key}\.fp16=True: mmengine does not .* on mps'):
        applied(cfg, evaluation_precision)
