"""What we need of timm beyond its public names. Run with timm 1.0.31."""

import sys
from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any, Optional

import timm
from timm.models import model_entrypoint
from torch import nn

__all__ = ['checkpoint_filter']

# timm gives each family a function that converts weights of other sizes and other projects while they are loaded, but
# only to its own loader, which reads files itself.
_NAMES = ('checkpoint_filter_fn', '_filter_fn', '_filter_torchvision_pretrained')
# Where one file has a function for the encoder and one for the classifier.
_SUFFIXES = ('classifier', 'encoder')


def checkpoint_filter(model: Any) -> Optional[Callable[[dict, nn.Module], dict]]:
    """Return the function with which timm converts weights for a model: ``(weights, model) -> weights``.

    Returns:
        callable or None: None for families whose weights need no conversion, and for models that are not timm's.
    """
    architecture = (getattr(model, 'pretrained_cfg', None) or {}).get('architecture')
    if not architecture or not timm.is_model(architecture):
        return None
    module = sys.modules[model_entrypoint(architecture).__module__]
    kinds = [kind.__name__ for kind in type(model).__mro__]
    ending = _SUFFIXES[0] if any(kind.endswith('Classifier') for kind in kinds) else _SUFFIXES[1]
    names = (*_NAMES, f'{_NAMES[0]}_{ending}')
    function = next((getattr(module, name) for name in names if hasattr(module, name)), None)
    if function is None:
        return None
    takes = signature(function).parameters
    options = {key: value for key, value in _options(architecture).items() if key in takes}
    return partial(function, **options) if len(takes) > 1 else partial(_of_one_argument, function)


def _of_one_argument(function: Callable[[dict], dict], weights: dict, model: nn.Module) -> dict:
    return function(weights)


def _options(architecture: str) -> dict[str, Any]:
    """What timm binds to the function for some architectures."""
    options: dict[str, Any] = {}
    if architecture.startswith('deit'):
        options['adapt_layer_scale'] = True
    if 'flexi' in architecture:
        options.update(interpolation='bilinear', antialias=False)
    return options
