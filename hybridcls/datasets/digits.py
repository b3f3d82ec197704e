"""Handwritten digits bundled with scikit-learn: real images without a download."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional

import numpy as np
from mmpretrain.datasets import BaseDataset

from hybridcls.checks import check_choice, check_number
from hybridcls.registry import DATASETS

__all__ = ['Digits']

_BRIGHTEST = 16  # The scans are counts of inked pixels in 4 x 4 blocks.


@DATASETS.register_module()
class Digits(BaseDataset):
    """1,797 handwritten digits of 8 x 8 pixels in 10 classes, in memory.

    They are the test part of the UCI set `Optical Recognition of Handwritten Digits
    <https://archive.ics.uci.edu/dataset/80>`_ (E. Alpaydin, C. Kaynak; CC BY 4.0), in the order of scikit-learn's
    ``load_digits``. A sample has the keys ``img`` (8, 8, 3) uint8 BGR with three equal channels in [0, 255],
    ``img_shape`` and ``ori_shape`` (8, 8), ``gt_label`` in 0..9 and ``sample_idx``; the pipeline reads no image file
    and does the resizing.

    The splits are stratified by class and depend on the two ratios and ``split_seed`` alone.

    Args:
        split (str): ``'train'`` (1,149 images by default), ``'val'`` (288), to choose checkpoints and settings,
            ``'test'`` (360), to evaluate once, or ``'train+val'`` (1,437). Defaults to ``'train'``.
        test_ratio (float): The share of each class for the test, in (0, 1). Defaults to 0.2.
        val_ratio (float): The share of the other images for the validation, in (0, 1). Defaults to 0.2.
        split_seed (int): Seed of the split. Another seed mixes train and test images of the old one.
            Defaults to 0.
        digits (Sequence[int], optional): Use only these, in the order of their labels: ``digits=(3, 7)`` has the
            classes 0 (a three) and 1. The split is that of all digits. Defaults to None: all ten.
        images_per_class (int, optional): Keep so many images of each class of the split, drawn by ``images_seed``.
            Defaults to None: all.
        images_seed (int): Seed of that draw; the splits stay. Defaults to 0.
        **kwargs: ``pipeline``, ``test_mode``, ``indices`` ... of mmpretrain's BaseDataset.

    Raises:
        ValueError: If ``split`` is not one of these, a ratio leaves a split empty, or a class has fewer images than
            ``images_per_class``.

    Example:
        >>> digits = Digits(split='test')
        >>> len(digits), digits[0]['img'].shape, digits.metainfo['classes'][digits[0]['gt_label']]
        (360, (8, 8, 3), '1')
    """

    METAINFO = {'classes': tuple(str(digit) for digit in range(10))}

    def __init__(
        self,
        split: str = 'train',
        test_ratio: float = 0.2,
        val_ratio: float = 0.2,
        split_seed: int = 0,
        digits: Optional[Sequence[int]] = None,
        images_per_class: Optional[int] = None,
        images_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice('Digits', 'split', split, ('train', 'val', 'test', 'train+val'))
        for name, ratio in (('test_ratio', test_ratio), ('val_ratio', val_ratio)):
            check_number('Digits', name, ratio, 0, 1, low_open=True, high_open=True)
        check_number('Digits', 'split_seed', split_seed, 0, integer=True)
        if images_per_class is not None:
            check_number('Digits', 'images_per_class', images_per_class, 1, integer=True)
        check_number('Digits', 'images_seed', images_seed, 0, integer=True)
        self.images_per_class = images_per_class
        self.images_seed = images_seed
        self.digits = tuple(range(10)) if digits is None else tuple(digits)
        for digit in self.digits:
            check_number('Digits', 'digits', digit, 0, 9, integer=True)
        if not self.digits or len(set(self.digits)) != len(self.digits):
            raise ValueError(f'Digits: expected digits to be distinct and at least one, got {self.digits}.')
        if digits is not None:
            kwargs['metainfo'] = {'classes': tuple(map(str, self.digits)), **(kwargs.get('metainfo') or {})}
        self.split = split
        self.test_ratio = test_ratio
        self.val_ratio = val_ratio
        self.split_seed = split_seed
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return one dict per image of the split, in the order of the original file."""
        images, labels, _ = _kept()
        rest = self._rows()
        chosen = np.sort(rest if self.images_per_class is None else self._few(rest, labels, self.images_per_class))
        return [
            dict(img=images[index], img_shape=(8, 8), ori_shape=(8, 8), gt_label=self.digits.index(labels[index]))
            for index in chosen
            if labels[index] in self.digits
        ]

    def _rows(self) -> np.ndarray:
        """Return the rows of the split; those of the default settings are cached, as scikit-learn is slow to import."""
        _, labels, split = _kept()
        if (self.test_ratio, self.val_ratio, self.split_seed) == (0.2, 0.2, 0):
            return np.flatnonzero(np.isin(split, self.split.split('+')))
        from sklearn.model_selection import train_test_split

        def halves(of: np.ndarray, ratio: float) -> list[np.ndarray]:
            return train_test_split(of, test_size=ratio, random_state=self.split_seed, stratify=labels[of])

        rest, test = halves(np.arange(len(labels)), self.test_ratio)
        if self.split in ('test', 'train+val'):
            return test if self.split == 'test' else rest
        return halves(rest, self.val_ratio)[self.split == 'val']

    def _few(self, rest: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
        rng = np.random.default_rng(self.images_seed)
        kept = []
        for digit in range(10):
            of_digit = np.sort(rest[labels[rest] == digit])
            if digit in self.digits and len(of_digit) < count:
                raise ValueError(
                    f'Digits: expected images_per_class to be at most {len(of_digit)}, the images of the digit {digit} '
                    f'in the split {self.split!r}, got {count}.'
                )
            kept.append(rng.permutation(of_digit)[:count])
        return np.concatenate(kept)

    def extra_repr(self) -> list[str]:
        """Return the split and its settings."""
        ratios = f'test_ratio={self.test_ratio}, val_ratio={self.val_ratio}'
        return [f'Split: \t{self.split} ({ratios}, split_seed={self.split_seed})']


@lru_cache(maxsize=1)
def _kept() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all images, (1797, 8, 8, 3) uint8, labels, (1797,) int64, and the default split of each; cached."""
    with np.load(Path(__file__).with_name('digits.npz')) as file:
        gray = np.rint(file['images'] * (255 / _BRIGHTEST)).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=-1), file['labels'], file['split']
