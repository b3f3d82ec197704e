"""Find the most similar images of an index, without torch."""

from typing import Any, NamedTuple

import numpy as np

from ..embedding_index import EmbeddingIndex, check_same_model

__all__ = ['Neighbour', 'Neighbours']

_ROWS_AT_ONCE = 65536


class Neighbour(NamedTuple):
    """An image of the index.

    Args:
        place (str): Where it is.
        label (str): Its class; ``''`` if none is known.
        similarity (float): Cosine similarity in [-1, 1].
    """

    place: str
    label: str
    similarity: float


class Neighbours:
    """A search in an index of ``hybridcls embed``.

    Args:
        path (str): The index.
        about (dict): What is known of the model that asks: ``digest`` of its weights, perhaps ``preprocessing``.

    Raises:
        ValueError: If the index is empty, or of another model.
    """

    def __init__(self, path: str, about: dict[str, Any]) -> None:
        self._index = EmbeddingIndex(path, 'demo')
        if not len(self._index):
            raise ValueError(f'demo: expected an index with images, and {path} is empty.')
        known = {key: value for key, value in about.items() if value is not None}
        check_same_model('demo', known, str(about.get('checkpoint', 'the model')), self._index.described, path)

    def __len__(self) -> int:
        return len(self._index)

    def find(self, embedding: np.ndarray, k: int = 6) -> list[Neighbour]:
        """Return the ``k`` images most similar to an embedding (D,), the most similar first.

        Raises:
            ValueError: If the index is of another width.
        """
        if len(embedding) != self._index.width:
            raise ValueError(
                f'demo: expected embeddings of {self._index.width} numbers, as {self._index.path} has, got '
                f'{len(embedding)}.'
            )
        query = embedding.astype(np.float64)
        query /= np.linalg.norm(query) or 1.0
        similarity = np.empty(len(self._index))
        for start in range(0, len(self._index), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            vectors = np.asarray(self._index.vectors[rows], np.float64)
            similarity[rows] = vectors @ query / np.maximum(np.linalg.norm(vectors, axis=1), 1e-30)
        best = np.argsort(-similarity, kind='stable')[:k]
        return [
            Neighbour(self._index.located(row), str(self._index.labels[row]), float(similarity[row])) for row in best
        ]
