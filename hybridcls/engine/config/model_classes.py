"""Read the class names of a model from a checkpoint, or from the training data of a config."""

from typing import Optional, Union

from mmengine.config import Config

from hybridcls.checkpoint_reading import read_checkpoint
from hybridcls.datasets.class_numbering import class_names_of
from hybridcls.registry import DATASETS
from hybridcls.structures import ClassNames

__all__ = ['checkpoint_class_names', 'training_class_names']


def checkpoint_class_names(path: str) -> Optional[ClassNames]:
    """Read the class names of the training data from a checkpoint file; None if it has none (bare weights)."""
    return ClassNames.of_checkpoint(read_checkpoint(path))


def training_class_names(cfg: Union[Config, dict]) -> Optional[ClassNames]:
    """Build the training data of a config and read its classes.

    Returns:
        ClassNames or None: None if the config has no training data, or they name no classes.

    Raises:
        FileNotFoundError: If the images are not there.
        ValueError: If they join datasets with other class numbers.
    """
    dataset = (cfg.get('train_dataloader') or {}).get('dataset')
    if dataset is None:
        return None
    with DATASETS.switch_scope_and_registry('hybridcls') as registry:  # transforms in it are found in this scope too
        return class_names_of(registry.build(dataset) if isinstance(dataset, dict) else dataset)
