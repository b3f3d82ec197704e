"""What a quantization costs: against scikit-learn, torchmetrics, scipy and by hand."""

import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import f1_score
from torchmetrics.functional.classification import multiclass_calibration_error

from hybridcls.apis.artifact.quantization_loss import compare, too_much_lost
from hybridcls.functional.metrics.selective_prediction import coverage_at_risk
from hybridcls.structures import Calibration

IMAGES, CLASSES = 400, 5


def outputs(seed, strength):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (IMAGES,), generator=torch.Generator().manual_seed(9))
    logits = torch.randn(IMAGES, CLASSES, generator=draw)
    logits[torch.arange(IMAGES), labels] += strength
    return dict(probabilities=(strength * logits).softmax(1)), labels  # this is calibrated


BEFORE, LABELS = outputs(0, 2.5)
AFTER, _ = outputs(1, 2.0)


def calibration(threshold=0.6, temperature=2.0):
    return Calibration(
        'a.pth', '', [str(number) for number in range(CLASSES)], dict(kind='temperature', temperature=temperature),
        risk=dict(risk=0.1, confidence=0.95, threshold=threshold),
    )  # fmt: skip


def by_name(comparisons):
    return {one.name: one for one in comparisons}


def test_accuracy_and_ece_before_and_after():
    found = by_name(compare(BEFORE, AFTER, LABELS))
    for when, of in (('before', BEFORE), ('after', AFTER)):
        scores = of['probabilities']
        right = (scores.argmax(1) == LABELS).sum().item()
        accuracy = getattr(found['accuracy/top1'], when)
        assert accuracy.value == pytest.approx(100 * right / IMAGES)
        ends = binomtest(right, IMAGES).proportion_ci(0.95, 'exact')
        assert accuracy[1:] == pytest.approx((100 * ends.low, 100 * ends.high))
        expected = multiclass_calibration_error(scores, LABELS, CLASSES, n_bins=15)
        assert getattr(found['calibration/ece'], when).value == pytest.approx(100 * expected.item(), rel=1e-4)
    lost = found['accuracy/top1'].lost
    assert lost.value == pytest.approx(found['accuracy/top1'].before.value - found['accuracy/top1'].after.value)
    assert found['calibration/ece'].lost.value == pytest.approx(
        found['calibration/ece'].after.value - found['calibration/ece'].before.value
    )


def test_the_interval_of_what_is_lost_is_that_of_the_difference():
    """Of pairs: the standard error is that of +1, 0 and -1 of each image, not of two independent shares."""
    lost = by_name(compare(BEFORE, AFTER, LABELS))['accuracy/top1'].lost
    signs = [(of['probabilities'].argmax(1) == LABELS).double() for of in (BEFORE, AFTER)]
    error = 100 * (signs[0] - signs[1]).std().item() / IMAGES**0.5
    assert lost.high - lost.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert lost.low < lost.value < lost.high


def test_the_calibration_of_before_is_done_to_both():
    found = by_name(compare(BEFORE, AFTER, LABELS, calibration()))
    for when, of in (('before', BEFORE), ('after', AFTER)):
        scores = (of['probabilities'].double().log() / 2).softmax(1)  # the temperature
        answered = scores.amax(1) >= 0.6
        assert getattr(found['answered'], when).value == pytest.approx(100 * answered.double().mean().item())
        wrong = (scores.argmax(1) != LABELS)[answered].double().mean().item()
        assert getattr(found['error_of_answered'], when).value == pytest.approx(100 * wrong)
        expected = multiclass_calibration_error(scores.float(), LABELS, CLASSES, n_bins=15)
        assert getattr(found['calibration/ece'], when).value == pytest.approx(100 * expected.item(), rel=1e-3)


