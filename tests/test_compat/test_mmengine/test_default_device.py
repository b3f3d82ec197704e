"""The device that mmengine has chosen can be chosen again."""

import torch
from mmengine.device import get_device, utils
from toy_runs import train

from hybridcls.compat.mmengine.default_device import set_device


def test_the_runner_goes_where_it_is_told(monkeypatch, toy_configs, tmp_path):
    monkeypatch.setattr(utils, 'DEVICE', 'cuda')
    set_device('cpu')
    assert get_device() == 'cpu'
    runner = train(toy_configs / 'toy.py', tmp_path / 'w')
    assert next(runner.model.parameters()).device == torch.device('cpu')
