"""Resize weights of timm models inside a model to its image size and channels, as far as timm can."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from hybridcls.compat.timm import adapt_first_conv, checkpoint_filter
from hybridcls.compat.torch import copy_module_versions

from ..data_preprocessors.image_range import input_channels

__all__ = ['Resized', 'converted_weights', 'fit_timm_weights', 'names_in_config']


class Resized(NamedTuple):
    """A resized weight: its name, its shape in the checkpoint, and its shape in the model."""

    name: str
    old: tuple[int, ...]
    new: tuple[int, ...]


def fit_timm_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], list[Resized]]:
    """Resize weights by timm's own functions: position tables, Swin's tables, patches, input channels.

    Only weights that are in ``model`` with another shape change; the others are the same objects.

    Args:
        model (nn.Module): Holds timm models anywhere, or is one; it stays as it is.
        weights (Mapping[str, Tensor]): Weights of a checkpoint by their names in ``model``.

    Returns:
        tuple: The weights (``weights`` itself if nothing had to be resized), and what was resized.
    """
    target = model.state_dict()
    wrong = {name for name, value in weights.items() if name in target and _shape(value) != tuple(target[name].shape)}
    resized: dict[str, Tensor] = {}
    for prefix, part in _timm_models(model) if wrong else ():
        names = [name for name in wrong if name.startswith(prefix)]
        if not names:
            continue
        own = OrderedDict((name[len(prefix) :], value) for name, value in weights.items() if name.startswith(prefix))
        # A timm model inside another name space: what its function drops or renames does not concern us.
        converted = converted_weights(part, own)
        for name in names:
            value = converted.get(name[len(prefix) :])
            if value is not None and _shape(value) == tuple(target[name].shape):
                resized[name] = value
    if not resized:
        return weights, []
    fitted = OrderedDict((name, resized.get(name, value)) for name, value in weights.items())
    copy_module_versions(weights, fitted)
    return fitted, [Resized(name, _shape(weights[name]), _shape(value)) for name, value in resized.items()]


def converted_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert weights of other projects, sizes and input channels for a timm model, by timm's functions.

    Args:
        model (nn.Module): A timm model; it stays as it is.
        weights (Mapping[str, Tensor]): By their names in the model, or in a project that timm knows.
    """
    convert = checkpoint_filter(model)
    converted = dict(weights) if convert is None else convert(OrderedDict(weights), model)
    target = model.state_dict()
    for name, channels in _input_channels(model).items():
        value, own = converted.get(name), target.get(name)
        if value is not None and own is not None and _shape(value) != tuple(own.shape):
            converted[name] = _with_channels(value, channels, tuple(own.shape))
    return converted


def names_in_config(model: Any, key: str) -> tuple[str, ...]:
    """Return the names of modules that timm's config of a model lists under ``'first_conv'`` or ``'classifier'``."""
    names = (getattr(model, 'pretrained_cfg', None) or {}).get(key) or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _timm_models(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, part in model.named_modules():
        if getattr(part, 'pretrained_cfg', None) and hasattr(part, 'forward_features'):
            yield (f'{name}.' if name else ''), part


def _input_channels(model: Any) -> dict[str, int]:
    """Return the number of image channels that a model takes, by the name of the first weight."""
    return {f'{name}.weight': input_channels(model) for name in names_in_config(model, 'first_conv')}


def _with_channels(weight: Tensor, channels: int, shape: tuple[int, ...]) -> Tensor:
    """Adapt a first convolution to ``channels`` image channels, if its weight has ``shape``."""
    if weight.dim() != 4 or weight.shape[1] * channels % shape[1]:
        return weight  # none that timm can adapt; it stays one of another shape
    try:
        return adapt_first_conv(channels, weight, weight.shape[1] * channels // shape[1])
    except NotImplementedError:
        return weight


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, 'shape', ()))
