"""Check for missing pretrained weights before the imports that take seconds."""

import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .shared_options import values_of_keys

if TYPE_CHECKING:
    from mmengine.config import Config

__all__ = ['check_weights_early']


def check_weights_early(caller: str, args: Namespace) -> None:
    """Raise where a training would: timm's weights are asked for, not in the cache, and the Hub does not answer.

    What this quick look cannot decide is left to the check of the completed config.

    Raises:
        FileNotFoundError: If the weights are neither here nor to be had.
    """
    if args.resume is not None:
        return
    try:
        models = list(_models_to_fetch(_merged(args)))
    except Exception:  # a config that cannot be read is explained by the one that reads it in full
        return
    if not models:
        return
    from hybridcls.compat.timm_source import repositories_of
    from hybridcls.hub_cache import cache_folder, check_answers

    for model_name in models:
        architecture = model_name.partition('.')[0]
        place = Path(cache_folder(f'timm/{architecture}'))
        if any(place.parent.glob(f'models--*{architecture}*')):
            continue
        repositories = repositories_of(model_name)
        if repositories and not any(os.path.exists(cache_folder(one)) for one in repositories):
            check_answers(caller, model_name, cache_folder(repositories[0]))


def _merged(args: Namespace) -> 'Config':
    """The config as mmengine reads it, with options: of a chain that begins, its first phase."""
    from mmengine.config import Config

    options = {**(args.cfg_options or {}), **values_of_keys(args)}
    cfg = Config.fromfile(args.config, import_custom_modules=False)
    if cfg.get('phases'):
        work_dir = args.work_dir or cfg.get('work_dir') or Path('work_dirs', Path(args.config).stem)
        if args.cfg_options or cfg.get('cfg_options') or os.path.exists(work_dir):
            return Config()
        options = {**cfg.phases[0].get('cfg_options', {}), **options}
        cfg = Config.fromfile(Path(args.config).parent / cfg.phases[0].config, import_custom_modules=False)
    cfg.merge_from_dict({key: value for key, value in options.items() if value is not None})
    return cfg


def _models_to_fetch(cfg: 'Config') -> Iterator[str]:
    """Yield the names of timm models that start from timm's own weights."""
    if any(cfg.get(key) for key in ('load_from', 'resume', 'checkpoint_path')):
        return
    backbone = cfg.model.backbone if 'model' in cfg else {}
    streams = [backbone[name] for name in ('cnn', 'vit') if backbone.get(name)]
    if not streams and cfg.get('model_name') and backbone.get('type', '').rpartition('.')[2] == 'HybridBackbone':
        streams = [dict(model_name=cfg.model_name)]
    for stream in streams:
        is_pretrained = stream.get('pretrained')
        if is_pretrained is None:
            is_pretrained = cfg.get('pretrained')
        others = ('type', 'checkpoint_path', 'pretrained_cfg', 'pretrained_cfg_overlay', 'cache_dir')
        if is_pretrained is True and ':' not in stream['model_name'] and not any(stream.get(key) for key in others):
            yield stream['model_name']
