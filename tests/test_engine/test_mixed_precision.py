import pytest
import torch
from mmengine.config import Config

from hybridcls.engine.mixed_precision import use_mixed_precision


def wrapper_after(cuda, monkeypatch, **wrapper):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    cfg = Config(dict(optim_wrapper=wrapper))
    use_mixed_precision(cfg)
    return cfg.optim_wrapper.to_dict()


@pytest.mark.parametrize('name', ['ComposedOptimWrapper', 'SAMOptimWrapper', 'LookaheadOptimWrapper', 'GCOptimWrapper'])
def test_our_wrappers_are_told(monkeypatch, name):
    assert wrapper_after(True, monkeypatch, type=name)['amp'] == 'float16'
    assert wrapper_after(False, monkeypatch, type=name)['amp'] == 'bfloat16'
    assert wrapper_after(False, monkeypatch, type=name, amp=None)['amp'] == 'bfloat16'
    assert wrapper_after(True, monkeypatch, type=name, amp='bfloat16')['amp'] == 'bfloat16'


def test_the_plain_wrapper_becomes_ours(monkeypatch):
    expected = dict(type='ComposedOptimWrapper', amp='bfloat16', clip_grad=dict(max_norm=1.0))
    assert wrapper_after(False, monkeypatch, type='OptimWrapper', clip_grad=dict(max_norm=1.0)) == expected
    assert wrapper_after(False, monkeypatch, clip_grad=dict(max_norm=1.0)) == expected


def test_mmengines_own_stays_on_cuda_and_becomes_ours_on_the_cpu(monkeypatch):
    on_cuda = wrapper_after(True, monkeypatch, type='AmpOptimWrapper')
    assert on_cuda == dict(type='AmpOptimWrapper', loss_scale='dynamic')
    on_cpu = wrapper_after(False, monkeypatch, type='AmpOptimWrapper', loss_scale='dynamic')
    assert on_cpu == dict(type='ComposedOptimWrapper', amp='bfloat16')


def test_what_cannot_be_told_is_an_error(monkeypatch):
    with pytest.raises(ValueError, match=r"--amp: optim_wrapper.type='ApexOptimWrapper' is not one"):
        wrapper_after(True, monkeypatch, type='ApexOptimWrapper')
    with pytest.raises(ValueError, match='nothing to train'):
        use_mixed_precision(Config(dict()))
