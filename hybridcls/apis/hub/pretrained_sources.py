"""Find the pretrained weights that a config names, and the licences that timm records for them."""

from collections.abc import Mapping
from typing import Any

from hybridcls.engine.config.tree import dotted, walk

__all__ = ['pretrained_sources']


def pretrained_sources(cfg: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return for each timm model in a config its weights: ``model``, ``license``, ``url``, ``file``.

    Args:
        cfg (Mapping): The config of a training.

    Returns:
        dict: By place in the model, such as ``'backbone.cnn'``. Without ``license`` where none is recorded; without
        any entry for a model that started from random weights.
    """
    found = {}
    for path, node in walk(cfg.get('model') or {}):
        if not isinstance(node, Mapping) or not isinstance(node.get('model_name'), str):
            continue
        if node.get('checkpoint_path'):
            found[dotted(path)] = dict(model=node['model_name'], file=str(node['checkpoint_path']).rpartition('/')[2])
        elif node.get('pretrained'):
            found[dotted(path)] = dict(model=node['model_name'], **_recorded(node['model_name']))
    return found


def _recorded(model_name: str) -> dict[str, Any]:
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(model_name) if ':' not in model_name else None
    if known is None:
        return {}
    url = f'https://huggingface.co/{known.hf_hub_id.partition("@")[0]}' if known.hf_hub_id else known.url
    facts = dict(tag=known.tag, license=known.license, url=url)
    return {key: value for key, value in facts.items() if value}
