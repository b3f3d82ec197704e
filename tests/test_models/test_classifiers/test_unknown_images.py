"""Images of no known class, from the data preprocessor through a validation step."""

import pytest
import torch
from mmpretrain.structures import DataSample

from hybridcls.evaluation import ValLoss
from hybridcls.registry import MODELS


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='HybridClassifier',
            backbone=dict(type='LeNet5', num_classes=-1),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='EvidentialHead', num_classes=3, in_channels=120),
        )
    ).eval()


def batch(*labels, views=1):
    generator = torch.Generator().manual_seed(1)
    inputs = [255 * torch.rand(len(labels), 1, 32, 32, generator=generator) for _ in range(views)]
    return dict(
        inputs=inputs if views > 1 else inputs[0], data_samples=[DataSample().set_gt_label(label) for label in labels]
    )


@pytest.mark.parametrize('unknown', [-1, 3, 7])
@pytest.mark.parametrize('views', [1, 2])
def test_validation_losses_are_those_of_the_known_ones(model, views, unknown):
    mixed = model.val_step(batch(0, unknown, 2, unknown, views=views))
    whole = batch(0, 1, 2, 0, views=views)
    known = dict(
        inputs=[view[[0, 2]] for view in whole['inputs']] if views > 1 else whole['inputs'][[0, 2]],
        data_samples=[whole['data_samples'][row] for row in (0, 2)],
    )
    expected = model.val_step(known)
    for row, other in ((0, 0), (2, 1)):
        torch.testing.assert_close(mixed[row].val_losses, expected[other].val_losses)
        torch.testing.assert_close(mixed[row].pred_score, expected[other].pred_score)
    assert all('val_losses' not in mixed[row] for row in (1, 3))
    assert all('pred_score' in sample for sample in mixed)
    metric = ValLoss()
    metric.process(None, [sample.to_dict() for sample in mixed])
    assert metric.evaluate(4)['val/loss'] == pytest.approx(float(expected[0].val_losses['loss']))


def test_only_unknown_ones(model):
    assert all('val_losses' not in sample for sample in model.val_step(batch(-1, -1)))


def test_training_does_not_take_them(model):
    data = batch(0, -1)
    assert len(model.data_preprocessor(data, training=False)['data_samples']) == 2
    with pytest.raises(ValueError, match=r'has the label -1.*\(-1, for an image to be rejected, is for tests only'):
        model.data_preprocessor(data, training=True)
    with pytest.raises(ValueError, match='has the label 3'):
        model.data_preprocessor(batch(0, 3), training=True)
    with pytest.raises(ValueError, match='has the label -2'):
        model.data_preprocessor(batch(0, -2), training=False)
