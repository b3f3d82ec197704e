"""TF32 by one key of the runtime base."""

import pytest
import torch
from config_helpers import applied
from mmengine.config import Config

from hybridcls import config_path
from hybridcls.engine.config import ConfigError, load_config, provenance_of
from hybridcls.engine.config.tf32 import switch_tf32, tf32


@pytest.fixture(autouse=True)
def as_before():
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


def told(monkeypatch, wanted, gpu):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    return provenance_of(applied(Config(dict(env_cfg=dict(tf32=wanted))), tf32)).notes


def test_a_gpu_is_told_and_a_cpu_is_not(monkeypatch):
    (sentence,) = told(monkeypatch, True, True)
    assert sentence.startswith('env_cfg.tf32=True: the GPU multiplies')
    assert told(monkeypatch, True, False) == told(monkeypatch, False, True) == told(monkeypatch, None, True) == []
    with pytest.raises(ConfigError, match=r"env_cfg\.tf32: expected True, False or None.*, got 'on'"):
        told(monkeypatch, 'on', False)


@pytest.mark.parametrize(('wanted', 'gpu', 'expected'), [
    (True, True, True), (False, True, False), (True, False, None), (None, True, None)])  # fmt: skip
def test_the_switch(monkeypatch, wanted, gpu, expected):
    for before in (True, False):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = before
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
        switch_tf32(Config(dict(env_cfg=dict(tf32=wanted))))
        switch_tf32(Config({}))
        found = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        assert found == ((before if expected is None else expected),) * 2


def test_the_runtime_base_has_it_on():
    assert load_config(config_path('hybrid/ce_convnext_swin.py')).env_cfg.tf32 is True
