"""Buffers that a forward pass changes: what a second pass sees of them, and leaves of them."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from hybridcls.engine.optim import ComposedOptimWrapper
from hybridcls.models.losses import SupConLoss
from hybridcls.replay.mutable_state import MutableState

RHO = 0.2


class Contrast(BaseModel):
    """A layer, and a loss that looks back to past batches."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(5, 3)
        self.contrast = SupConLoss(queue=dict(size=13, dim=3), learn_temperature=True)

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.contrast(self.layer(inputs).unsqueeze(1), data_samples))


def batches(count):
    generator = torch.Generator().manual_seed(1)
    return [
        dict(inputs=torch.randn(6, 5, generator=generator), data_samples=torch.randint(0, 3, (6,), generator=generator))
        for _ in range(count)
    ]


def test_a_second_pass_of_sam_sees_the_queue_of_the_first_and_fills_it_once():
    model, twin = Contrast(), Contrast()
    wrapper = ComposedOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), stages=[dict(type='SAM', rho=RHO)])
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for batch in batches(4):  # the queue fills up with the third
        model.train_step(batch, wrapper)

        weights = [param.detach().clone() for param in twin.parameters()]
        before = copy.deepcopy(twin.contrast.queue.state_dict())
        optimizer.zero_grad()
        twin(**batch)['loss'].backward()
        after = copy.deepcopy(twin.contrast.queue.state_dict())
        norm = torch.cat([param.grad.flatten() for param in twin.parameters()]).norm()
        with torch.no_grad():
            for param in twin.parameters():
                param.add_(RHO * param.grad / norm)
        optimizer.zero_grad()
        twin.contrast.queue.load_state_dict(before)
        twin(**batch)['loss'].backward()
        with torch.no_grad():
            for param, weight in zip(twin.parameters(), weights, strict=True):
                param.copy_(weight)
        optimizer.step()
        twin.contrast.queue.load_state_dict(after)
        torch.testing.assert_close(model.state_dict(), twin.state_dict(), rtol=1e-6, atol=1e-6)
    assert model.contrast.queue.filled == 13


@pytest.mark.parametrize('in_place', [True, False])
def test_what_a_second_pass_sees_of_a_buffer(in_place):
    module = nn.Module()
    module.register_buffer('count', torch.tensor(1))
    state = MutableState([module])
    state.record()

    def forward():
        if in_place:
            module.count += 1
        else:
            module.count = module.count + 1

    forward()
    with state.rolled_back():
        assert module.count == (2 if in_place else 1)
        forward()
    assert module.count == 2


def test_on_copies_autograd_may_keep_what_the_second_pass_read():
    """Running statistics in eval mode are saved for backward; a copy back into them would be an error there."""
    norm = nn.BatchNorm1d(2).eval()
    state = MutableState([norm])
    state.record()
    own = norm.running_mean
    with state.rolled_back(on_copies=True):
        assert norm.running_mean is not own
        output = norm(torch.randn(3, 2))
        norm.running_mean += 1
    assert norm.running_mean is own
    assert torch.equal(own, torch.zeros(2))
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        output.sum().backward()  # the copy, which the module itself wrote to
    with state.rolled_back(on_copies=True):
        output = norm(torch.randn(3, 2))
    output.sum().backward()


def test_a_snapshot_undoes_what_is_written_and_what_is_replaced():
    module = nn.Module()
    module.register_buffer('written', torch.ones(2))
    module.register_buffer('replaced', torch.ones(2))
    module.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    module.trained = nn.Parameter(torch.ones(2))
    own = module.replaced
    state = MutableState([module], with_frozen=True)
    state.snapshot()
    module.written.add_(1)
    module.replaced = module.replaced + 1
    with torch.no_grad():
        module.frozen.add_(1)
        module.trained.add_(1)
    state.restore()
    assert module.replaced is own
    for name in ('written', 'replaced', 'frozen'):
        assert torch.equal(getattr(module, name), torch.ones(2)), name
    assert torch.equal(module.trained, 2 * torch.ones(2))
    module.written.add_(1)
    state.restore()  # there is nothing to restore twice
    assert torch.equal(module.written, 2 * torch.ones(2))


def test_frozen_parameters_are_watched_on_request():
    for with_frozen in (False, True):
        module = nn.Module()
        module.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        state = MutableState([module], with_frozen)
        state.record()
        module.frozen.add_(1)
        with state.rolled_back():
            module.frozen.add_(1)
        assert module.frozen == (2 if with_frozen else 3)


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 18

    def __getitem__(self, index):
        return dict(inputs=torch.arange(5.0) * (index + 1) % 7 - 3, data_samples=index % 3)


def run(folder, iterations, resume=False):
    model = Contrast()
    runner = Runner(
        model,
        str(folder),
        train_cfg=dict(by_epoch=False, max_iters=iterations),
        log_level='ERROR',
        resume=resume,
        optim_wrapper=ComposedOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), stages=[dict(type='SAM')]),
        train_dataloader=dict(
            batch_size=6,
            dataset=Rows(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        default_hooks=dict(logger=None, checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)),
        experiment_name=f'queue_{iterations}_{resume}',
        cfg=ConfigDict(),
        default_scope='hybridcls',
    )
    runner.train()
    return model.state_dict()


@pytest.mark.slow
def test_a_queue_and_a_temperature_resume_to_the_same_bits(tmp_path):
    whole = run(tmp_path / 'whole', 6)
    run(tmp_path / 'parts', 3)
    resumed = run(tmp_path / 'parts', 6, resume=True)
    assert 'contrast.learned_temperature.log_temperature' in whole
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
