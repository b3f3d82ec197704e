"""Calibrated probabilities, answers and sets on predictions of any head, the same for whoever asks the model."""

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from scipy.special import softmax

from hybridcls.models.classifiers.calibrated_predictions import attach_calibration, calibrate_predictions
from hybridcls.registry import MODELS
from hybridcls.structures import Calibration

CLASSES = ['cat', 'dog', 'emu']
HEADS = {
    'linear': dict(type='LinearHead'),
    'margin': dict(type='ArcFaceHead'),
    'evidential': dict(type='EvidentialHead'),
    'several': dict(type='MultiHead', main='b', heads=dict(a=dict(type='LinearHead'), b=dict(type='CosFaceHead'))),
}


def calibration(**more):
    given = dict(scaling=dict(kind='temperature', temperature=2.0), preprocessing_version=2)
    return Calibration('a.pth', '0', CLASSES, **{**given, **more})


def model_with(head):
    torch.manual_seed(0)
    cfg = dict(
        type='HybridClassifier', backbone=dict(type='TimmStream', model_name='test_resnet', output='vector'),
        head=dict(head, num_classes=3),
    )  # fmt: skip
    return MODELS.build(cfg).eval()


@pytest.mark.parametrize('name', HEADS)
def test_a_temperature_divides_the_logits_of_every_head(name):
    model = model_with(HEADS[name])
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        logits = model(images).double().numpy()
        before = model(images, mode='predict')
        remove = attach_calibration(model, calibration(), 2)
        after = model(images, mode='predict')
        np.testing.assert_allclose(model(images).double().numpy(), logits)  # the model itself is as it was
        remove()
        again = model(images, mode='predict')
    expected = softmax(logits / 2, 1)
    np.testing.assert_allclose(torch.stack([one.pred_score for one in after]).numpy(), expected, atol=1e-6)
    assert [one.pred_label.tolist() for one in after] == [[row] for row in expected.argmax(1)]
    assert all(bool((one.pred_score == other.pred_score).all()) for one, other in zip(before, again, strict=False))
    if name == 'several':
        assert all(bool((one.heads.b.pred_score == one.pred_score).all()) for one in after)
        assert all(
            bool((one.heads.a.pred_score == was.heads.a.pred_score).all())
            for one, was in zip(after, before, strict=False)
        )
    if name == 'evidential':  # what it has not seen is not what a temperature is about
        assert [one.vacuity for one in after] == [one.vacuity for one in before]


def test_answers_and_sets():
    scores = [[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.1, 0.1, 0.8]]
    samples = [DataSample().set_pred_score(torch.tensor(row)).set_pred_label(0) for row in scores]
    given = calibration(
        scaling=dict(kind='none'), risk=dict(threshold=float(torch.tensor(0.7))), sets=dict(threshold=0.3)
    )
    calibrate_predictions(samples, given)
    assert [one.answered.tolist() for one in samples] == [[True], [False], [True]]
    assert [one.prediction_set.tolist() for one in samples] == [[0], [0, 1], [2]]
    given = calibration(scaling=dict(kind='none'), sets=dict(threshold=0.9))
    calibrate_predictions(samples, given)
    assert [one.prediction_set.tolist() for one in samples] == [[0], [0], [2]]  # never empty
    assert list(calibrate_predictions([], given)) == []


def test_what_it_does_not_fit_is_refused():
    two = [DataSample().set_pred_score([0.5, 0.5])]
    with pytest.raises(ValueError, match='expected 3 scores an image, as it was made for, got 2'):
        calibrate_predictions(two, calibration())
    two[0].set_field(torch.ones(2), 'thresholds', dtype=torch.Tensor)
    for samples in (two, [DataSample()]):
        with pytest.raises(ValueError, match=r'expected predictions of one class an image.*--no-calibration'):
            calibrate_predictions(samples, calibration())


THRESHOLD = dict(risk=0.1, confidence=0.9, threshold=0.5)


@pytest.mark.parametrize(
    ('made_for', 'said'),
    [
        (dict(precision='float16'), 'computed in float16, and these are in float32'),
        (dict(img_size=[64, 32]), 'computed from images of 64x32 pixels, and these have 32x32'),
        (dict(preprocessing_version=1), 'computed with preprocessing version 1, and here it is 2'),
        (dict(token_merging_ratio=0.1), 'from tokens merged by 0.1, and here they are as the model merges them'),
    ],
)
def test_a_guarantee_of_other_scores_is_refused(made_for, said, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'hybridcls.models.classifiers.calibrated_predictions.print_log', lambda text, *_, **__: lines.append(text)
    )
    model = model_with(HEADS['linear'])
    images = torch.rand(1, 3, 32, 32)
    remove = attach_calibration(model, calibration(**made_for), 2)
    for _ in range(2):
        model(images, mode='predict')
    assert len(lines) == 1
    assert said in lines[0]
    remove()

    def ask():
        attach_calibration(model, calibration(risk=THRESHOLD, **made_for), 2)
        model(images, mode='predict')

    with pytest.raises(ValueError, match=f'{said}. Its thresholds guarantee nothing here'):
        ask()


def test_the_size_of_every_batch_is_compared():
    """Batches of images that are not cropped to one size: the first one says nothing of the next."""
    model = model_with(HEADS['linear'])
    attach_calibration(model, calibration(risk=THRESHOLD, img_size=[32, 32]), 2)
    model(torch.rand(1, 3, 32, 32), mode='predict')
    with pytest.raises(ValueError, match='images of 32x32 pixels, and these have 32x64'):
        model(torch.rand(1, 3, 32, 64), mode='predict')


def test_the_precision_of_autocast_is_seen():
    model = model_with(HEADS['linear'])
    attach_calibration(model, calibration(risk=THRESHOLD, precision='bfloat16', img_size=[32, 32]), 2)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert model(torch.rand(1, 3, 32, 32), mode='predict')[0].answered.shape == (1,)
