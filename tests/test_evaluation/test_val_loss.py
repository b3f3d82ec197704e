"""ValLoss: means over images of the losses of validation batches, against means by hand."""

import math

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample

from hybridcls.evaluation import ValLoss
from hybridcls.registry import METRICS


def test_the_mean_is_over_images_not_over_batches():
    per_image = torch.rand(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    metric = ValLoss()
    for batch in per_image.split(4):  # 4, 4, 2
        metric.process(None, [dict(val_losses=dict(loss=batch.mean()))] * len(batch))
    assert metric.evaluate(10) == {'val/loss': pytest.approx(per_image.mean().item())}


def test_total_of_parts_equals_that_of_training():
    metric = ValLoss()
    metric.process(None, [dict(val_losses=dict(loss_ce=torch.tensor(2.0), kl_loss=torch.tensor(0.5), ece=9.0))] * 2)
    assert metric.evaluate(2) == {'val/loss': 2.5, 'val/loss_ce': 2.0, 'val/kl_loss': 0.5, 'val/ece': 9.0}


def test_part_missing_in_some_batches_is_averaged_over_the_others():
    metric = ValLoss()
    metric.process(None, [dict(val_losses=dict(loss=1.0, extra=4.0))])
    metric.process(None, [dict(val_losses=dict(loss=3.0))])
    assert metric.evaluate(2) == {'val/loss': 2.0, 'val/extra': 4.0}


def test_padded_samples_are_dropped():
    metric = ValLoss()
    metric.process(None, [dict(val_losses=dict(loss=1.0))] * 2)
    metric.process(None, [dict(val_losses=dict(loss=100.0))])
    assert metric.evaluate(size=2) == {'val/loss': 1.0}


def test_samples_go_through_mmengines_evaluator():
    losses = dict(loss=torch.tensor(1.5))
    samples = [DataSample(), DataSample()]
    for sample in samples:
        sample.set_field(losses, 'val_losses')
    evaluator = Evaluator(METRICS.build(dict(type='hybridcls.ValLoss')))
    evaluator.process(samples)
    assert evaluator.evaluate(2) == {'val/loss': 1.5}


def test_samples_without_losses_have_no_result():
    metric = ValLoss()
    metric.process(None, [dict(pred_label=torch.tensor([1]))] * 3)
    assert metric.evaluate(3) == {}


def test_nan_is_shown():
    metric = ValLoss()
    metric.process(None, [dict(val_losses=dict(loss=float('nan')))])
    assert math.isnan(metric.evaluate(1)['val/loss'])
