"""The properties of a machine."""

import torch

from hybridcls.apis import machine as module
from hybridcls.apis.machine import machine


def test_what_is_told_of_a_machine(monkeypatch):
    monkeypatch.setattr(module, 'cpu_name', lambda: 'A CPU')
    monkeypatch.setattr(module, 'cpu_flags', lambda: ('fpu', 'avx2', 'avx512_bf16', 'xyz'))
    found = machine(torch.device('cpu'))
    assert (found['cpu'], found['flags']) == ('A CPU', ['avx2', 'avx512_bf16'])
    assert (found['device'], found['threads'], 'gpu' in found) == ('cpu', torch.get_num_threads(), False)
