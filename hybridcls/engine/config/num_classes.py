"""The number of classes of a head that leaves it open: those of the training data."""

from collections.abc import Iterator

from mmengine.config import Config

from .change import Change
from .layers import ConfigError
from .shared_keys import classifying_head
from .tree import ABSENT

__all__ = ['num_classes']

_ADVICE = 'Set num_classes = ... at the top level of the config.'


def num_classes(cfg: Config) -> Iterator[Change]:
    """Count the classes of the training data for a classifying head whose ``num_classes`` is open.

    The dataset is built only then: with a number that is set nothing is read here.

    Raises:
        ConfigError: If the dataset does not know its classes either.
    """
    head = classifying_head(cfg)
    if head is None or head.get('num_classes') is not None:
        return
    dataset_cfg = (cfg.get('train_dataloader') or {}).get('dataset')
    if dataset_cfg is None:
        raise ConfigError(f'{head["type"]}: num_classes is not set, and there is no training data to count. {_ADVICE}')
    from hybridcls.registry import DATASETS

    with DATASETS.switch_scope_and_registry('hybridcls') as registry:  # transforms in it are found in this scope too
        dataset = registry.build(dataset_cfg)
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if not classes:
        raise ConfigError(
            f'{head["type"]}: num_classes is not set, and the training data ({dataset_cfg["type"]}) does not name its '
            f'classes. {_ADVICE}'
        )
    path = ('model', 'head', 'num_classes')
    yield Change(path, head.get('num_classes', ABSENT), len(classes), 'classes of the training data')
