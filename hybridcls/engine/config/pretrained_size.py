"""Fill an open image size with the size that the timm model was pretrained with."""

from collections.abc import Iterator

from mmengine.config import Config

from .change import Change
from .tree import value_at

__all__ = ['pretrained_size']


def pretrained_size(cfg: Config) -> Iterator[Change]:
    """Fill the top-level ``img_size`` if it is None, with the size in timm's ``pretrained_cfg`` of the model.

    The model is ``model_name`` or the streams'; the transformer's size comes first, since a CNN takes any. Names that
    timm does not know are left to the build to report.
    """
    if 'img_size' not in cfg or cfg.img_size is not None:
        return
    from timm import get_pretrained_cfg, is_model

    names = [value_at(cfg, ('model', 'backbone', stream, 'model_name')) for stream in ('vit', 'cnn')]
    for name in (*names, cfg.get('model_name')):
        if isinstance(name, str) and is_model(name.partition('.')[0]):
            known = get_pretrained_cfg(name)
            if known is not None:
                height, width = known.input_size[1:]
                size = height if height == width else (height, width)
                yield Change(('img_size',), None, size, f'{name} was pretrained with it')
                return
