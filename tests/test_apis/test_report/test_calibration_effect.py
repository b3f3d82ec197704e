"""Before and after calibration, beside the metrics of a test."""

import numpy as np
import pytest
import torch

from hybridcls.apis.image_inputs import Item
from hybridcls.apis.image_sketch import image_sketch
from hybridcls.apis.report.calibration_effect import calibration_effect
from hybridcls.apis.report.calibration_section import calibration_section
from hybridcls.apis.report.evaluated_images import EvaluatedImages
from hybridcls.apis.report.numbers import of_metric
from hybridcls.evaluation import CalibrationMetric, SelectiveMetric
from hybridcls.functional.calibration import apply_scaling
from hybridcls.structures import Calibration


def images_of(temperature, count=400, seed=0):
    """Images whose scores are those of a true model, divided by a temperature before the softmax."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 4, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    scores = (logits / temperature).softmax(1)
    items = [Item(f'{k}.png', f'/nowhere/{k}.png') for k in range(count)]
    return EvaluatedImages(items, labels.numpy(), scores.numpy(), None)


def by_key(effect):
    return {row['key'].rpartition('/')[2]: row for row in effect.rows}


def test_numbers_are_those_of_the_metrics():
    images = images_of(0.4)
    found = by_key(calibration_effect(images))
    expected = of_metric(CalibrationMetric(confidence=0.95), images, 'abcd')
    expected |= of_metric(SelectiveMetric(risks=(0.05,), coverages=(), confidence=0.95), images, 'abcd')
    for key, row in found.items():
        name = next(name for name in expected if name.endswith(key))
        assert row['before']['value'] == pytest.approx(expected[name], abs=1e-5)
        assert row['before']['low'] == pytest.approx(expected[f'{name}_low'], abs=1e-5)
        assert row['before']['high'] == pytest.approx(expected[f'{name}_high'], abs=1e-5)


def test_a_temperature_is_fitted_on_other_images():
    images = images_of(0.4)
    effect = calibration_effect(images)
    assert effect.kind == 'cross-validated'
    *folds, of_all = effect.temperatures
    assert len(folds) == 5
    assert len({*folds}) == 5  # each by other images
    assert of_all == pytest.approx(1 / 0.4, rel=0.2)
    found = by_key(effect)
    assert found['nll']['difference']['high'] < 0
    assert found['ece']['after']['value'] < found['ece']['before']['value']
    section = calibration_section(effect, 'a b.pth', 'data')
    assert any("hybridcls calibrate 'a b.pth' --data data" in text for text in section.says)
    assert '(the interval excludes 0)' in ' '.join(section.says)
    assert 'no clear gain' in ' '.join(calibration_section(calibration_effect(images_of(1.0)), 'a', 'b').says)


def test_no_image_is_calibrated_by_a_fit_on_itself():
    images = images_of(1.0, count=60)
    effect = calibration_effect(images)
    scaling = dict(kind='temperature', temperature=effect.temperatures[-1])
    scores = apply_scaling(scaling, torch.from_numpy(images.scores)).numpy()
    by_itself = -np.log(scores[np.arange(60), images.labels].astype(float)).mean()
    before, after = (by_key(effect)['nll'][part]['value'] for part in ('before', 'after'))
    assert by_itself < before < after  # a fit on the images themselves cannot lose


def test_a_calibration_that_was_applied(tmp_path):
    raw = images_of(0.4)
    items = []
    for number, item in enumerate(raw.items):
        (tmp_path / item.path).write_bytes(b'%d' % number)
        items.append(Item(item.path, str(tmp_path / item.path)))
    scaling = dict(kind='temperature', temperature=2.5)
    after = apply_scaling(scaling, torch.from_numpy(raw.scores)).numpy()
    images = EvaluatedImages(items, raw.labels, after, None, uncalibrated=raw.scores)
    calibration = Calibration(
        'a', 'b', list('abcd'), scaling, risk=dict(risk=0.2, confidence=0.9, threshold=0.7),
        sets=dict(alpha=0.1, threshold=0.2), images=40, data=dict(source='x', **image_sketch(items[:40])),
    )  # fmt: skip
    effect = calibration_effect(images, calibration)
    assert effect.kind == 'applied'
    assert effect.risk == 0.2
    assert by_key(effect)['nll']['before']['value'] == pytest.approx(
        by_key(calibration_effect(raw))['nll']['before']['value']
    )
    answered = after.max(1) >= 0.7
    wrong = after.argmax(1) != raw.labels
    assert effect.threshold['answered']['value'] == answered.mean()
    assert effect.threshold['errors']['value'] == pytest.approx(wrong[answered].mean())
    sets = after >= 0.2
    sets[np.arange(400), after.argmax(1)] = True
    assert effect.sets['missed']['value'] == pytest.approx(1 - sets[np.arange(400), raw.labels].mean())
    assert effect.sets['size'] == pytest.approx(sets.sum(1).mean())
    assert effect.overlap == pytest.approx(0.1)
    says = ' '.join(calibration_section(effect, 'a', 'd', calibration).says)
    assert 'Warning: The calibration was fitted on 10 % of the images of this report' in says
    unrecorded = Calibration('a', 'b', list('abcd'), scaling)
    says = ' '.join(calibration_section(calibration_effect(images, unrecorded), 'a', 'd', unrecorded).says)
    assert 'is not recorded' in says
    thresholds = Calibration('a', 'b', list('abcd'), dict(kind='none'))
    assert calibration_effect(images, thresholds).why.endswith('sets thresholds and does not change the probabilities.')


def test_where_no_temperature_can_be_fitted_it_is_said():
    effect = calibration_effect(images_of(1.0, count=12))
    assert effect.kind == 'none'
    assert effect.after is None
    assert 'at least 20 images are needed' in calibration_section(effect, 'a', 'b').says[1]
