import math

import pytest
import torch
from mmpretrain.structures import DataSample

from hybridcls.registry import MODELS


def test_loss_by_angles():
    torch.manual_seed(0)
    head = MODELS.build(dict(type='ArcFaceHead', num_classes=4, in_channels=3, margin=0.3, scale=20.0))
    feats, labels = 5 * torch.randn(6, 3), [0, 1, 2, 3, 0, 1]
    expected = []
    for row, label in zip(feats.double(), labels, strict=True):
        angles = [math.acos(float(row @ c / row.norm() / c.norm())) for c in head.weight.detach().double()]
        logits = [20 * math.cos(angle) for angle in angles]
        logits[label] = 20 * (
            math.cos(angles[label] + 0.3)
            if angles[label] < math.pi - 0.3
            else math.cos(angles[label]) - 0.3 * math.sin(0.3)
        )
        expected.append(math.log(sum(math.exp(v) for v in logits)) - logits[label])
    losses = head.loss((feats,), [DataSample().set_gt_label(label) for label in labels])
    assert losses['loss'].item() == pytest.approx(sum(expected) / 6, rel=1e-5)


def test_flat_keys_reach_the_margin():
    head = MODELS.build(
        dict(
            type='ArcFaceHead',
            num_classes=4,
            in_channels=3,
            margin=0.3,
            beyond_pi='easy',
            gradient='straight_through',
            label_smoothing=0.1,
            cosine_clip=1e-4,
        )
    )
    margin = head.margin_function
    assert (margin.margin, margin.beyond_pi, margin.gradient) == (0.3, 'easy', 'straight_through')
    assert (head.scale, head.label_smoothing, head.cosine_clip) == (64.0, 0.1, 1e-4)


def test_a_wrong_key_is_named():
    with pytest.raises(TypeError, match='easy_margin'):
        MODELS.build(dict(type='ArcFaceHead', num_classes=4, in_channels=3, easy_margin=True))
