"""Build backbone, neck and head so that the channels of one are the ``in_channels`` of the next."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, Union

from torch import Tensor, nn

from hybridcls.checks import check_known_keys
from hybridcls.registry import MODELS
from hybridcls.signatures import arguments_of, takes_argument

from ..data_preprocessors.image_range import input_channels
from .shape_probe import channels_of, probe_output, probe_shapes

__all__ = ['Chain', 'as_features', 'build_chain', 'build_part']

Part = Union[dict, nn.Module]
Channels = Union[int, tuple[int, ...], None]  # of a feature, or of each feature; None: not known


class Chain(NamedTuple):
    """A backbone, a neck and a head that fit each other.

    Args:
        backbone (nn.Module): The backbone.
        neck (nn.Module, optional): The neck.
        head (nn.Module, optional): The head.
        width (int, optional): Channels of what the head gets; None: neither declared nor found.
    """

    backbone: nn.Module
    neck: Optional[nn.Module]
    head: Optional[nn.Module]
    width: Optional[int]


def build_chain(caller: str, backbone: Part, neck: Optional[Part] = None, head: Optional[Part] = None) -> Chain:
    """Build the parts in order; ``in_channels`` of a neck or head is filled with the channels of the part before.

    The channels of a part are its ``out_channels``, else those of a forward pass on the meta device. A backbone whose
    class takes ``pooled`` gets it where a head has no neck before it.

    Args:
        caller (str): Name used as the error prefix.
        backbone (dict | nn.Module): Its config, or the module.
        neck (dict | nn.Module, optional): The same. Defaults to None.
        head (dict | nn.Module, optional): The same. Defaults to None.

    Raises:
        ValueError: If a backbone of two streams meets a head, and the neck does not make one embedding of them.
        TypeError: If a part does not know a key, or is neither a dict with a ``type`` nor a module.

    Example:
        >>> chain = build_chain('example', dict(type='LeNet5', num_classes=-1), dict(type='GlobalAveragePooling'),
        ...                     dict(type='LinearHead', num_classes=3, in_channels=120))
        >>> chain.head.fc
        Linear(in_features=120, out_features=3, bias=True)
    """
    if neck is None and head is not None:
        backbone = _pooled(backbone)
    built_backbone = build_part(caller, 'backbone', backbone)
    channels = _channels_of(caller, built_backbone)
    built_neck = None
    if neck is not None:
        # mmdet's and mmseg's necks insist on a list.
        known = list(channels) if isinstance(channels, tuple) else channels
        built_neck = build_part(caller, 'neck', neck, in_channels=known)
        channels = _channels_after(caller, built_neck, built_backbone, channels)
    streams = getattr(built_backbone, 'stream_names', ())
    if head is not None and len(streams) > 1 and isinstance(channels, tuple) and len(channels) > 1:
        what = 'no neck joins them' if built_neck is None else f'{type(built_neck).__name__} does not join them'
        raise ValueError(
            f'{caller}: the backbone has {len(streams)} streams and {what}, so the head would see only the last. '
            "Set neck=dict(type='DHAFusion') or neck=dict(type='ConcatFusion')."
        )
    width = channels[-1] if isinstance(channels, tuple) else channels
    built_head = None if head is None else build_part(caller, 'head', head, in_channels=width, num_classes=None)
    return Chain(built_backbone, built_neck, built_head, width)


def build_part(caller: str, name: str, part: Part, **known: Any) -> nn.Module:
    """Build a part from its config, filling known arguments that its class takes and the config leaves open.

    Args:
        caller (str): Name used as the error prefix.
        name (str): The key of the part.
        part (dict | nn.Module): Its config; a module is returned as it is.
        **known: See :meth:`hybridcls.registry.HintingRegistry.build_filled`.

    Raises:
        TypeError: If it is neither, or the config has a key that its class does not take.
    """
    if isinstance(part, nn.Module):
        return part
    if not isinstance(part, dict) or 'type' not in part:
        raise TypeError(f"{caller}: expected {name} as a module or a dict with a 'type', got {name}={part!r}.")
    cls = MODELS.class_of(part)
    keys, are_all = arguments_of(cls)
    if are_all:
        given = [key for key in part if key not in ('type', '_scope_')]
        check_known_keys(f'{caller}: {name} ({cls.__name__})', given, keys)
    return MODELS.build_filled(dict(part), **known)


def as_features(caller: str, part: str, features: Any) -> Any:
    """Return the output of a backbone or neck as a tuple; a dict is a TypeError."""
    if isinstance(features, dict):
        raise TypeError(
            f'{caller}: expected a tensor or a tuple of tensors from the {part}, got a dict with the keys '
            f'{", ".join(map(str, features))}. Let its forward return the features themselves.'
        )
    return (features,) if isinstance(features, Tensor) else features


def _pooled(backbone: Part) -> Part:
    """Return a backbone's config for a head, which takes vectors: ``pooled=True`` if possible and not set otherwise."""
    if not isinstance(backbone, dict) or 'type' not in backbone or backbone.get('pooled') is not None:
        return backbone
    return dict(backbone, pooled=True) if takes_argument(MODELS.class_of(backbone), 'pooled') else backbone


def _channels_of(caller: str, backbone: nn.Module) -> Channels:
    declared = _declared_channels(backbone)
    if declared is not None:
        return declared
    try:
        features = _probe(backbone)
    except Exception:  # a backbone of any package: then in_channels has to be given, and the neck or head says so
        return None
    return _channels_in(caller, 'backbone', features)


def _channels_after(caller: str, neck: nn.Module, backbone: nn.Module, channels: Channels) -> Channels:
    declared = _declared_channels(neck)
    if declared is not None:
        return declared
    try:
        features = as_features(caller, 'backbone', _probe(backbone))
    except Exception:  # see above; most necks that do not declare their channels only pool
        return channels
    try:
        embedding = probe_shapes(neck, features)
    except Exception as error:
        streams = getattr(backbone, 'stream_names', ())
        if not streams or getattr(backbone, 'img_size', None) is None:  # perhaps images of another size would fit
            return channels
        shapes = ', '.join(str(tuple(feature.shape)) for feature in features)
        what = (
            f'the backbone has {len(streams)} streams and {type(neck).__name__} does not join them: given a tuple of '
            f'their features, {shapes}, it'
            if len(streams) > 1
            else f'given the feature of the backbone in a tuple, {shapes}, the neck {type(neck).__name__}'
        )
        raise ValueError(f'{caller}: {what} raises {type(error).__name__} ({error}).') from error
    return _channels_in(caller, 'neck', embedding)


def _declared_channels(part: nn.Module) -> Channels:
    channels = getattr(part, 'out_channels', None)
    if isinstance(channels, int):
        return channels
    if isinstance(channels, Sequence) and all(isinstance(c, int) for c in channels):
        return tuple(channels)
    return None


def _channels_in(caller: str, part: str, features: Any) -> tuple[int, ...]:
    return tuple(channels_of(entry) for entry in as_features(caller, part, features) if isinstance(entry, Tensor))


def _probe(backbone: nn.Module) -> Any:
    size = getattr(backbone, 'img_size', None) or 224
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    return probe_output(backbone, height, width, input_channels(backbone))
