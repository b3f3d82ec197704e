"""Fill open config values from shared top-level keys (``img_size``, ``num_classes``, ``data_root``, ...)."""

from collections.abc import Callable, Iterator
from typing import Any, Optional, Union

from mmengine.config import Config

from .cache_folders import mapped_caches
from .change import Change, layer_of, provenance_of
from .layers import RUNNER_KEYS
from .timm_streams import backbones_in, timm_streams_in
from .tree import ABSENT, Path, dataloaders_in, datasets_in, dotted, takes, transforms_in, value_at, walk

__all__ = ['SHARED_KEYS', 'classifying_head', 'reaches_a_place', 'shared_keys']

_HOOK_KEYS = ('default_hooks', 'custom_hooks')


def shared_keys(cfg: Config) -> Iterator[Union[Change, str]]:
    """Fill open values (absent or None) from the top level; set values stay.

    - ``img_size`` (pixels; int or (height, width)): each HybridBackbone, each transform whose class takes it, and each
      key of that name that is None.
    - ``num_classes``: the head if its class takes it, and each key of that name in the model that is None.
    - ``data_root``: each dataset, wrapped or not, whose class takes it.
    - ``pretrained`` (True or False), ``checkpoint_path``, ``model_name``: the timm streams of each HybridBackbone;
      :func:`~hybridcls.engine.config.timm_streams.lone_stream` has made one where there was none. One that has weights
      of its own keeps them.
    - ``max_epochs``: ``train_cfg``, unless it counts iterations.
    - ``batch_size`` (of one process): each dataloader. ``lr``: each optimizer. ``seed``: ``randomness``.
    - ``cache_dir``: the folder of each mapped cache of images.
    - ``drop``, ``relabel``: the datasets of the training images whose class takes them, in hooks too.

    A sentence names the places that keep their own value, or says that no place takes it, where a config or an option
    sets a shared key.
    """
    # Variables of the files are no places: what they are used for is.
    read = Config({key: value for key, value in cfg.items() if key in RUNNER_KEYS})
    for key, places in _PLACES.items():
        value = cfg.get(key)
        if value is None:
            continue
        keep, found = [], list(dict.fromkeys(places(read)))
        for path in found:
            there = value_at(cfg, path)
            if there is ABSENT or there is None:
                yield Change(path, there, value, f'top-level {key}', (key,))
            elif there != value:
                keep.append(f'{dotted(path)}={there!r}')
        if layer_of(cfg, (key,)).rank < 0:
            continue
        if keep:
            yield f'{key}={value!r} does not reach {", ".join(keep)}: the value that is written there is kept.'
        elif not found and key not in provenance_of(cfg).used:
            yield f'{key}={value!r} has no effect: no part of this config takes it.'


def reaches_a_place(cfg: Config, key: str) -> bool:
    """Return whether a shared key's value is used by a completed config in at least one place."""
    read, known = Config({name: value for name, value in cfg.items() if name in RUNNER_KEYS}), provenance_of(cfg)
    return (
        any(change.by == (key,) for change in known.changes)
        or any(variable[0] == key for variable in known.references.values())
        or any(value_at(read, path) == cfg.get(key) for path in _PLACES[key](read))
    )


def classifying_head(cfg: Config) -> Optional[dict]:
    """Return ``model.head`` if it has a number of classes (unlike SupConHead), else None."""
    head = value_at(cfg, ('model', 'head'))
    if not isinstance(head, dict) or 'type' not in head:
        return None
    return head if 'num_classes' in head or takes('MODELS', head, 'num_classes') else None


def _named(node: Any, key: str, path: Path) -> Iterator[Path]:
    for place, value in walk(node, path):
        if isinstance(value, dict) and key in value:
            yield (*place, key)


def _img_size(cfg: Config) -> Iterator[Path]:
    yield from ((*path, 'img_size') for path in backbones_in(cfg))
    # A hook may hold another model (a teacher, say) with an image size of its own; only its data are meant.
    for key, value in cfg.items():
        if key not in _HOOK_KEYS:
            yield from (path for path in _named(value, 'img_size', (key,)))
    for path, loader in dataloaders_in({key: cfg.get(key) for key in _HOOK_KEYS}):
        yield from _named(loader, 'img_size', path)
    for path, transform in transforms_in(cfg):
        if takes('TRANSFORMS', transform, 'img_size'):
            yield (*path, 'img_size')


def _num_classes(cfg: Config) -> Iterator[Path]:
    if classifying_head(cfg) is not None:
        yield ('model', 'head', 'num_classes')
    # Not the backbone: there the key asks for a classifier of its own (mmpretrain's `num_classes=-1`: for none).
    for key, part in (cfg.get('model') or {}).items():
        if key not in ('backbone', 'neck'):
            yield from _named(part, 'num_classes', ('model', key))


def _data_root(cfg: Config) -> Iterator[Path]:
    for path, dataset in datasets_in(cfg):
        if 'data_root' in dataset or takes('DATASETS', dataset, 'data_root'):
            yield (*path, 'data_root')


def _checkpoint_path(cfg: Config) -> Iterator[Path]:
    for path in timm_streams_in(cfg):
        has_weights = value_at(cfg, (*path, 'pretrained'))  # then it keeps these
        yield (*path, 'pretrained' if has_weights else 'checkpoint_path')


def _pretrained(cfg: Config) -> Iterator[Path]:
    for path in timm_streams_in(cfg):
        has_weights = value_at(cfg, (*path, 'checkpoint_path'))
        is_open = value_at(cfg, (*path, 'pretrained')) in (ABSENT, None)
        yield (*path, 'checkpoint_path' if has_weights and is_open else 'pretrained')


def _max_epochs(cfg: Config) -> Iterator[Path]:
    loop = cfg.get('train_cfg')
    if isinstance(loop, dict) and loop.get('by_epoch', 'max_iters' not in loop) and not loop.get('max_iters'):
        yield ('train_cfg', 'max_epochs')


def _lr(cfg: Config) -> Iterator[Path]:
    for path, node in walk(cfg.get('optim_wrapper') or {}, ('optim_wrapper',)):
        if path[-1] == 'optimizer' and isinstance(node, dict):
            yield (*path, 'lr')


def _training_images(key: str) -> Callable[[Config], Iterator[Path]]:
    def places(cfg: Config) -> Iterator[Path]:
        for path, dataset in datasets_in(cfg):
            if (path[0] == 'train_dataloader' or dataset.get('split') == 'train') and takes('DATASETS', dataset, key):
                yield (*path, key)

    return places


_PLACES: dict[str, Callable[[Config], Iterator[Path]]] = {
    'img_size': _img_size,
    'num_classes': _num_classes,
    'data_root': _data_root,
    'pretrained': _pretrained,
    'checkpoint_path': _checkpoint_path,
    'model_name': lambda cfg: ((*path, 'model_name') for path in timm_streams_in(cfg)),
    'max_epochs': _max_epochs,
    'batch_size': lambda cfg: ((*path, 'batch_size') for path, _ in dataloaders_in(cfg)),
    'lr': _lr,
    'seed': lambda cfg: iter([('randomness', 'seed')]),
    'cache_dir': mapped_caches,
    'drop': _training_images('drop'),
    'relabel': _training_images('relabel'),
}
SHARED_KEYS = tuple(_PLACES)
