"""Private parts of timm that hybridcls uses. Run with timm 1.0.22 to 1.0.31."""

import hashlib
import inspect
import sys
from collections.abc import Callable
from functools import partial
from inspect import signature
from types import SimpleNamespace
from typing import Any, Optional

import timm
import torch
from timm.models import adapt_input_conv, group_parameters, model_entrypoint
from torch import Tensor, nn

__all__ = [
    'ACCEPTED_SOURCES', 'adapt_first_conv', 'check_known_source', 'checkpoint_filter', 'feature_indices',
    'layer_depths', 'fix_position_tables', 'source_hash',
]  # fmt: skip

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
    if len(takes) == 1:
        return partial(_of_one_argument, function)
    if module.__name__.rpartition('.')[2] in ('swin_transformer', 'swin_transformer_v2'):
        return partial(_of_swin, function, **options)
    return partial(function, **options)


def _of_swin(function: Callable[..., dict], weights: dict, model: nn.Module, **options: Any) -> dict:
    """Convert Swin's weights, also without those of a classifier.

    Up to 1.0.30 timm takes weights without a classifier for those of the original project, whose stages begin
    elsewhere, and moves them by one stage. The original project's first stage has a downsampling, timm's has none.
    """
    if 'layers.0.downsample.reduction.weight' in weights or 'head.fc.weight' in weights:
        return function(weights, model, **options)
    converted = function({**weights, 'head.fc.weight': torch.empty(0)}, model, **options)
    converted.pop('head.fc.weight', None)
    return converted


def _of_one_argument(function: Callable[[dict], dict], weights: dict, model: nn.Module) -> dict:
    return function(weights)


def _options(architecture: str) -> dict[str, Any]:
    """Return the arguments that timm binds to the filter function for some architectures."""
    options: dict[str, Any] = {}
    if architecture.startswith('deit'):
        options['adapt_layer_scale'] = True
    if 'flexi' in architecture:
        options.update(interpolation='bilinear', antialias=False)
    return options


