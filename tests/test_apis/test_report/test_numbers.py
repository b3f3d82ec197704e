"""Numbers of a report by hand."""

import numpy as np
import pytest

from hybridcls.apis.image_inputs import Item
from hybridcls.apis.report.evaluated_images import EvaluatedImages
from hybridcls.apis.report.numbers import headline, rejection_numbers, reliability, risk_curve


def images(scores, labels, **uncertainties):
    items = [Item(f'{k}.png', f'{k}.png') for k in range(len(labels))]
    values = {name: np.asarray(array, float) for name, array in uncertainties.items()}
    return EvaluatedImages(items, np.array(labels), np.array(scores, np.float32), None, values)


def test_headline_by_hand():
    found = images([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]], [0, 0, 1, 1])
    rows = {row['key']: row for row in headline(found, ['a', 'b'])}
    assert rows['accuracy/top1']['value'] == 75
    assert rows['accuracy/top1']['low'] == pytest.approx(19.4, abs=0.1)  # Clopper-Pearson of 3 of 4
    nll = -np.log([0.9, 0.6, 0.8, 0.3]).mean()
    assert rows['calibration/nll']['value'] == pytest.approx(nll, abs=1e-6)
    assert 'accuracy/top5' not in rows


def test_curves_by_hand():
    found = images([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]], [0, 0, 1, 1])
    bins = reliability(found, bins=2)
    assert bins['images'] == [4]
    assert bins['right'] == [0.75]
    curve = risk_curve(found)
    assert curve['coverage'] == [0.25, 0.5, 0.75, 1]
    assert curve['risk'] == pytest.approx([0, 0, 1 / 3, 0.25])


def test_the_best_score_for_an_unknown_set_comes_first():
    known = images([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [0, 0, 1], vacuity=[0.1, 0.2, 0.1])
    unknown = images([[0.95, 0.05], [0.5, 0.5]], [-1, -1], vacuity=[0.9, 0.8])
    rows = rejection_numbers(known, unknown, ['a', 'b'])
    assert rows[0]['score'] == 'vacuity'
    assert rows[0]['auroc'] == 100
    assert rows[-1]['auroc'] == 50
