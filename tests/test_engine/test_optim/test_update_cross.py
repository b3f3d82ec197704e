"""The full cross of levers against loops written with nothing but torch, following the published algorithms."""

import contextlib
import itertools
import math

import pytest
import torch
from at_night import at_night
from mmengine.model import BaseModel
from torch import nn

from hybridcls.engine.optim import ComposedOptimWrapper
from hybridcls.registry import OPTIMIZERS

STEPS = 10  # updates
LR, DECAY, RHO, K, ALPHA, MAX_NORM = 0.02, 0.1, 0.1, 5, 0.5, 0.3


class SmallNet(BaseModel):
    """A convolution, BatchNorm, a matrix, and a parameter that nothing uses."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 2, bias=False)  # a bias here has no gradient but rounding, which Adam blows up
        self.bn = nn.BatchNorm2d(3)
        self.fc = nn.Linear(12, 4)
        self.unused = nn.Parameter(torch.ones(3, 3))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        logits = self.fc(self.bn(self.conv(inputs)).tanh().flatten(1))
        return dict(loss=nn.functional.cross_entropy(logits, data_samples), logit_norm=logits.norm())


def make_model(dtype):
    torch.manual_seed(3)
    return SmallNet().to(dtype)


def make_batches(dtype, count):
    generator = torch.Generator().manual_seed(5)
    return [
        dict(
            inputs=torch.randn(6, 2, 3, 3, generator=generator, dtype=torch.float64).to(dtype),
            data_samples=torch.randint(0, 4, (6,), generator=generator),
        )
        for _ in range(count)
    ]


def make_optimizer(name, model):
    if name == 'sgd':
        return torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=DECAY)
    if name == 'adamw':
        return torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY)
    return OPTIMIZERS.get('Lamb')(model.parameters(), lr=LR, weight_decay=DECAY)


def reference(dtype, optimizer_name, sharpness, lookahead, gc, accumulation, clip, bf16):
    """The same training written out: what the papers and the official codes do, with lists of tensors."""
    model = make_model(dtype)
    params = [p for p in model.parameters()]
    optimizer = make_optimizer(optimizer_name, model)
    autocast = lambda: torch.autocast('cpu', torch.bfloat16) if bf16 else contextlib.nullcontext()  # noqa: E731

    def gradient(batch):
        with autocast():
            loss = model(**batch)['loss']
        return torch.autograd.grad(loss / accumulation, params, allow_unused=True), loss.item()

    slow = [p.detach().clone() for p in params]
    losses, batches = [], make_batches(dtype, STEPS * accumulation)
    for step in range(STEPS):
        total = [None] * len(params)
        for batch in batches[step * accumulation : (step + 1) * accumulation]:
            grads, loss = gradient(batch)
            losses.append(loss)
            if sharpness:
                weights = [p.detach().clone() for p in params]
                statistics = {k: v.clone() for k, v in model.named_buffers()}
                size = [w.abs() if sharpness == 'asam' else torch.ones_like(w) for w in weights]
                norm = math.sqrt(
                    sum(((t * g) ** 2).sum().item() for t, g in zip(size, grads, strict=True) if g is not None)
                )
                with torch.no_grad():
                    for p, t, g in zip(params, size, grads, strict=True):
                        if g is not None:
                            p.add_(RHO * t * t * g / (norm + 1e-12))
                grads, _ = gradient(batch)
                with torch.no_grad():
                    for p, w in zip(params, weights, strict=True):
                        p.copy_(w)
                    for k, v in model.named_buffers():
                        v.copy_(statistics[k])
            total = [t if g is None else g if t is None else t + g for t, g in zip(total, grads, strict=True)]
        if clip:
            norm = math.sqrt(sum((g**2).sum().item() for g in total if g is not None))
            total = [None if g is None else g * min(1.0, MAX_NORM / (norm + 1e-6)) for g in total]
        if gc:
            total = [
                g - g.flatten(1).mean(1).view(-1, *[1] * (g.dim() - 1)) if g is not None and g.dim() > 1 else g
                for g in total
            ]
        for p, g in zip(params, total, strict=True):
            p.grad = g
        optimizer.step()
        if lookahead and (step + 1) % K == 0:
            with torch.no_grad():
                for p, s in zip(params, slow, strict=True):
                    s.add_(ALPHA * (p - s))
                    p.copy_(s)
    return model, losses


def composed(dtype, optimizer_name, sharpness, lookahead, gc, accumulation, clip, bf16):
    model = make_model(dtype)
    stages = dict(
        sam=dict(type='SAM', rho=RHO, adaptive=sharpness == 'asam') if sharpness else None,
        gc=dict(type='GradientCentralization') if gc else None,
        lookahead=dict(type='Lookahead', k=K, alpha=ALPHA) if lookahead else None,
    )
    wrapper = ComposedOptimWrapper(
        make_optimizer(optimizer_name, model),
        stages=stages,
        amp='bfloat16' if bf16 else None,
        clip_grad=dict(max_norm=MAX_NORM) if clip else None,
        accumulative_counts=accumulation,
    )
    batches = make_batches(dtype, STEPS * accumulation)
    wrapper.initialize_count_status(model, 0, len(batches))
    losses = [model.train_step(batch, wrapper)['loss'].item() for batch in batches]
    assert wrapper.updates == STEPS
    return model, losses


CROSS = list(
    itertools.product(
        ['sgd', 'adamw', 'lamb'], [None, 'sam', 'asam'], [False, True], [False, True], [1, 3], [False, True]
    )
)


@pytest.mark.parametrize('sharpness', [None, 'sam', 'asam'])
@pytest.mark.parametrize('optimizer_name', ['sgd', 'adamw', 'lamb'])
@pytest.mark.parametrize('precision', at_night(['float64', 'float32', 'bfloat16'], 'float32', 'bfloat16'))
def test_every_combination_is_the_plain_loop(optimizer_name, sharpness, precision):
    compare(optimizer_name, sharpness, precision)


def test_in_bfloat16_too():
    compare('adamw', 'sam', 'bfloat16')


def compare(optimizer_name, sharpness, precision):
    """All combinations of the other levers."""
    dtype = torch.float64 if precision == 'float64' else torch.float32
    tolerance = dict(float64=1e-10, float32=1e-6, bfloat16=1e-6)[precision]
    for name, kind, *levers in CROSS:
        if (name, kind) != (optimizer_name, sharpness):
            continue
        setting = (dtype, name, kind, *levers, precision == 'bfloat16')
        expected, expected_losses = reference(*setting)
        found, losses = composed(*setting)
        for key, value in expected.state_dict().items():
            torch.testing.assert_close(
                found.state_dict()[key],
                value,
                rtol=0,
                atol=tolerance,
                msg=lambda text, key=key, setting=setting: f'{setting}, {key}: {text}',
            )
        torch.testing.assert_close(losses, expected_losses, rtol=0, atol=10 * tolerance)
