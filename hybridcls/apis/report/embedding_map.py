"""A two-dimensional map of the embeddings, in which similar images lie close together."""

from typing import Any, Optional

import numpy as np

from .evaluated_images import EvaluatedImages

__all__ = ['embedding_places', 'spread_places']

MOST = 1500
_PICTURES = 60


def embedding_places(images: EvaluatedImages, seed: int = 0) -> Optional[tuple[np.ndarray, np.ndarray]]:
    """Project normalized embeddings to a plane by t-SNE (scikit-learn).

    Args:
        images (EvaluatedImages): Of more than 1,500, so many are drawn.
        seed (int): Of the draw and of t-SNE. Defaults to 0.

    Returns:
        tuple[np.ndarray, np.ndarray]: Positions of the images that were drawn (n,), and their places (n, 2) in [0, 1];
        None without embeddings, or of fewer than 5 images.
    """
    if images.embeddings is None or len(images) < 5:
        return None
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(images))[:MOST])
    vectors: Any = images.embeddings[chosen].astype(np.float64)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    if vectors.shape[1] > 50:  # as its authors do; by the exact singular vectors
        centred = vectors - vectors.mean(0)
        vectors = centred @ np.linalg.svd(centred, full_matrices=False)[2][:50].T
    with threadpool_limits(1):  # on a busy machine, threads that wait for each other take minutes
        places = TSNE(
            perplexity=min(30.0, (len(chosen) - 1) / 3), init='pca', random_state=seed, max_iter=500
        ).fit_transform(vectors)
    span = np.maximum(np.ptp(places, axis=0), 1e-9)
    return chosen, (places - places.min(0)) / span


def spread_places(places: np.ndarray, count: int = _PICTURES) -> np.ndarray:
    """Choose positions far from each other by farthest-point sampling, for pictures on the map."""
    chosen = [int(np.argmin(((places - 0.5) ** 2).sum(1)))]
    distances = ((places - places[chosen[0]]) ** 2).sum(1)
    while len(chosen) < min(count, len(places)):
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, ((places - places[chosen[-1]]) ** 2).sum(1))
    return np.array(chosen)
