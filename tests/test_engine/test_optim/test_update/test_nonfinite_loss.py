import math

import pytest
import torch

from hybridcls.engine.optim.update.nonfinite_loss import NonFiniteLossError, NonFiniteLossGuard


def found(loss, action='raise'):
    guard = NonFiniteLossGuard('me', action, 20)
    guard.record(torch.as_tensor(loss))
    return guard.is_nonfinite()


@pytest.mark.parametrize(
    ('loss', 'bad'),
    [(1.0, False), (math.nan, True), (math.inf, True), (-math.inf, True), ([1.0, math.nan], True), ([1.0, 2.0], False)],
    ids=str,
)
def test_what_is_bad(loss, bad):
    assert found(loss) is bad
    assert found(loss, 'ignore') is False
    assert found(torch.as_tensor(loss).bfloat16()) is bad


def test_the_bad_ones_are_named_with_the_iteration():
    guard = NonFiniteLossGuard('me', 'raise', 20)
    losses = dict(loss_a=torch.tensor(math.nan), loss_b=torch.tensor(2.0), accuracy=torch.tensor(math.nan))
    with pytest.raises(
        NonFiniteLossError, match=r'^me: iteration 7: loss_a = nan \(finite: loss_b = 2\)\. The weights are'
    ):
        guard.handle(losses, torch.tensor(math.nan), 7)
    with pytest.raises(NonFiniteLossError, match=r'^me: iteration 7: loss = inf\.'):
        guard.handle({}, torch.tensor(math.inf), 7)
    with pytest.raises(NonFiniteLossError, match=r'a loss of another process is not finite \(here loss_b = 2\)'):
        guard.handle(dict(loss_b=torch.tensor(2.0)), torch.tensor(2.0), 7)


def test_the_count_of_dropped_updates_begins_anew_after_a_good_one():
    guard = NonFiniteLossGuard('me', 'skip', 2)
    bad = torch.tensor(math.nan)
    for _ in range(3):
        guard.handle({}, bad, 1)
        guard.handle({}, bad, 1)
        guard.reset()
    guard.resume(2)
    with pytest.raises(NonFiniteLossError, match='number 3 in a row'):
        guard.handle({}, bad, 1)


def test_numbers_that_cannot_be():
    with pytest.raises(ValueError, match=r'expected max_skipped_updates in .*, got 0'):
        NonFiniteLossGuard('me', 'skip', 0)
