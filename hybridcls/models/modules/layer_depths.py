"""The depth of each parameter of a timm model, by timm's own rules."""

from types import SimpleNamespace
from typing import Any

from timm.models import group_parameters

__all__ = ['timm_layer_depths']


def timm_layer_depths(model: Any) -> tuple[dict[str, int], int]:
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
        >>> depths, count = timm_layer_depths(timm.create_model('test_vit', num_classes=0))
        >>> depths['pos_embed'], depths['blocks.5.mlp.fc2.weight'], count
        (0, 6, 8)
    """
    if not hasattr(model, 'group_matcher'):
        raise ValueError(
            f'timm does not say in which order the parameters of {type(model).__name__} come (it has no '
            'group_matcher), so frozen_stages and layer-wise learning rates cannot be used with it.'
        )
    classifier = (getattr(model, 'pretrained_cfg', None) or {}).get('classifier') or 'head'
    classifier = classifier if isinstance(classifier, str) else classifier[0]
    # Streams have no classifier; a name without a tensor stands for it, so that scales are those of the whole model.
    named = [*model.named_parameters(), (f'{classifier}.weight', None)]
    stand_in: Any = SimpleNamespace(named_parameters=lambda: named)
    depths = group_parameters(stand_in, model.group_matcher(coarse=False), reverse=True)
    return depths, max(depths.values()) + 1
