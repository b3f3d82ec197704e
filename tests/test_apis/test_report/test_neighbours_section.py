"""Which queries are shown."""

import numpy as np

from hybridcls.apis.image_inputs import Item
from hybridcls.apis.report.evaluated_images import EvaluatedImages
from hybridcls.apis.report.neighbours_section import chosen_queries


def images_of(rows):
    labels, predicted, confidence = zip(*rows, strict=True)
    scores = np.full((len(rows), 3), 0.0, np.float32)
    scores[np.arange(len(rows)), predicted] = confidence
    return EvaluatedImages([Item(f'{k}', f'{k}') for k in range(len(rows))], np.array(labels), scores, None)


def test_each_confused_pair_is_shown_before_one_is_shown_twice():
    known = images_of([(0, 1, 0.9), (0, 1, 0.8), (1, 2, 0.7), (0, 0, 0.6), (1, 1, 0.99), (2, 2, 0.4)])
    titles, rows = zip(*chosen_queries(known), strict=True)
    assert rows[0] == [0, 2, 1]
    assert rows[1] == [5, 3, 4]  # the least certain first
    assert titles[0].startswith('Wrong')


def test_without_a_wrong_answer_there_are_uncertain_ones():
    assert [rows for _, rows in chosen_queries(images_of([(0, 0, 0.9), (1, 1, 0.8)]))] == [[1, 0]]