def layer_depths(model: Any) -> tuple[dict[str, int], int]:
    """Return the depth of each parameter, and the number of depths, which includes a classifier after the model.

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


def adapt_first_conv(channels: int, weight: Tensor, before: int) -> Tensor:
    """Convert the weight of a first convolution from ``before`` to ``channels`` input channels, as timm does.

    Raises:
        NotImplementedError: If timm cannot.
    """
    if len(signature(adapt_input_conv).parameters) > 2:
        return adapt_input_conv(channels, weight, before)
    if before == 3:  # all that timm up to 1.0.30 comes from
        return adapt_input_conv(channels, weight)
    if before != weight.shape[1]:
        raise NotImplementedError('pixels that were moved to channels, of images without three channels')
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight.repeat(1, -(-channels // before), 1, 1)[:, :channels] * (before / channels)


def fix_position_tables(model: nn.Module) -> nn.Module:
    """Replace NaN by 0 in Swin V2's tables of relative positions of one-token windows (0 / 0), in place.

    Up to 1.0.30 timm leaves NaN there, and the whole model returns NaN.
    """
    for name, table in model.named_buffers():
        if name.endswith('relative_coords_table'):
            table.nan_to_num_(0.0)
    return model


def feature_indices(depth: int, indices: Any) -> tuple[list[int], int]:
    """Resolve ``indices`` (an int: the last n) to numbers of ``depth`` blocks, and return the largest, as timm does."""
    from timm.models._features import feature_take_indices

    return feature_take_indices(depth, indices)


# The methods of timm that token merging computes itself, a hash of each form that they have had, and the releases that
# have it. To add one: read what changed, let merging_blocks.py or merging_transformers.py follow, and pass
# tests/test_models/test_adapters/test_token_merging.py with that release.
_METHODS = dict.fromkeys(
    ('VisionTransformer', 'VisionTransformerDistilled', 'Eva', 'Beit'), ('forward_features', 'forward_intermediates')
)
_METHODS_OF_A_LAYER = ('__init__', 'forward')
ACCEPTED_SOURCES: dict[str, dict[str, str]] = {
    'timm.models.vision_transformer.VisionTransformer': {
        'fecb447d3991': '1.0.22 to 1.0.25',
        '7bdfe0e4b6f4': '1.0.26 to 1.0.31',
    },
    'timm.models.deit.VisionTransformerDistilled': {
        'fecb447d3991': '1.0.22 to 1.0.25',
        '7bdfe0e4b6f4': '1.0.26 to 1.0.31',
    },
    'timm.models.eva.Eva': {
        '07a3ade4e120': '1.0.22 to 1.0.25',
        '4058e1190cba': '1.0.26 to 1.0.31',
    },
    'timm.models.beit.Beit': {
        '0f85f671456a': '1.0.22 to 1.0.31',
    },
    'timm.models.vision_transformer.Block': {
        'd842a75bce20': '1.0.22',
        '25cb2133267b': '1.0.23 to 1.0.25',
        '6aff0b2625c6': '1.0.26 to 1.0.31',
    },
    'timm.models.vision_transformer.ResPostBlock': {
        '04fc1cd7b6f7': '1.0.22',
        'd94294ff7904': '1.0.23 to 1.0.25',
        'bf1e66e853ca': '1.0.26 to 1.0.31',
    },
    'timm.models.eva.EvaBlock': {
        '8ea068e52595': '1.0.22',
        'b3407dc78a77': '1.0.23 to 1.0.24',
        '931b99acd204': '1.0.25',
        '314cbd4c1c7c': '1.0.26 to 1.0.27',
        '8f149ca72619': '1.0.28 to 1.0.29',
        '6105beb4b481': '1.0.30 to 1.0.31',
    },
    'timm.models.eva.EvaBlockPostNorm': {
        '057b7415d448': '1.0.22',
        '7dfb613e0d72': '1.0.23 to 1.0.25',
        'd7ec1647dbf8': '1.0.26 to 1.0.27',
        '224adf0a6b95': '1.0.28 to 1.0.31',
    },
    'timm.models.beit.Block': {
        'eb286a01cf75': '1.0.22',
        'f83eb725ae6d': '1.0.23 to 1.0.24',
        '217fc69e6841': '1.0.25 to 1.0.31',
    },
    'timm.layers.attention.Attention': {
        'ba16e07debb6': '1.0.22',
        'e2b45d00a12e': '1.0.23 to 1.0.25',
        '0de45442be05': '1.0.26 to 1.0.27',
        '9573bf9a3329': '1.0.28 to 1.0.31',
    },
    'timm.layers.attention.AttentionRope': {
        'e35ddc9346ac': '1.0.22',
        'c24c99c8f658': '1.0.23 to 1.0.25',
        '48dfbda15747': '1.0.26 to 1.0.27',
        '332cc39deb5a': '1.0.28 to 1.0.29',
        '4c0743825fe6': '1.0.30 to 1.0.31',
    },
    'timm.models.eva.EvaAttention': {
        '42c8b976a333': '1.0.22',
        'd7cd8b28c3e0': '1.0.23 to 1.0.24',
        '17df22dfee59': '1.0.25',
        '45c7fa082733': '1.0.26 to 1.0.27',
        '8eca3860060d': '1.0.28 to 1.0.31',
    },
    'timm.models.beit.Attention': {
        '24307f382df8': '1.0.22',
        '5fa93d69f37b': '1.0.23 to 1.0.24',
        '1eb62a7b3361': '1.0.25 to 1.0.31',
    },
}


def source_hash(kind: type) -> str:
    """Return the first 12 digits of the SHA-256 of the methods of a class that token merging reimplements.

    Runs of white space count as one blank. A class whose source cannot be read has no hash: ``''``.
    """
    try:
        sources = [inspect.getsource(getattr(kind, name)) for name in _METHODS.get(kind.__name__, _METHODS_OF_A_LAYER)]
    except (OSError, TypeError):
        return ''
    return hashlib.sha256(' '.join(' '.join(sources).split()).encode()).hexdigest()[:12]


def check_known_source(caller: str, kind: type) -> None:
    """Raise a ValueError unless the installed timm has a known version of a class's source."""
    name = f'{kind.__module__}.{kind.__qualname__}'
    forms = ACCEPTED_SOURCES[name]
    if source_hash(kind) not in forms:
        newest = list(forms.values())[-1].split()[-1]
        raise ValueError(
            f'{caller}: expected {name} in a form that hybridcls has read, got that of timm {timm.__version__}, which '
            f"may compute something else. Type: pip install 'timm=={newest}'; or switch token merging off."
        )
