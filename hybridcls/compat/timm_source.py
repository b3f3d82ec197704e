"""Look up a model in timm's source, without the slow import of timm. Run with timm 1.0.22 to 1.0.31."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

__all__ = ['repositories_of']

_HUB_KEY = 'hf_hub_id'


def repositories_of(model_name: str) -> list[str]:
    """Return the repositories on the Hub that may hold the pretrained weights of a model.

    Args:
        model_name (str): ``'resnet18'``, of which any tag counts, or ``'resnet18.a1_in1k'``.

    Returns:
        list[str]: ``'timm/resnet18.a1_in1k'`` and so on. Empty where the source alone does not tell: a name that timm
        does not have, or weights that are not, or not only, with timm's on the Hub.

    Example:
        >>> 'timm/resnet18.a1_in1k' in repositories_of('resnet18')
        True
        >>> repositories_of('no_model')
        []
    """
    architecture, _, tag = model_name.partition('.')
    found = []
    for key, value in _configs_of(architecture):
        if tag and key.rstrip('*') != model_name:
            continue
        place = next((one.value for one in getattr(value, 'keywords', ()) if one.arg == _HUB_KEY), None)
        repository = str(place.value) if isinstance(place, ast.Constant) else ''
        if not repository.startswith('timm/'):  # functions of some families change other ones
            return []
        found.append(repository + key.rstrip('*') if repository.endswith('/') else repository)
    return found


def _configs_of(architecture: str) -> list[tuple[str, ast.expr]]:
    """Return the entries of a model's pretrained configs from the file that defines the model."""
    spec = find_spec('timm')
    folder = Path(spec.origin).parent / 'models' if spec is not None and spec.origin else Path()
    definition = re.compile(rf'^def {re.escape(architecture)}\(', re.MULTILINE)
    for file in sorted(folder.glob('*.py')):
        source = file.read_text(encoding='utf8')
        if definition.search(source):
            return [
                (key.value, value)
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.Dict)
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant)
                and isinstance(key.value, str)
                and key.value.partition('.')[0] == architecture
            ]
    return []
