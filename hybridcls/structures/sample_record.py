"""A file with the training's record of each of its images."""

import io
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, Union
from zipfile import BadZipFile

import numpy as np

__all__ = ['SAMPLE_RECORD_FILE', 'SampleRecord']

SAMPLE_RECORD_FILE = 'sample_record.npz'
_FORMAT = 'hybridcls sample record'
_VERSION = 1


@dataclass
class SampleRecord:
    """The training's record of its images: N images, E recorded epochs, C classes.

    Values are those of the training itself: of augmented views, by the weights of that moment, the mean over the views
    of an image in an epoch. An image that an epoch did not show is NaN there, and -1 in integers. A margin is the
    logit of the image's label minus the largest other logit: negative where the model says another class.

    Args:
        paths (list[str]): Of the images, absolute; in memory ``#0``, ``#1``, ...
        labels (np.ndarray): Class numbers, int32 (N,).
        classes (list[str]): The names of the classes.
        root (str): The folder that the dataset reads its images from; ``''`` in memory.
        epochs (np.ndarray): Which epochs are kept, int32 (E,), from 0.
        loss (np.ndarray): Cross entropy of the label in nats, float16 (E, N); ``exp(-loss)`` is its probability.
        margin (np.ndarray): float16 (E, N).
        other (np.ndarray): The class with the largest other logit, int32 (E, N).
        seen (np.ndarray): In how many epochs each image was recorded, of all epochs and not only those kept, int32
            (N,).
        means (dict[str, np.ndarray]): Means over all these epochs, float32 (N,): ``loss``, ``margin``, and
            ``right``, the share of epochs in which the model said the label.
        vacuity (np.ndarray, optional): Of an evidential head, in (0, 1], float16 (E, N).
        subcenter (np.ndarray, optional): Of a margin head with several: the nearest sub-center of the label, int8
            (E, N).
        about (dict): What else there is to say, in JSON's types: ``head``, ``skipped`` (views with soft labels).
    """

    paths: list[str]
    labels: np.ndarray
    classes: list[str]
    root: str
    epochs: np.ndarray
    loss: np.ndarray
    margin: np.ndarray
    other: np.ndarray
    seen: np.ndarray
    means: dict[str, np.ndarray]
    vacuity: Optional[np.ndarray] = None
    subcenter: Optional[np.ndarray] = None
    about: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def probability(self) -> np.ndarray:
        """The probability of the label, float32 (E, N)."""
        return np.exp(-self.loss.astype(np.float32))

    def part(self, rows: np.ndarray) -> 'SampleRecord':
        """Return the record of a subset of the images."""
        by_image = ('labels', 'seen')
        by_epoch = ('loss', 'margin', 'other', *(name for name in _OPTIONAL if getattr(self, name) is not None))
        return replace(
            self,
            paths=[self.paths[row] for row in rows],
            means={name: values[rows] for name, values in self.means.items()},
            **{name: getattr(self, name)[rows] for name in by_image},
            **{name: getattr(self, name)[:, rows] for name in by_epoch},
        )

    def content(self) -> bytes:
        """Return the file's content."""
        file = io.BytesIO()
        arrays: dict[str, Any] = {
            name: getattr(self, name) for name in (*_ARRAYS, *_OPTIONAL) if getattr(self, name) is not None
        }
        arrays |= {f'mean_{name}': values for name, values in self.means.items()}
        texts = dict(paths=self.paths, classes=self.classes, root=[self.root])
        texts['about'] = [json.dumps(dict(self.about, format=_FORMAT, version=_VERSION))]
        np.savez(file, **arrays, **{name: _packed(values) for name, values in texts.items()})  # type: ignore[arg-type]
        return file.getvalue()

    @classmethod
    def read(cls, path: Union[str, Path]) -> 'SampleRecord':
        """Read the file.

        Raises:
            ValueError: If it is damaged, another file, or of a later version.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
            about = json.loads(_unpacked(found.pop('about'))[0])
            version = about.pop('version')
            if about.pop('format') != _FORMAT or version > _VERSION:
                raise ValueError(f'it is {version=} of the format' if version > _VERSION else 'it is another file')
            texts = {name: _unpacked(found.pop(name)) for name in ('paths', 'classes', 'root')}
            means = {name.removeprefix('mean_'): found.pop(name) for name in [*found] if name.startswith('mean_')}
            for values in (found, means):
                values.pop('shadow', None)  # in records of before: a margin that nothing uses any more
            return cls(
                texts['paths'], classes=texts['classes'], root=texts['root'][0], means=means, about=about, **found
            )
        except (OSError, ValueError, KeyError, TypeError, EOFError, IndexError, BadZipFile) as error:
            raise ValueError(
                f'SampleRecord: expected the record of a training (`hybridcls train --record`), got {os.fspath(path)}, '
                f'which cannot be read ({type(error).__name__}: {error}).'
            ) from error


_ARRAYS = ('labels', 'epochs', 'loss', 'margin', 'other', 'seen')
_OPTIONAL = ('vacuity', 'subcenter')


def _packed(texts: list[str]) -> np.ndarray:
    """Encode strings as bytes, since NumPy's string arrays give each the size of the longest."""
    return np.frombuffer('\0'.join(texts).encode('utf8', 'surrogateescape'), np.uint8)


def _unpacked(array: np.ndarray) -> list[str]:
    return array.tobytes().decode('utf8', 'surrogateescape').split('\0')
