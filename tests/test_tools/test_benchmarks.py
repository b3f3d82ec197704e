"""tools/benchmark.py: the benchmarks run; their numbers need an idle machine."""

import pytest
from processes import run_tool


@pytest.mark.slow
def test_hybrid_step():
    output = run_tool(
        'benchmark.py',
        'hybrid_step',
        '--cnn',
        'test_convnext2',
        '--vit',
        'test_vit',
        '--img-size',
        '64',
        '--batch-size',
        '2',
        '--rounds',
        '1',
        '--levers',
        '--amp',
        'bfloat16',
    )
    assert 'test_convnext2 + test_vit, 64 px, batch 2, bfloat16' in output
    for name in ('the two models', 'hybrid', 'hybrid, CBAM, TokenLearner'):
        assert sum(line.startswith(f'{name}  ') for line in output.splitlines()) == 1
