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
def test_what_is_not_finite(loss, bad):
    assert found(loss) is bad
    assert found(loss, 'ignore') is False
    assert found(torch.as_tensor(loss).bfloat16()) is bad


def test_non_finite_losses_are_named_with_the_iteration():
    guard = NonFiniteLossGuard('me', 'raise', 20)
    losses = dict(loss_a=torch.tensor(math.nan), loss_b=torch.tensor(2.0), accuracy=torch.tensor(math.nan))
    with pytest.raises(
        NonFiniteLossError, match=r'^me: iteration 7: loss_a = nan \(finite: loss_b = 2\)\. The weights are'
    ):
        guard.drop_update(losses, torch.tensor(math.nan), 7)
    with pytest.raises(NonFiniteLossError, match=r'^me: iteration 7: loss = inf\.'):
        guard.drop_update({}, torch.tensor(math.inf), 7)
    with pytest.raises(NonFiniteLossError, match=r'a loss of another process is not finite \(here loss_b = 2\)'):
        guard.drop_update(dict(loss_b=torch.tensor(2.0)), torch.tensor(2.0), 7)


def drop(guard):
    guard.drop_update({}, torch.tensor(math.nan), 1)
    return guard.ends_dropped_update()


def test_dropped_updates_are_counted_from_the_last_one_that_was_done():
    guard = NonFiniteLossGuard('me', 'skip', 2)
    for _ in range(3):
        assert [drop(guard), drop(guard)] == [True, True]
        guard.reset()
    guard.load_state(dict(skipped_in_a_row=2))
    with pytest.raises(NonFiniteLossError, match='number 3 in a row'):
        drop(guard)
    assert not guard.is_dropping


def test_an_update_is_dropped_once_however_many_of_its_losses_are_not_finite():
    guard = NonFiniteLossGuard('me', 'skip', 1)
    for _ in range(3):
        guard.drop_update({}, torch.tensor(math.nan), 1)
    assert guard.state() == dict(skip_update=True, skipped_in_a_row=1)
    resumed = NonFiniteLossGuard('me', 'skip', 1)
    resumed.load_state(guard.state())
    assert resumed.state() == guard.state()
    assert (guard.ends_dropped_update(), guard.ends_dropped_update()) == (True, False)


def test_numbers_that_cannot_be():
    with pytest.raises(ValueError, match=r'expected max_skipped_updates in .*, got 0'):
        NonFiniteLossGuard('me', 'skip', 0)


def test_the_event_is_on_the_device_of_the_loss(monkeypatch):
    """Not on that of the current device, whose stream knows nothing of the copy that is waited for."""

    class OnSecondGPU(torch.Tensor):
        is_cuda = True
        device = torch.device('cuda:1')

    class Event:
        def record(self, stream):
            recorded.append(stream)

        def synchronize(self):
            recorded.append('waited')

    recorded, plain = [], torch.empty_like
    monkeypatch.setattr(torch.cuda, 'Event', Event)
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: f'the stream of {device}')
    monkeypatch.setattr(torch, 'empty_like', lambda one, **_: plain(one.as_subclass(torch.Tensor)))
    guard = NonFiniteLossGuard('me', 'raise', 1)
    guard.record(torch.tensor(math.nan).as_subclass(OnSecondGPU))
    assert recorded == ['the stream of cuda:1']
    assert guard.is_nonfinite()
    assert recorded[1:] == ['waited']
