"""Fill ``num_classes`` of a head from the checkpoint to test, or from the training data."""

from collections.abc import Iterator
from typing import Optional

from mmengine.config import Config

from .change import Change
from .layers import ConfigError
from .shared_keys import classifying_head
from .tree import ABSENT

__all__ = ['num_classes']


def num_classes(cfg: Config, checkpoint: Optional[str] = None) -> Iterator[Change]:
    """Count the classes for a classification head whose ``num_classes`` is not set.

    With a number that is set nothing is read here. The training dataset is built only if there is no checkpoint (of an
    ensemble: no member's), or if it does not name the classes that it was trained with.

    Raises:
        ConfigError: If neither names the classes.
    """
    head = classifying_head(cfg)
    if head is None or head.get('num_classes') is not None:
        return
    from .model_classes import checkpoint_class_names, training_class_names

    members = [
        member if isinstance(member, str) else member.get('checkpoint') for member in cfg.model.get('members', [])
    ]
    checkpoint = checkpoint or next(filter(None, members), None)
    names, why = None if checkpoint is None else checkpoint_class_names(checkpoint), 'classes of the checkpoint'
    if names is None:
        names, why = training_class_names(cfg), 'classes of the training data'
    if names is None:
        dataset = (cfg.get('train_dataloader') or {}).get('dataset')
        found = (
            'there are no training data to count classes in'
            if dataset is None
            else f'the training data ({dataset["type"]}) does not name its classes'
        )
        raise ConfigError(
            f'{head["type"]}: num_classes is not set, and {found}. Set num_classes = ... at the top level of the '
            'config.'
        )
    yield Change(('model', 'head', 'num_classes'), head.get('num_classes', ABSENT), len(names.names), why)
