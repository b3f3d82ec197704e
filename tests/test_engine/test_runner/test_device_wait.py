"""Clocks wait for the device that computes."""

import pytest
import torch

from hybridcls.engine.runner.device_wait import wait_for_device


@pytest.mark.parametrize(('device', 'expected'), [('cpu', []), ('cuda:1', [('cuda:1',)]), ('mps', [()])])
def test_the_device_is_waited_for(monkeypatch, device, expected):
    calls = []
    for module in (torch.cuda, torch.mps):
        monkeypatch.setattr(module, 'synchronize', lambda *where: calls.append(tuple(map(str, where))))
    wait_for_device(torch.device(device))
    assert calls == expected
