"""Findings about a built model: what is trained, from which weights, for which images."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from hybridcls.checks import counted, did_you_mean
from hybridcls.compat.mmengine import bare_model
from hybridcls.compat.torch import AnyBatchNorm
from hybridcls.engine.config.timm_streams import timm_streams_in
from hybridcls.engine.config.tree import dotted, leaves_in, value_at

from .finding import NOTE, PROBLEM, WARNING, Finding
from .schedule import largest_rate, starts_from_weights
from .subject import Subject

__all__ = ['check_model']

_MANY_PARAMETERS, _MANY_AN_IMAGE = 1_000_000, 2_000
_STRIDE = 32  # of the last map of most networks of convolutions
_FAR = 2.0  # times the size of the pretraining
_OTHER = 0.02  # of the mean of images in [0, 1]


def check_model(subject: Subject, runner: Any, batch_size: int) -> Iterator[Finding]:
    """Check the parameters, the weights and the streams, and BatchNorm with a batch of one image."""
    model = bare_model(runner.model)
    every = sum(one.numel() for one in model.parameters())
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    subject.facts['parameters'] = dict(all=every, trained=trained)
    yield Finding(NOTE, 'model', f'{trained:,} of {every:,} parameters are trained.')
    yield from _frozen(model, runner)
    yield from _groups(subject, model, runner)
    images = len(subject.parts['train'].labels) if 'train' in subject.parts else 0
    is_large = trained > max(_MANY_PARAMETERS, _MANY_AN_IMAGE * images)
    if images and is_large and not starts_from_weights(subject):
        where = next((dotted((*path, 'pretrained')) for path in timm_streams_in(subject.cfg)), 'load_from')
        yield Finding(
            WARNING, where, f'{every:,} parameters start at random, to train on {counted(images, "image")}.',
            'pretrained=True, or checkpoint_path=FILE (--checkpoint FILE)',
        )  # fmt: skip
    yield from _streams(subject, model)
    model.train()
    if batch_size == 1 and any(isinstance(one, AnyBatchNorm) and one.training for one in model.modules()):
        what = 'batches have one image, for which BatchNorm cannot compute statistics.'
        yield Finding(PROBLEM, 'train_dataloader.batch_size', what, 'batch_size=2, or model.backbone.norm_eval=True')


def _frozen(model: nn.Module, runner: Any) -> Iterator[Finding]:
    groups = runner.optim_wrapper.param_groups if hasattr(runner.optim_wrapper, 'param_groups') else []
    moving = [group for group in groups if group.get('initial_lr', group['lr']) > 0]
    if not any(one.requires_grad for group in moving for one in group['params']):
        yield Finding(
            PROBLEM, 'model.backbone.frozen_stages', 'no parameter is trained: all are frozen or have the learning '
            'rate 0.',
            'frozen_stages, lora_rank, or the lr_mult of optim_wrapper.paramwise_cfg',
        )  # fmt: skip
        return
    head = getattr(model, 'head', None)
    own = list(head.parameters()) if isinstance(head, nn.Module) else []
    if own and not any(one.requires_grad for one in own):
        yield Finding(
            WARNING, 'model.head', 'the head is frozen, and starts at random.', 'what freezes it in the config'
        )


def _groups(subject: Subject, model: nn.Module, runner: Any) -> Iterator[Finding]:
    """Keys of paramwise_cfg that no parameter has, and rates that multipliers lead far from the written one."""
    where = 'optim_wrapper.paramwise_cfg.custom_keys'
    names = [name for name, _ in model.named_parameters()]
    for key in subject.get(where, {}):
        place = (*where.split('.'), key)
        written = any(subject.is_written((*place, *path)) for path, _ in leaves_in(subject.get(where)[key]))
        if written and not any(key in name for name in names):
            parts = sorted({part for name in names for part in name.split('.') if not part.isdigit()})
            yield Finding(
                WARNING, where, f'no parameter has {key!r} in its name: nothing follows this key.'
                f'{did_you_mean(key, parts)}', f'{where}: a part of a name, such as {names[0]!r}',
            )  # fmt: skip
    rate, largest = subject.get('optim_wrapper.optimizer.lr'), largest_rate(subject)
    groups = runner.optim_wrapper.param_groups if hasattr(runner.optim_wrapper, 'param_groups') else []
    highest = max((group.get('initial_lr', group['lr']) for group in groups if group['params']), default=0)
    if isinstance(rate, (int, float)) and rate <= largest < highest / 5:
        yield Finding(
            WARNING, 'optim_wrapper.paramwise_cfg', f'its multipliers raise lr={rate:.3g} to {highest:.3g} for some '
            f'parameters, and {largest:g} is the most that is mostly borne.', f'{where}: a smaller lr_mult',
        )  # fmt: skip


def _streams(subject: Subject, model: nn.Module) -> Iterator[Finding]:
    for path in timm_streams_in(subject.cfg):
        stream = getattr(getattr(model, 'backbone', None), str(path[-1]), None)
        known = getattr(getattr(stream, 'model', None), 'pretrained_cfg', None)
        if not known:
            continue
        where, cfg = dotted(path), value_at(subject.cfg, path)
        yield from _size(subject, stream, known, where)
        for key in ('mean', 'std'):
            given = cfg.get(key)
            off = given and ((key, tuple(given)) in (('mean', (0.0,) * len(given)), ('std', (1.0,) * len(given))))
            if given and not off and getattr(stream, 'has_weights', False) and _differs(given, known[key]):
                yield Finding(
                    WARNING, f'{where}.{key}', f'{key}={list(given)}, and the weights were trained with '
                    f'{list(known[key])}.', f'{where}.{key}: leave it out',
                )  # fmt: skip


def _differs(one: Any, other: Any) -> bool:
    return len(one) != len(other) or any(abs(a - b) > _OTHER for a, b in zip(one, other, strict=True))


def _size(subject: Subject, stream: Any, known: Any, where: str) -> Iterator[Finding]:
    """Report images much larger or smaller than in the pretraining, or too small for the stride of a CNN."""
    size = subject.get('img_size') or getattr(stream, 'img_size', None)
    sides = [size, size] if isinstance(size, int) else list(size or ())
    pretrained = known['input_size'][-1]
    if not sides:
        return
    if where.endswith('cnn') and min(sides) < _STRIDE:
        yield Finding(
            WARNING, 'img_size',
            f'{min(sides)} pixels are fewer than the stride of {stream.model_name} ({_STRIDE}): its '
            'last map has one position.', f'img_size={2 * _STRIDE}',
        )  # fmt: skip
    elif getattr(stream, 'has_weights', False) and not pretrained / _FAR <= max(sides) <= pretrained * _FAR:
        yield Finding(
            NOTE, 'img_size', f'images of {" x ".join(map(str, sides))} pixels for {stream.model_name}, which was '
            f'pretrained with {pretrained}.', f'img_size={pretrained}',
        )  # fmt: skip
