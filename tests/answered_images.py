"""Answers of a model as a report evaluates them, written by hand."""

import numpy as np

from hybridcls.apis.image_inputs import Item
from hybridcls.apis.report.evaluated_images import EvaluatedImages


def answered(labels, predicted, classes=2, surest=0.9, embeddings=None, **more):
    """Images of some labels, each answered with a class and the probability ``surest`` (or one each)."""
    scores = np.zeros((len(labels), classes), np.float32)
    scores[np.arange(len(labels)), predicted] = surest
    scores += (1 - scores.sum(1, keepdims=True)) / classes
    items = [Item(f'{number}.png', f'{number}.png') for number in range(len(labels))]
    return EvaluatedImages(items, np.array(labels), scores, embeddings, **more)


def answered_labels(count):
    """Images of several of four labels each, the last of which none has; a label is answered from 0.5 on."""
    rng = np.random.default_rng(0)
    truths = rng.random((count, 4)) < [0.5, 0.3, 0.08, 0]
    images = answered([0] * count, [0] * count, classes=4)
    images.scores = np.clip(0.3 + 0.4 * truths + rng.normal(0, 0.25, truths.shape), 0.001, 0.999).astype(np.float32)
    images.scores += 1e-6 * rng.random(images.scores.shape, np.float32)  # no two are equal
    images.truths, images.answers = truths, images.scores >= 0.5
    return images
