"""Peak memory: the largest amount allocated at one time, against known tensor sizes."""

import pytest
import torch
from torch import nn

from hybridcls.apis.memory import peak_memory

KIB = 1024


def zeros(kib, device='cpu'):
    return torch.zeros(kib * KIB // 4, device=device)


def one_after_the_other():
    for _ in range(5):
        zeros(8)


def test_released_memory_counts_once():
    assert peak_memory(one_after_the_other, 'cpu') == 8 * KIB
    assert peak_memory(lambda: [zeros(8) for _ in range(5)], 'cpu') == 40 * KIB


def test_peak_is_the_maximum_not_the_last_value():
    def hill():
        low = zeros(1)
        peak = [zeros(16), zeros(16)]
        del peak
        return low, zeros(2)

    assert peak_memory(hill, 'cpu') == 33 * KIB


def test_earlier_memory_is_excluded_and_gradients_count():
    layer, inputs = nn.Linear(256, 256, bias=False), torch.ones(1, 256)
    found = peak_memory(lambda: layer(inputs).sum().backward(), 'cpu')
    assert 256 * KIB <= found < 264 * KIB  # the gradient of the weight, and rows of 1 KiB


def test_empty_function_on_the_default_cpu():
    assert peak_memory(lambda: None) == 0
    if not torch.cuda.is_available():
        assert peak_memory(lambda: zeros(4)) == 4 * KIB


@pytest.mark.gpu
def test_peak_memory_on_a_gpu():
    kept = zeros(1024, 'cuda')
    assert peak_memory(lambda: [zeros(512, 'cuda') for _ in range(3)], kept.device) == 1536 * KIB
    assert peak_memory(lambda: [zeros(512, 'cuda') for _ in range(3)]) == 1536 * KIB
