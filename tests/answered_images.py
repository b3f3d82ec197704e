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
