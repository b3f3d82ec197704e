"""How large a cache may be: the numbers of the system, against what they are made of."""

import shutil
from pathlib import Path

import pytest

from hybridcls.datasets.cache_limit import cache_limit, gigabytes, too_large

OPEN = dict(max_bytes=None)


def test_memory(monkeypatch):
    lines = Path('/proc/meminfo').read_text().splitlines()
    total = 1024 * int(next(line.split()[1] for line in lines if line.startswith('MemTotal')))
    monkeypatch.delenv('LOCAL_WORLD_SIZE', raising=False)
    alone, whose = cache_limit(OPEN, '')
    assert 0 < alone <= total // 2
    assert whose == 'half of the available memory'
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    shared, whose = cache_limit(OPEN, '')
    assert shared == pytest.approx(alone / 4, rel=0.2)
    assert whose == 'half of the available memory of 4 processes'


def test_disk_and_a_given_number(tmp_path):
    limit, whose = cache_limit(OPEN, str(tmp_path / 'file'))
    assert limit == pytest.approx(0.9 * shutil.disk_usage(tmp_path).free, rel=0.01)
    assert whose == f'nine tenths of the free space of {tmp_path}'
    assert cache_limit(dict(max_bytes=7), str(tmp_path / 'file')) == (7, 'max_bytes')


def test_the_error_has_the_numbers():
    words = str(too_large(10_000, 1.5e6, 3_000_000_000, 'max_bytes'))
    assert 'at most 3.00 GB (max_bytes), got about 15.00 GB: 10,000 images of 1.50 MB each' in words
    assert gigabytes(1.25e9) == '1.25 GB'
