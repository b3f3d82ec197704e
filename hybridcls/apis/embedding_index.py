"""An index: the embeddings of images in a file, with the identity of their model."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

from hybridcls.checks import listed
from hybridcls.version import __version__

from .index_file import IndexPart, read_index_file, write_index_file

if TYPE_CHECKING:
    from .inferencer import HybridInferencer

__all__ = ['EmbeddingIndex', 'about_model', 'absolute', 'check_same_model', 'compatible_width', 'described', 'resolved']

_FORMAT = 'hybridcls embeddings'
_VERSION = 1
_ROWS_AT_ONCE = 8192


class EmbeddingIndex:
    """The embeddings of images in a file, memory-mapped, so that any number of them opens at once.

    Args:
        path (str | Path): A file of ``hybridcls embed`` or :meth:`write`, or another npz, npy or Parquet file with
            vectors (:func:`~hybridcls.apis.index_file.read_index_file`).
        caller (str): Name that errors start with. Defaults to ``'search'``.

    Attributes:
        path (str): The file.
        about (dict): What the file says of itself: ``checkpoint`` (path), ``digest`` of its weights, ``width``,
            ``preprocessing``, ``amp``, ``inference``, ``classes``, ``folder`` that relative paths start from, and
            perhaps ``threshold``, the similarity below which nothing is a match.
        paths (np.ndarray): Of the images, (N,) strings.
        labels (np.ndarray): Of their classes, (N,) strings; ``''`` where none is known.
        norms (np.ndarray): Norms of the vectors, float32 (N,): with margin heads a measure of the image's quality.
        vectors (np.ndarray): Embeddings as the model gives them, float32 (N, D).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, holds no vectors, or is of a later version.

    Example::

        model = hybridcls.load('work_dirs/full')
        EmbeddingIndex.write('shop.npz', paths, model.embed(paths), labels, about_model(model))
        index = EmbeddingIndex('shop.npz')
        search = IndexSearch([index], k=5)                          # hybridcls.apis.index_search
        search(model.embed('photos/'))
    """

    def __init__(self, path: Union[str, Path], caller: str = 'search') -> None:
        self.path = os.fspath(path)
        (self.paths, self.labels, self.norms, self.vectors), self.about = read_index_file(caller, self.path)
        if self.about.get('version', _VERSION) > _VERSION:
            raise ValueError(
                f'{caller}: expected version {_VERSION} of an index, got {self.about["version"]} in {self.path}. '
                'Update hybridcls.'
            )

    @staticmethod
    def write(
        path: Union[str, Path],
        paths: Sequence[str],
        vectors: np.ndarray,
        labels: Optional[Sequence[str]] = None,
        about: Optional[dict[str, Any]] = None,
    ) -> None:
        """Write the index to a file, atomically.

        Args:
            path (str | Path): Ends in ``.npz`` or ``.parquet``.
            paths (Sequence[str]): N paths, each once.
            vectors (np.ndarray): Embeddings (N, D).
            labels (Sequence[str], optional): Their classes. Defaults to None.
            about (dict, optional): Of :func:`about_model`. Defaults to None: the model is not known.

        Raises:
            ValueError: If the numbers of rows differ, or a path occurs twice.
        """
        labels = [''] * len(paths) if labels is None else labels
        if vectors.ndim != 2 or not len(vectors) == len(paths) == len(labels) == len({*paths}):
            raise ValueError(
                f'EmbeddingIndex: expected N different paths, N labels and vectors (N, D), got {len(paths)} paths '
                f'({len({*paths})} different), {len(labels)} labels and {vectors.shape}.'
            )
        part = IndexPart(paths, labels, np.linalg.norm(vectors, axis=1), vectors)
        write_index_file(path, described(about or {}, vectors.shape[1]), [part], len(paths))

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def width(self) -> int:
        """The dimension D of the embeddings."""
        return self.vectors.shape[1]

    @property
    def described(self) -> dict[str, Any]:
        """The metadata ``about``, with the width of the vectors."""
        return self.about | dict(width=self.width)

    def located(self, row: int) -> str:
        """Return the path of a row's image, resolved against the folder where the index was written."""
        return os.path.join(str(self.about.get('folder', '')), self.paths[row])

    def absolute_paths(self) -> list[str]:
        """Return the absolute paths of all images, which distinguish files of the same name."""
        return [absolute(path, self.about.get('folder', '')) for path in self.paths]

    def parts(self, kept: Optional[np.ndarray] = None) -> Iterator[IndexPart]:
        """Yield the rows in chunks of some thousands.

        Args:
            kept (np.ndarray, optional): Only rows where this is true, bool (N,).
        """
        for start in range(0, len(self), _ROWS_AT_ONCE):
            rows: Any = slice(start, start + _ROWS_AT_ONCE)
            if kept is not None:
                rows = start + np.flatnonzero(kept[rows])
            yield IndexPart(self.paths[rows], self.labels[rows], self.norms[rows], self.vectors[rows])

    def append(self, parts: Iterable[IndexPart], count: int) -> None:
        """Write the file again with more rows at its end, atomically; this object still shows the old ones.

        Args:
            parts (Iterable[IndexPart]): The new rows. Their paths start from the folder of the index.
            count (int): How many they are.
        """

        def all_parts() -> Iterator[IndexPart]:
            yield from self.parts()
            yield from parts

        write_index_file(self.path, self.about, all_parts(), len(self) + count)

    def remove(self, rows: Collection[int]) -> None:
        """Write the file again without some rows, atomically; this object still shows the old ones.

        Raises:
            ValueError: If none would be left.
        """
        kept = np.ones(len(self), bool)
        kept[list(rows)] = False
        if not kept.any():
            raise ValueError(
                f'search: these are all the images of {self.path} ({len(self):,}), and an index without any finds '
                'nothing. Delete the file instead.'
            )
        write_index_file(self.path, self.about, self.parts(kept), int(kept.sum()))


