"""Votes of neighbours, beside scikit-learn's."""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from hybridcls.apis.audit.label_neighbours import neighbour_votes


def test_votes_are_those_of_the_other_images():
    rng = np.random.default_rng(0)
    embeddings, labels = rng.normal(size=(40, 6)), rng.integers(0, 3, 40)
    votes = neighbour_votes(embeddings, labels, 3, k=5)
    index = NearestNeighbors(n_neighbors=5, metric='cosine').fit(embeddings).kneighbors(return_distance=False)
    expected = np.stack([(labels[index] == one).mean(1) for one in range(3)], 1)
    np.testing.assert_allclose(votes, expected, rtol=1e-6)


def test_few_images_a_class():
    votes = neighbour_votes(np.eye(5) + 0.1, np.array([0, 0, 1, 1, 2]), 3)
    assert np.isnan(votes[4]).all()  # no other image is of its class
    np.testing.assert_allclose(votes[:4].sum(1), 1, rtol=1e-6)
    assert np.isnan(neighbour_votes(np.ones((1, 2)), np.array([0]), 1)).all()


def test_copies_do_not_vote_for_each_other():
    rng = np.random.default_rng(0)
    embeddings, labels = rng.normal(size=(30, 6)), rng.integers(0, 3, 30)
    twice = np.concatenate([embeddings, embeddings[:1], embeddings[:1]])
    votes = neighbour_votes(twice, np.append(labels, [2, 2]), 3, 5, np.append(np.arange(30), [0, 0]))
    np.testing.assert_allclose(votes[0], neighbour_votes(embeddings, labels, 3, 5)[0])
    np.testing.assert_allclose(votes[30:], votes[[0, 0]])
    assert np.isnan(neighbour_votes(twice[:3], np.array([0, 0, 1]), 2, 1, np.array([0, 0, 1]))).all()
