"""Build a stream from its config."""

from typing import Union

from hybridcls.checks import check_known_keys
from hybridcls.registry import MODELS
from hybridcls.signatures import arguments_of

from .registered_stream import RegisteredStream
from .stream import Stream
from .timm_stream import TimmStream

__all__ = ['build_stream']

# Keys of a stream that a registered backbone does not know: the stream itself takes them.
_STREAM_KEYS = ('output', 'mean', 'std')


def build_stream(
    name: str, cfg: dict, img_size: Union[int, tuple[int, int], None], drop_path_rate: float, with_cp: bool
) -> Stream:
    """Build the stream of a timm model (``model_name``) or of a registered backbone (``type``).

    Args:
        name (str): ``'cnn'`` or ``'vit'``, for errors.
        cfg (dict): The stream's config.
        img_size (int | tuple[int, int], optional): Filled in where the config leaves it open and the class takes it.
        drop_path_rate (float): Default of a timm model that has stochastic depth.
        with_cp (bool): Activation checkpointing, filled in the same way.

    Raises:
        TypeError: If the config names no model, or has a key that its class does not take.
        ValueError: If ``with_cp`` is asked of a class that does not take it.
    """
    cfg = dict(cfg)
    cls = MODELS.class_of(cfg) if 'type' in cfg else TimmStream
    if isinstance(cls, type) and issubclass(cls, TimmStream):
        cfg.pop('type', None)
        if 'model_name' not in cfg:
            raise TypeError(
                f"HybridBackbone: {name} needs model_name='...' (a timm model) or type='...' (a registered "
                f'backbone); it has {", ".join(sorted(cfg)) or "no keys"}.'
            )
        for key, value in dict(img_size=img_size, with_cp=with_cp, default_drop_path_rate=drop_path_rate).items():
            if cfg.get(key) is None:
                cfg[key] = value
        return cls(**cfg)
    of_stream = {key: cfg.pop(key) for key in _STREAM_KEYS if key in cfg}
    known, are_all = arguments_of(cls)
    if are_all:
        check_known_keys(f'HybridBackbone: {name} ({cls.__name__})', cfg, ['type', '_scope_', *known, *_STREAM_KEYS])
    if with_cp and 'with_cp' not in known:
        raise ValueError(
            f'HybridBackbone: with_cp=True, and {cls.__name__}, the {name} stream, has no with_cp. Set it to False, '
            'and set with_cp=True in the stream that has it.'
        )
    for key, value in dict(img_size=img_size, with_cp=with_cp or None).items():
        if key in known and value is not None and cfg.get(key) is None:
            cfg[key] = value
    return RegisteredStream(cfg, img_size=img_size, **of_stream)
