"""Guess the model that a file of weights comes from, for messages."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm

from .torchvision_weights import twin_of_weights

__all__ = ['guess_model']

# A name of a weight that tells the family, as a pattern; the first that is found counts.
_FAMILIES = (
    (r'encoder\.layers\.encoder_layer_0\.', "torchvision's VisionTransformer"),
    (r'features\.0\.0\.weight', "torchvision's ConvNeXt, Swin, EfficientNet or MobileNet"),
    (r'encoder\.layer\.0\.attention\.', 'a vision transformer of the transformers library'),
    (r'layers\.0\.blocks\.0\.attn\.logit_scale', 'a Swin V2'),
    (r'layers\.0\.blocks\.0\.attn\.relative_position_bias_table', 'a Swin'),
    (r'stages\.0\.blocks\.0\.(conv_dw|dwconv)\.weight', 'a ConvNeXt'),
    (r'blocks\.0\.attn\.(qkv|q_proj|in_proj_)', 'a vision transformer'),
    (r'conv_stem\.weight', 'an EfficientNet or MobileNet'),
    (r'layer1\.0\.conv1\.weight', 'a ResNet'),
)


def guess_model(path: str, content: Any, weights: Mapping[str, Any]) -> str:
    """Return a sentence with the model that a file seems to contain, or an empty string.

    Args:
        path (str): The file: its name may be that of a timm model, or a ``config.json`` may lie beside it.
        content (Any): What is in the file; a checkpoint of ours holds the config of its run.
        weights (Mapping[str, Tensor]): Its weights.

    Example:
        >>> guess_model('w.pth', {}, {'module.layer1.0.conv1.weight': 0})
        ' It seems to hold a ResNet.'
    """
    names = _names_of_run(content) or _names_beside(path)
    twin = None if names else twin_of_weights(weights)
    if twin is not None:
        return f" It seems to hold torchvision's twin of timm's {twin}."
    if names:
        return f' It seems to hold {" and ".join(names)}.'
    stem = Path(path).name
    architecture = max((name for name in timm.list_models() if stem.startswith(name)), key=len, default='')
    found = next(
        (what for pattern, what in _FAMILIES if any(re.search(rf'(^|\.){pattern}', key) for key in weights)), ''
    )
    by_name = f' (by its name {architecture})' if architecture else ''
    return f' It seems to hold {found or architecture}{by_name if found else ""}.' if found or architecture else ''


def _names_of_run(content: Any) -> list[str]:
    meta = content.get('meta') if isinstance(content, Mapping) else None
    text = meta.get('cfg') if isinstance(meta, Mapping) else None
    names = re.findall(r"""model_name['"]?\s*[=:]\s*['"]([^'"]+)['"]""", text) if isinstance(text, str) else []
    return list(dict.fromkeys(names))


def _names_beside(path: str) -> list[str]:
    file = Path(path).with_name('config.json')
    try:
        name = json.loads(file.read_text(encoding='utf8')).get('architecture') if file.is_file() else None
    except (OSError, ValueError, AttributeError):
        return []
    return [name] if isinstance(name, str) else []
