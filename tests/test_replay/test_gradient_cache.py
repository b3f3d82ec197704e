import copy
import math
import random

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from processes import run_processes
from torch import nn

from hybridcls.apis.memory import peak_memory
from hybridcls.engine.optim import ComposedOptimWrapper
from hybridcls.models import HybridClassifier
from hybridcls.replay import GradientCache

LABELS = [0, 1, 0, 2, 1, 3, 0]


def waves(*shape):
    """Numbers without a pattern, the same on every machine."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (torch.sin(1.7 * i) + 0.5 * torch.cos(0.37 * i * i)).reshape(shape).float()


class Backbone(nn.Module):
    """A convolution, group norm, dropout by all three generators, and a pooled vector."""

    out_channels = 8

    def __init__(self, dropout=0.0):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.GroupNorm(2, 8)
        self.dropout = dropout
        self.calls = []

    def forward(self, image):
        self.calls.append(len(image))
        x = self.norm(self.conv(image)).relu()
        if self.dropout:
            x = nn.functional.dropout(x, self.dropout)
            x = x * (1 + random.random()) * float(1 + np.random.rand())  # noqa: NPY002
        return (x.mean((2, 3)) + x.amax((2, 3)),)


def make_model(grad_cache=None, backbone=None, **loss):
    torch.manual_seed(0)
    return HybridClassifier(
        backbone=Backbone() if backbone is None else backbone,
        grad_cache=grad_cache,
        head=dict(
            type='SupConHead',
            in_channels=8,
            projection=dict(hid_channels=6, out_channels=5),
            loss=dict(type='SupConLoss', temperature=0.3, **loss),
        ),
    )


def make_samples(labels=LABELS):
    return [DataSample().set_gt_label(label) for label in labels]


def gradients(model, inputs, samples):
    loss = model(inputs, samples, mode='loss')['loss']
    loss.backward()
    return {'loss': loss.detach(), **{name: param.grad for name, param in model.named_parameters()}}


@pytest.mark.parametrize('micro_batch', [1, 4, 5, 13, 14, 100])
def test_the_gradient_is_that_of_one_piece(micro_batch):
    inputs, samples = waves(14, 3, 6, 6), make_samples()  # two views of seven images
    model = make_model(dict(micro_batch=micro_batch))
    found = gradients(model, inputs, samples)
    torch.testing.assert_close(found, gradients(make_model(), inputs, samples), rtol=0, atol=1e-6)
    calls = model.backbone.calls
    pieces = math.ceil(14 / micro_batch)
    assert max(calls) <= micro_batch
    assert len(calls) == (1 if pieces == 1 else 2 * pieces)  # each once, and once more
    assert max(calls) - min(calls) <= 1


def in_pieces(layer, inputs, num_pieces):
    return torch.cat([layer(piece) for piece in inputs.tensor_split(num_pieces)])


@pytest.mark.parametrize('of', ['torch', 'all'])
def test_the_same_randomness_in_both_passes(of):
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(0.5), nn.Flatten()) if of == 'torch' else Backbone(0.5)
    embed = backbone if of == 'torch' else lambda x: backbone(x)[0]
    results = []
    for run in (lambda x: GradientCache(3)(embed, x, [backbone]), lambda x: in_pieces(embed, x, 4)):
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        backbone.zero_grad()
        out = run(waves(12, 3, 5, 5))
        middle = (torch.rand(1), random.random(), float(np.random.rand()))  # noqa: NPY002
        out.square().sum().backward()
        after = (torch.rand(1), random.random(), float(np.random.rand()))  # noqa: NPY002
        results.append([out.detach(), middle, after, *(p.grad.clone() for p in backbone.parameters())])
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-5)


def test_running_statistics_move_once_and_batch_statistics_are_the_micro_batch():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    twin = copy.deepcopy(layer)
    inputs = waves(12, 3, 5, 5)
    out = GradientCache(4)(layer, inputs, [layer])
    buffers = dict(layer.named_buffers())
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    out.sin().sum().backward()
    in_pieces(twin, inputs, 3).sin().sum().backward()
    assert layer[1].num_batches_tracked == 3
    for name, buffer in layer.named_buffers():
        assert buffer is buffers[name]
        torch.testing.assert_close(buffer, before[name], rtol=0, atol=0)
        torch.testing.assert_close(buffer, twin.get_buffer(name), rtol=0, atol=0)
    for own, other in zip(layer.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)


def test_half_precision_adds_up_in_float32():
    layer = nn.Linear(1, 1, bias=False)
    with torch.autocast('cpu', torch.bfloat16):
        out = GradientCache(1)(layer, torch.ones(600, 1), [layer])
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert layer.weight.grad.item() == 600  # adding ones in bfloat16 ends at 256


def test_a_whole_model_in_half_precision():
    inputs, samples = waves(128, 3, 6, 6), make_samples([i % 9 for i in range(64)])
    exact = gradients(make_model(), inputs, samples)['backbone.conv.weight']
    errors = []
    for grad_cache in (None, dict(micro_batch=8)):
        model = make_model(grad_cache)
        with torch.autocast('cpu', torch.bfloat16):
            loss = model(inputs, samples, mode='loss')['loss']
        loss.backward()
        errors.append((model.backbone.conv.weight.grad - exact).norm() / exact.norm())
    assert errors[1] < 1.5 * errors[0]


def test_activations_of_one_micro_batch_are_held():
    inputs, samples = waves(64, 3, 34, 34), make_samples([i % 9 for i in range(32)])
    one_activation = 64 * 8 * 32 * 32 * 4
    whole = peak_memory(lambda: gradients(make_model(), inputs, samples))
    cached = peak_memory(lambda: gradients(make_model(dict(micro_batch=4)), inputs, samples))
    assert whole > 2 * one_activation
    assert cached < whole / 8


def test_nothing_is_computed_twice_without_a_gradient():
    model = make_model(dict(micro_batch=4))
    with torch.no_grad():
        model(waves(14, 3, 6, 6), make_samples(), mode='loss')
    model.eval()(waves(14, 3, 6, 6), make_samples(), mode='loss')
    assert model.backbone.calls == [14, 14]


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 21

    def __getitem__(self, index):
        views = [127 + 127 * (waves(2, 3, 6, 6)[view] * (index + 1)).sin() for view in (0, 1)]
        return dict(inputs=views, data_samples=DataSample().set_gt_label(LABELS[index % 7]))


def collate(samples):
    return dict(
        inputs=[torch.stack(view) for view in zip(*(s['inputs'] for s in samples), strict=True)],
        data_samples=[s['data_samples'] for s in samples],
    )


def run(tmp_path, start, grad_cache):
    model = make_model(grad_cache)
    model.load_state_dict(start)
    wrapper = ComposedOptimWrapper(
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        clip_grad=dict(max_norm=1.0),
        accumulative_counts=2,
        stages=[dict(type='SAM', rho=0.1), dict(type='GradientCentralization'), dict(type='Lookahead')],
    )
    runner = Runner(
        model,
        str(tmp_path),
        optim_wrapper=wrapper,
        train_cfg=dict(by_epoch=False, max_iters=6),
        log_level='ERROR',
        train_dataloader=dict(
            batch_size=7, dataset=Images(), collate_fn=collate, sampler=dict(type='DefaultSampler', shuffle=False)
        ),
        default_hooks=dict(logger=None, checkpoint=None),
        experiment_name=f'cache{random.random()}',
        randomness=dict(seed=3),
        cfg=ConfigDict(),
        default_scope='hybridcls',
    )
    runner.train()
    return model


@pytest.mark.slow
def test_through_the_runner_with_sam(tmp_path):
    start = make_model().state_dict()
    whole = run(tmp_path, start, None)
    cached = run(tmp_path, start, dict(micro_batch=4))
    assert set(cached.backbone.calls) == {3, 4}
    torch.testing.assert_close(cached.state_dict(), whole.state_dict(), rtol=0, atol=2e-6)
    assert any((start[name] - value).abs().max() > 0.01 for name, value in whole.state_dict().items())


def share_of(rank):
    """Four and three images of the seven, in two views."""
    images = slice(0, 4) if rank == 0 else slice(4, 7)
    inputs = waves(14, 3, 6, 6).unflatten(0, (2, 7))[:, images].flatten(0, 1)
    return inputs, make_samples(LABELS[images])


def work(rank, folder):
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    model = make_model(dict(micro_batch=3))
    wrapped = MMDistributedDataParallel(model, device_ids=None)
    loss = wrapped(*share_of(rank), mode='loss')['loss']
    loss.backward()
    torch.save(
        {'loss': loss.detach(), **{name: param.grad for name, param in model.named_parameters()}}, f'{folder}/{rank}.pt'
    )
    torch.distributed.destroy_process_group()


@pytest.mark.dist
def test_two_processes_equal_one(tmp_path):
    run_processes(work, tmp_path)
    expected = gradients(make_model(), waves(14, 3, 6, 6), make_samples())
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f'{rank}.pt'), expected, rtol=0, atol=1e-6)


def test_wrong_keys_fail_when_built():
    with pytest.raises(TypeError, match='micro_batch'):
        make_model(dict(microbatch=3))
    with pytest.raises(TypeError, match='must be a dict'):
        make_model(64)
    with pytest.raises(ValueError, match=r'expected micro_batch in .* got 0'):
        make_model(dict(micro_batch=0))


def test_features_that_cannot_be_joined_are_named():
    with pytest.raises(TypeError, match='hold a dict'):
        GradientCache(2)(lambda x: dict(x=x), torch.ones(4, 2), [])
