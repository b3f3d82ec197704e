"""What we need of timm beyond its public names. Run with timm 1.0.31."""

import sys
from collections.abc import Callable
from functools import partial
from inspect import signature
from types import SimpleNamespace
from typing import Any, Optional

import timm
from timm.models import group_parameters, model_entrypoint
from torch import nn

__all__ = ['checkpoint_filter', 'layer_depths']

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


def layer_depths(model: Any) -> tuple[dict[str, int], int]:
    """Return the depth of each parameter, and the number of depths, that of a classifier after the model included.

    The depths are those by which timm's ``param_groups_layer_decay`` scales learning rates: 0 is the stem, and the
    last is that of the classifier, whether the model has one or not. (In some models the final norm is as deep as the
    classifier, in others as the last block.)

    Args:
        model (nn.Module): A timm model, with or without a classifier.

    Returns:
        tuple[dict[str, int], int]: Depths by the name of the parameter, and their number.

    Raises:
        ValueError: If timm has no rule for the model.

    Example:
        >>> import timm
        >>> depths, count = layer_depths(timm.create_model('test_vit', num_classes=0))
        >>> depths['pos_embed'], depths['blocks.5.mlp.fc2.weight'], count
        (0, 6, 8)
    """
    if not hasattr(model, 'group_matcher'):
        raise ValueError(
            f'layer_depths: expected a model with a group_matcher, as timm has them, got {type(model).__name__}. '
            'Without the order of its layers, frozen_stages and layer-wise learning rates cannot be used with it.'
        )
    classifier = (getattr(model, 'pretrained_cfg', None) or {}).get('classifier') or 'head'
    classifier = classifier if isinstance(classifier, str) else classifier[0]
    # Streams have no classifier; a name without a tensor stands for it, so that scales are those of the whole model.
    named = [*model.named_parameters(), (f'{classifier}.weight', None)]
    stand_in: Any = SimpleNamespace(named_parameters=lambda: named)
    depths = group_parameters(stand_in, model.group_matcher(coarse=False), reverse=True)
    return depths, max(depths.values()) + 1
