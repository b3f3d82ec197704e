"""The name and the flags of a CPU, from a file as Linux writes it."""

from hybridcls import processor
from hybridcls.processor import cpu_flags, cpu_name


def test_name_and_flags(tmp_path, monkeypatch):
    file = tmp_path / 'cpuinfo'
    file.write_text('processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu avx2 avx512_bf16 xyz\n\nflags: other\n')
    monkeypatch.setattr(processor, '_CPUINFO', str(file))
    assert cpu_name() == 'A CPU'
    assert cpu_flags() == ('fpu', 'avx2', 'avx512_bf16', 'xyz')


def test_without_such_a_file_the_flags_are_not_known(monkeypatch):
    monkeypatch.setattr(processor, '_CPUINFO', '/nowhere')
    assert cpu_flags() == ()
    assert cpu_name()
