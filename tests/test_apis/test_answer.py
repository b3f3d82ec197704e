"""Predictions become answers, by hand."""

import numpy as np
import torch
from mmpretrain.structures import DataSample

from hybridcls.apis.answer import answers_of
from hybridcls.apis.image_inputs import Item


def sample(scores, **fields):
    made = DataSample().set_pred_score(scores).set_pred_label(int(np.argmax(scores)))
    for name, value in fields.items():
        made.set_field(torch.as_tensor(value), name)
    return made


def test_an_answer_by_hand():
    samples = [sample([0.1, 0.7, 0.2], total=0.8), sample([0.5, 0.0, 0.5], total=0.1)]
    first, second = answers_of(samples, [Item('a.png', 'a.png'), Item(None, b'')], 'xyz', ['x', None], 2, False)
    assert (first.path, first.class_name, first.label) == ('a.png', 'y', 'x')
    assert first.probability == np.float32(0.7)
    assert [name for name, _ in first.top] == ['y', 'z']
    assert repr(first) == "Answer('a.png': y 0.700, z 0.200, total=0.8)"
    assert (second.class_name, second.probability) == ('x', 0.5)
    assert repr(second).startswith('Answer(x 0.500')


def test_a_head_of_other_classes_has_numbers():
    (answer,) = answers_of([sample([0.9, 0.1])], [Item(None, b'')], ['a', 'b', 'c'], [None], 5, False)
    assert answer.top == (('0', np.float32(0.9)), ('1', np.float32(0.1)))


def test_no_sample_no_answer():
    assert answers_of([], [], 'ab', [], 1, False) == []


def test_labels_of_a_head_without_thresholds_may_be_any_number():
    """mmpretrain's heads of several labels write none."""
    samples = [DataSample().set_pred_score([0.6, 0.7, 0.1]).set_pred_label(labels) for labels in ([0, 1], [], [2])]
    answers = answers_of(samples, [Item('a.png', 'a.png', None)] * 3, ('x', 'y', 'z'), [None] * 3, 2, False)
    assert [one.class_name for one in answers] == ['x|y', '', 'z']