def test_without_a_threshold_coverage_at_five_percent_error_is_shown_alone():
    found = by_name(compare(BEFORE, AFTER, LABELS))['coverage']
    scores, wrong = BEFORE['probabilities'].amax(1), BEFORE['probabilities'].argmax(1) != LABELS
    assert found.before.value == pytest.approx(100 * coverage_at_risk(-scores, wrong, 0.05).item())
    coarse = dict(probabilities=(BEFORE['probabilities'] * 10).round() / 10)  # many are equal, and go together
    scores, wrong = coarse['probabilities'].max(1).values, coarse['probabilities'].argmax(1) != LABELS
    tied = by_name(compare(coarse, AFTER, LABELS))['coverage'].before
    assert tied.value == pytest.approx(100 * coverage_at_risk(-scores, wrong, 0.05).item())
    assert found.before.low < found.before.value < found.before.high
    assert found.counts == ''
    assert too_much_lost([found], -100.0) == []


def test_images_of_other_classes_count_as_answered_wrongly_and_for_nothing_else():
    labels = LABELS.clone()
    labels[:100] = -1
    found = by_name(compare(BEFORE, AFTER, labels, calibration()))
    rest = by_name(compare(*({'probabilities': of['probabilities'][100:]} for of in (BEFORE, AFTER)), labels[100:]))
    assert found['accuracy/top1'].before == rest['accuracy/top1'].before
    assert found['accuracy/top1'].images == 300
    assert found['answered'].images == 400
    assert found['error_of_answered'].before.value > by_name(
        compare(BEFORE, AFTER, LABELS, calibration())
    )['error_of_answered'].before.value  # fmt: skip


def test_nothing_changed():
    found = compare(BEFORE, BEFORE, LABELS, calibration())
    assert all(one.lost.value == 0 for one in found)
    assert too_much_lost(found, 0.0) == []
    assert 'lost 0.00 points' in str(found[0])


def test_what_counts_as_too_much():
    found = by_name(compare(BEFORE, AFTER, LABELS))
    lost = found['accuracy/top1'].lost
    assert lost.value > 0
    assert [one.name for one in too_much_lost(list(found.values()), lost.value)] == []
    assert [one.name for one in too_much_lost(list(found.values()), lost.value - 0.01)] == ['accuracy/top1']
    sure = dict(probabilities=(BEFORE['probabilities'].log() * 20).softmax(1))  # too sure of the same classes
    worse = by_name(compare(BEFORE, sure, LABELS))
    ece = worse['calibration/ece'].lost
    assert 1 < ece.low < ece.value
    assert [one.name for one in too_much_lost(list(worse.values()), ece.low - 0.1)] == ['calibration/ece']
    assert too_much_lost(list(worse.values()), ece.low + 0.1) == []  # although the value is above


def test_several_labels_an_image():
    draw = torch.Generator().manual_seed(3)
    labels = torch.rand(300, 4, generator=draw) < 0.3
    before = dict(probabilities=(labels * 0.4 + torch.rand(300, 4, generator=draw) * 0.6))
    after = dict(probabilities=before['probabilities'] * 0.7)
    thresholds = torch.tensor([0.4, 0.5, 0.5, 0.6], dtype=torch.float64)
    found = by_name(compare(before, after, labels, None, thresholds))
    for when, of in (('before', before), ('after', after)):
        expected = f1_score(labels.numpy(), (of['probabilities'] >= thresholds).numpy(), average='micro')
        assert getattr(found['multi-label/f1_micro'], when).value == pytest.approx(100 * expected)
        flat, truth = of['probabilities'].flatten(), labels.flatten().double()
        gaps = [
            (rows.double().mean() * (truth[rows].mean() - flat[rows].double().mean())).abs().item()
            for number in range(15)
            if (rows := (flat >= number / 15) & (flat < (number + 1) / 15)).any()
        ]
        assert getattr(found['calibration/ece'], when).value == pytest.approx(100 * sum(gaps), rel=1e-4)
    assert found['multi-label/f1_micro'] in too_much_lost(list(found.values()), 1.0)


def test_embeddings_alone_are_judged_by_their_neighbours():
    labels = torch.arange(60) % 3
    around = torch.eye(3)[labels] + 0.05 * torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    (found,) = compare(dict(embedding=around), dict(embedding=around.roll(1, 0)), labels)
    assert found.before.value == 100
    (lost,) = compare(dict(embedding=around), dict(embedding=torch.randn(60, 3)), labels)
    assert found.after.value == 100  # all moved by one class: neighbours are still of one class
    assert lost.after.value < 60
