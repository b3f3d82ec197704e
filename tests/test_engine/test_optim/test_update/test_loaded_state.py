"""Whether a loaded state belongs to the weights beside it."""

import pytest
import torch

from hybridcls.distributed.layouts import Shards
from hybridcls.engine.optim.update.loaded_state import LoadedState, fingerprint


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_fingerprint_sees_the_smallest_change(dtype):
    params = [torch.linspace(-1, 1, 7, dtype=dtype), torch.ones(2, 2, dtype=dtype)]
    before = fingerprint(params, Shards())
    assert fingerprint([param.clone() for param in params], Shards()) == before
    params[1][0, 1] = torch.nextafter(torch.tensor(1.0, dtype=dtype), torch.tensor(2.0, dtype=dtype))
    now = fingerprint(params, Shards())
    assert [a == b for a, b in zip(now, before, strict=True)] == [True, False]


@pytest.mark.parametrize(
    ('saved', 'now', 'is_stale'),
    [
        (([1, 2], 5), ([1, 2], 9), False),  # weights decide where they can
        (([1, 2], 5), ([1, 3], 5), True),
        (([1, None], 5), ([1, 3], 5), False),
        (([1, 2], 5), ([1, 2, 3], 5), True),
        ((None, 5), ([1, 2], 5), False),
        ((None, 5), (None, 6), True),
        (([1, 2], 5), (None, 6), True),
        ((None, 5), (None, None), False),
        ((None, None), (None, 6), False),
    ],
)
def test_staleness(saved, now, is_stale):
    assert LoadedState(*saved, is_half_done=False).is_stale(*now) is is_stale
