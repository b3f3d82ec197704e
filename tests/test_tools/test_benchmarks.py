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


@pytest.mark.nightly
def test_inference():
    output = run_tool(
        'benchmark.py', 'inference', '--model', 'test_resnet', '--img-size', '64', '--workers', '0', '--rounds', '1'
    )
    assert '64 images, test_resnet, 64 px, batch 32, 1 threads, 0 workers' in output
    assert 'images per second of hybridcls / of the loop: ' in output
    assert sum(line.startswith('hybridcls predict, one image  ') for line in output.splitlines()) == 1
