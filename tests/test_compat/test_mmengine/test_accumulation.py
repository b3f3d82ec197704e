"""The counts of an accumulation, as mmengine's own wrapper goes by them."""

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from hybridcls.compat.mmengine import (
    AccumulationCounts,
    accumulation_counts,
    clip_and_log_gradient,
    count_micro_batch,
    set_accumulation_counts,
)


def make_wrapper(**kwargs):
    param = nn.Parameter(torch.ones(2))
    return param, OptimWrapper(torch.optim.SGD([param], lr=0.1), **kwargs)


def test_counts_of_an_accumulation_are_those_that_mmengine_goes_by():
    """A training of eight micro-batches, three an update: the last update has two."""
    param, wrapper = make_wrapper(accumulative_counts=3)
    assert accumulation_counts(wrapper) == AccumulationCounts(done=0, per_update=3, total=-1)
    _, expected = make_wrapper(accumulative_counts=3)
    expected.initialize_count_status(nn.Linear(1, 1), 3, 8)
    set_accumulation_counts(wrapper, 3, 8)
    for done in range(3, 8):
        assert accumulation_counts(wrapper) == (done, 3, 8)
        assert accumulation_counts(wrapper).is_between_updates == (done % 3 == 0)
        assert wrapper.scale_loss(1.0) == expected.scale_loss(1.0) == (1 / 3 if done < 6 else 1 / 2)
        count_micro_batch(wrapper)
        expected.backward(param.sum())
        assert wrapper.should_update() == expected.should_update()


def test_a_gradient_is_clipped_by_the_settings_and_its_norm_logged():
    param, wrapper = make_wrapper(clip_grad=dict(max_norm=1.0))
    param.grad = torch.tensor([3.0, 4.0])
    clip_and_log_gradient(wrapper)
    torch.testing.assert_close(param.grad, torch.tensor([0.6, 0.8]), atol=1e-5, rtol=0)
    assert wrapper.message_hub.get_scalar('train/grad_norm').current() == 5
