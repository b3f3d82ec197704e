"""Zeros: shape, dtype, that they can be written, and that their memory comes when it is written and goes with them."""

import os
import resource

import pytest
import torch

from hybridcls.functional.lazy_zeros import lazy_zeros


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64])
@pytest.mark.parametrize('shape', [(), (0, 3), (3, 5), (2, 3, 4), (1025, 1024)])
def test_zeros(dtype, shape):
    like = torch.ones(shape).to(dtype).requires_grad_(dtype.is_floating_point)
    zeros = lazy_zeros(like)
    assert zeros.shape == like.shape
    assert zeros.dtype == dtype
    assert not zeros.requires_grad
    assert torch.equal(zeros, torch.zeros(shape, dtype=dtype))
    assert torch.equal(zeros.add_(1), like.detach())


def test_transposed_is_contiguous():
    assert lazy_zeros(torch.ones(2, 3).t()).is_contiguous()
    assert lazy_zeros(torch.ones(1100, 1024).t()).is_contiguous()


def resident_pages():
    with open('/proc/self/statm', encoding='utf8') as numbers:
        return int(numbers.read().split()[1])


@pytest.mark.skipif(not os.path.exists('/proc/self/statm'), reason='the pages of a process are counted in Linux')
def test_pages_come_when_they_are_written():
    like = torch.empty(2**28)  # 1 GiB that is never touched
    before, page = resident_pages(), resource.getpagesize()
    zeros = lazy_zeros(like)
    zeros[:: 2**26] = 1.0
    assert (resident_pages() - before) * page < 2**27
    assert zeros[2**26] == 1
    written = lazy_zeros(like[: 2**24]).fill_(1.0)  # 64 MiB
    assert (resident_pages() - before) * page > 2**25
    del written, zeros
    assert (resident_pages() - before) * page < 2**25
