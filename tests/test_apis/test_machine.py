"""The names of a machine, from a file as Linux writes it."""

import torch

from hybridcls.apis import machine as module
from hybridcls.apis.machine import cpu_flags, machine


def test_names_and_flags(tmp_path, monkeypatch):
    file = tmp_path / 'cpuinfo'
    file.write_text('processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu avx2 avx512_bf16 xyz\n\nflags: other\n')
    monkeypatch.setattr(module, '_CPUINFO', str(file))
    found = machine(torch.device('cpu'))
    assert (found['cpu'], found['flags']) == ('A CPU', ['avx2', 'avx512_bf16'])
    assert (found['device'], found['threads'], 'gpu' in found) == ('cpu', torch.get_num_threads(), False)
    assert 'xyz' in cpu_flags()


def test_without_such_a_file_nothing_is_known(monkeypatch):
    monkeypatch.setattr(module, '_CPUINFO', '/nowhere')
    assert cpu_flags() == ()
    assert machine(torch.device('cpu'))['cpu']
