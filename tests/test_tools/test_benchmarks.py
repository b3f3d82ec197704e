"""Benchmarks run; their numbers are for machines that do nothing else."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def benchmark(*arguments):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', 'tools/benchmark.py', *arguments], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)})


@pytest.mark.slow
def test_hybrid_step():
    out = benchmark('hybrid_step', '--cnn', 'test_convnext2', '--vit', 'test_vit', '--img-size', '64', '--batch-size',
                    '2', '--rounds', '1', '--levers', '--amp', 'bfloat16')
    assert 'test_convnext2 + test_vit, 64 px, batch 2, bfloat16' in out.stdout, out.stderr
    for name in ('the two models', 'hybrid', 'hybrid, CBAM, TokenLearner'):
        assert sum(line.startswith(f'{name}  ') for line in out.stdout.splitlines()) == 1