def absolute(path: str, folder: str) -> str:
    """Resolve a path of an index to an absolute one; URLs stay."""
    return path if '://' in path else os.path.abspath(os.path.join(folder, path))


def resolved(paths: Iterable[str]) -> list[str]:
    """Follow links among the folders of absolute paths, so that two ways to a file are one; URLs stay."""
    real: dict[str, str] = {}  # most images have their folder in common
    found = []
    for path in paths:
        folder, name = os.path.split(path)
        if '://' not in path and folder not in real:
            real[folder] = os.path.realpath(folder)
        found.append(path if '://' in path else os.path.join(real[folder], name))
    return found


def described(about: dict[str, Any], width: int) -> dict[str, Any]:
    """Add format, versions, folder and width to the metadata of an index."""
    return dict(format=_FORMAT, version=_VERSION, hybridcls=__version__, folder=os.getcwd()) | about | dict(width=width)


def about_model(model: 'HybridInferencer') -> dict[str, Any]:
    """Return the metadata of a model that an index stores: what is needed to compute the same embeddings again."""
    from hybridcls.engine.checkpoints.calibration_file import digest_of_state

    path = model.checkpoint_path
    return dict(
        checkpoint=os.path.abspath(path) if os.path.exists(path) else path,
        digest=digest_of_state(model.model.state_dict()),
        preprocessing=dict(version=model.preprocessing_version, pipeline=' '.join(repr(model.pipeline).split())),
        amp=model.amp,
        inference=dict(
            precision=model.wanted_settings.precision, token_merging_ratio=model.wanted_settings.token_merging_ratio
        ),
        classes=list(model.classes),
        **(dict(compatible_with=model.compatible_with) if model.compatible_with else {}),
    )


def compatible_width(index: dict[str, Any], queries: dict[str, Any]) -> Optional[int]:
    """Return how many dimensions of a query's embedding an old, backward-compatible index is searched with.

    Args:
        index (dict): ``about`` of the index.
        queries (dict): ``about`` of the queries' model, which may be trained to be backward-compatible
            (:class:`~hybridcls.engine.distillation.BackwardCompatHook`) with that of the index.

    Returns:
        int or None: D of the index; None if the model is not compatible with these weights.

    Example:
        >>> queries = dict(digest='b', width=8, compatible_with=[dict(digest='a', checkpoint='a.pth', width=4)])
        >>> compatible_width(dict(digest='a'), queries), compatible_width(dict(digest='b'), queries)
        (4, None)
    """
    old_models = queries.get('compatible_with') or ()
    return next((one['width'] for one in old_models if one['digest'] == index.get('digest')), None)


_SAME = {
    'digest': 'the weights',
    'preprocessing': 'the preprocessing',
    'amp': 'the precision (--amp)',
    'inference': 'the key inference of the config (precision, token_merging_ratio)',
    'width': 'the width of the embeddings',
}


def check_same_model(caller: str, first: dict[str, Any], of_first: str, second: dict[str, Any], of_second: str) -> None:
    """Raise unless two sets of embeddings are comparable, as far as their metadata tell.

    Args:
        caller (str): Name that errors start with.
        first (dict): ``about`` of one.
        of_first (str): What it is of, for the message.
        second (dict): Of the other.
        of_second (str): What that is of.

    Raises:
        ValueError: If they are of other weights, preprocessing, precision or width.
    """
    other = [what for key, what in _SAME.items() if key in first and key in second and first[key] != second[key]]
    if not other:
        return
    models = [f'{where} is of {about.get("checkpoint", "an unknown model")} (width {about.get("width", "unknown")})'
              for about, where in ((first, of_first), (second, of_second))]  # fmt: skip
    raise ValueError(
        f'{caller}: expected embeddings of one model, but {listed(other)} differ: {"; ".join(models)}. Embed the '
        'images of both with the same checkpoint.'
    )
