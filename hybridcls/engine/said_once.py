"""What a config says once, at the top level, is carried to every place that needs it."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config
from mmengine.logging import print_log

from hybridcls.signatures import takes_argument

from .dataloader_defaults import dataloaders_of

__all__ = ['SAID_ONCE', 'carry_said_once', 'datasets_in']

SAID_ONCE = ('img_size', 'num_classes', 'data_root', 'pretrained')

_HOOK_KEYS = ('default_hooks', 'custom_hooks')
# Dicts below these keys are datasets.
_DATASET_KEYS = ('dataset', 'datasets', 'bank')


def carry_said_once(cfg: Config) -> None:
    """Copy top-level ``img_size``, ``num_classes``, ``data_root`` and ``pretrained`` to their places, in place.

    - ``img_size`` (pixels; int or (height, width)): ``model.backbone.img_size`` of a HybridBackbone, each transform
      (however nested) whose class takes it, and each key of that name in the model, the pipelines, the dataloaders
      (also those of hooks) and the evaluators.
    - ``num_classes``: the head if its class takes it, and each key of that name in the model but for backbone and neck.
    - ``data_root``: each dataset, wrapped or not, that has the key or whose class takes it. A dataset that names a
      root of its own, one that the top level never had (in the config or its bases), keeps it: images from
      elsewhere, say to be rejected as unknown, live beside the others.
    - ``pretrained`` (True or False): the timm streams of a HybridBackbone.

    A key that the top level does not have, or has as None, is left alone everywhere.
    """
    if cfg.get('img_size') is not None:
        _carry_img_size(cfg, cfg.img_size)
    if cfg.get('num_classes') is not None:
        _carry_num_classes(cfg, cfg.num_classes)
    if cfg.get('data_root') is not None:
        _carry_data_root(cfg, cfg.data_root)
    if cfg.get('pretrained') is not None:
        for stream in ('cnn', 'vit'):
            part = _hybrid_backbone(cfg).get(stream)
            if isinstance(part, dict) and 'model_name' in part:
                part['pretrained'] = cfg.pretrained


def _carry_img_size(cfg: Config, size: Any) -> None:
    backbone = _hybrid_backbone(cfg)
    if backbone:
        backbone['img_size'] = size
    places = [value for key, value in cfg.items() if key not in _HOOK_KEYS]
    # A hook may hold another model (a teacher, say) with an image size of its own; only its data are meant.
    places += [dataloader for key in _HOOK_KEYS for _, dataloader in dataloaders_of(cfg.get(key))]
    for place in places:
        for node in _dicts_in(place):
            if 'img_size' in node:
                node['img_size'] = size
    for transform in _transforms_in(cfg):
        if _class_takes('TRANSFORMS', transform['type'], 'img_size'):
            transform['img_size'] = size


def _hybrid_backbone(cfg: Config) -> dict:
    """``model.backbone`` if it is a HybridBackbone, else an empty dict."""
    backbone = (cfg.get('model') or {}).get('backbone') or {}
    return backbone if str(backbone.get('type', '')).rsplit('.', 1)[-1] == 'HybridBackbone' else {}


def _carry_num_classes(cfg: Config, number: int) -> None:
    model = cfg.get('model') or {}
    # Not the backbone: there the key asks for a classifier of its own (mmpretrain's `num_classes=-1`: for none).
    for part in (value for key, value in model.items() if key not in ('backbone', 'neck')):
        for node in _dicts_in(part):
            if 'num_classes' in node:
                node['num_classes'] = number
    head = classifying_head(cfg)
    if head is not None:
        head['num_classes'] = number


def classifying_head(cfg: Config) -> Optional[dict]:
    """Return ``model.head`` if it has a number of classes (SupConHead, for one, has none), else None."""
    head = (cfg.get('model') or {}).get('head')
    if not isinstance(head, dict) or 'type' not in head:
        return None
    return head if 'num_classes' in head or _class_takes('MODELS', head['type'], 'num_classes') else None


def _carry_data_root(cfg: Config, root: str) -> None:
    said = _values_along_bases(cfg.filename, 'data_root') | {root, None, ''}
    for node in datasets_in(cfg):
        if node.get('data_root') not in said:
            print_log(
                f"data_root={node['data_root']!r} of a {node.get('type')} stays its own; the config's data_root "
                f'is {root!r}.',
                logger='current',
            )
        elif 'data_root' in node or _class_takes('DATASETS', node.get('type'), 'data_root'):
            node['data_root'] = root


def _dicts_in(node: Any) -> Iterator[dict]:
    """Yield ``node`` and every dict in it."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _dicts_in(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _dicts_in(value)


def datasets_in(node: Any) -> Iterator[dict]:
    """Yield every dict below a key that holds a dataset or a list of them."""
    if isinstance(node, (Config, dict)):
        for key, value in node.items():
            if str(key) in _DATASET_KEYS or str(key).endswith('_dataset'):
                for entry in value if isinstance(value, (list, tuple)) else [value]:
                    if isinstance(entry, dict) and 'type' in entry:
                        yield entry
            yield from datasets_in(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from datasets_in(value)


def _transforms_in(node: Any, inside: bool = False) -> Iterator[dict]:
    """Yield every dict with a type in a list that a pipeline, or a transform of transforms, holds."""
    if isinstance(node, (Config, dict)):
        if inside and 'type' in node:
            yield node
        for key, value in node.items():
            yield from _transforms_in(value, str(key) == 'transforms' or str(key).endswith('pipeline'))
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _transforms_in(value, inside)


def _class_takes(registry: str, kind: Any, name: str) -> bool:
    """Whether the class that ``kind`` names takes ``name``; a name that nobody knows is left to the build to report."""
    if isinstance(kind, str):
        from hybridcls import registry as registries

        found = getattr(registries, registry)
        try:
            kind = found.get(kind)
        except KeyError:
            return False
    return inspect.isclass(kind) and takes_argument(kind, name)


def _values_along_bases(file: Optional[str], key: str) -> set:
    """All literal values that a top-level ``key`` is given in a config file and its bases."""
    values: set = set()
    seen: set[str] = set()
    todo = [file] if file else []
    while todo:
        path = todo.pop()
        if path in seen or not Path(path).is_file() or Path(path).suffix != '.py':
            continue
        seen.add(path)
        for line in ast.parse(Path(path).read_text(encoding='utf8')).body:
            if not isinstance(line, ast.Assign) or not isinstance(line.targets[0], ast.Name):
                continue
            name = line.targets[0].id
            try:
                value = ast.literal_eval(line.value)
            except ValueError:
                continue
            if name == key and isinstance(value, str):
                values.add(value)
            if name == '_base_':
                bases = [value] if isinstance(value, str) else value
                todo += [str(Path(path).parent / base) for base in bases if '::' not in base]
    return values
