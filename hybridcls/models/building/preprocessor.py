"""Build the data preprocessor of a classifier, with settings from its head."""

from typing import Optional, Union

from torch import nn

from .chain import build_part

__all__ = ['build_preprocessor']


def build_preprocessor(
    caller: str, preprocessor: Union[dict, nn.Module, None], train_cfg: Optional[dict], num_classes: Optional[int]
) -> nn.Module:
    """Build a data preprocessor, ``HybridDataPreprocessor`` unless another ``type`` is given.

    Args:
        caller (str): Name used as the error prefix.
        preprocessor (dict | nn.Module, optional): Its config; a module is returned as it is.
        train_cfg (dict, optional): Batch augmentations, the same as its ``batch_augments``.
        num_classes (int, optional): C of the head, for one-hot labels.

    Raises:
        ValueError: If ``train_cfg`` is given and the preprocessor is built already or has other augmentations.
    """
    if isinstance(preprocessor, nn.Module):
        if train_cfg is not None:
            raise ValueError(
                f'{caller}: train_cfg is for the data preprocessor, and data_preprocessor is built already. Build it '
                'with batch_augments=..., and drop train_cfg.'
            )
        return preprocessor
    cfg = dict(preprocessor or {})
    cfg.setdefault('type', 'HybridDataPreprocessor')
    if train_cfg is not None and cfg.setdefault('batch_augments', train_cfg) != train_cfg:
        raise ValueError(
            f'{caller}: train_cfg and data_preprocessor.batch_augments name different batch augmentations. Drop one '
            'of them.'
        )
    return build_part(caller, 'data_preprocessor', cfg, num_classes=num_classes)
