"""Thresholds of classes: given, fitted, and from a checkpoint."""

import pytest
import torch

from hybridcls.functional.multilabel import f1_thresholds, precision_thresholds
from hybridcls.models.modules.class_thresholds import ClassThresholds

SCORES = torch.tensor([[0.9, 0.2, 0.1], [0.8, 0.7, 0.4], [0.6, 0.3, 0.6], [0.1, 0.1, 0.9]])
TARGETS = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0]])
NAMES = ('cat', 'dog', 'emu')


def fitted(thresholds):
    module = ClassThresholds('Head', 3, thresholds)
    return module, module.fit(SCORES, TARGETS, NAMES)


def test_the_largest_f1():
    module, said = fitted('f1')
    torch.testing.assert_close(module.values, torch.tensor([*f1_thresholds(SCORES, TARGETS).thresholds[:2], 0.5]))
    assert said.endswith('mean of F1 is 73.33 %, of precision 58.33 %, of recall 100.00 %; without positives, so that '
                         'their thresholds stay: emu')  # fmt: skip


def test_a_precision():
    module, said = fitted(dict(precision=0.8))
    expected = precision_thresholds(SCORES, TARGETS, 0.8).thresholds[:2]
    torch.testing.assert_close(module.values[:2], expected)
    assert 'precision 0.8 is not reached by dog; without positives' in said


def test_without_positives_all_stay():
    module = ClassThresholds('Head', 3, 'f1')
    assert module.fit(SCORES, torch.zeros(4, 3), NAMES).startswith('no class has a positive')
    assert module.values.tolist() == [0.5] * 3


def test_a_checkpoint_gives_them_unless_they_are_written():
    state = fitted('f1')[0].state_dict()
    for thresholds in (None, 'f1'):
        module = ClassThresholds('Head', 3, thresholds)
        module.load_state_dict(state)
        assert torch.equal(module.values, state['values'])
    for thresholds, expected in ((0.25, [0.25] * 3), ([0.0, 0.5, 1.0], [0.0, 0.5, 1.0])):
        module = ClassThresholds('Head', 3, thresholds)
        module.load_state_dict(state)
        assert module.values.tolist() == expected
        assert not module.state_dict()


@pytest.mark.parametrize(
    ('thresholds', 'message'),
    [
        ('best', "expected thresholds to be one of .*'f1'"),
        (dict(precision=0), r'expected precision in \(0, 1\]'),
        (1.5, r'expected thresholds in \[0, 1\]'),
        ([0.5], 'expected thresholds to have num_classes=3 numbers'),
    ],
)
def test_what_does_not_work_is_named(thresholds, message):
    with pytest.raises(ValueError, match=message):
        ClassThresholds('Head', 3, thresholds)
