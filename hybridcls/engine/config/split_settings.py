"""The top-level key ``data_split``: how to divide images that have no split of their own."""

from typing import NamedTuple, Optional

from mmengine.config import Config

from hybridcls.checks import check_known_keys, check_number

from .layers import ConfigError

__all__ = ['SplitSettings', 'split_settings']


class SplitSettings(NamedTuple):
    """The settings of the top-level key ``data_split``: how to divide images that have no split of their own.

    Args:
        val (float): Share of the validation. Defaults to 0.2.
        test (float): Share of the test. Defaults to 0.0: the validation is tested.
        seed (int): Of the choice, whatever the seed of the training is. Defaults to 0.
        near_duplicates (bool): Whether images that look the same are kept together. Defaults to True.
        folds (int, optional): Folds of a cross-validation, one of which is the validation. Defaults to None.
        fold (int, optional): Which one, from 1. Defaults to None.
    """

    val: float = 0.2
    test: float = 0.0
    seed: int = 0
    near_duplicates: bool = True
    folds: Optional[int] = None
    fold: Optional[int] = None

    def __str__(self) -> str:
        share = f'folds={self.folds}' if self.folds else f'val={self.val}'
        return f'{share}{f", test={self.test}" if self.test else ""}, seed={self.seed}'


def split_settings(cfg: Config) -> SplitSettings:
    """Read and check the key ``data_split``.

    Raises:
        TypeError, ValueError: If it has an unknown key, or a value is of a wrong type or out of range.
    """
    given = cfg.get('data_split') or {}
    check_known_keys('data_split', given, SplitSettings._fields)
    settings = SplitSettings(**given)
    check_number('data_split', 'val', settings.val, 0, 1, low_open=True, high_open=True)
    check_number('data_split', 'test', settings.test, 0, 1, high_open=True)
    check_number('data_split', 'seed', settings.seed, 0, integer=True)
    if settings.val + settings.test >= 1:
        raise ConfigError(
            f'data_split: expected shares that leave images for the training, got val={settings.val} and '
            f'test={settings.test}.'
        )
    if settings.folds is not None:
        check_number('data_split', 'folds', settings.folds, 2, integer=True)
        advice = 'For one training a fold, start it with --folds.'
        check_number('data_split', 'fold', settings.fold, 1, settings.folds, integer=True, advice=advice)
    return settings
