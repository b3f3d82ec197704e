import math

import pytest
import torch
from mmpretrain.structures import DataSample

from hybridcls.registry import MODELS


def test_loss_by_cosines():
    torch.manual_seed(0)
    head = MODELS.build(dict(type='CosFaceHead', num_classes=4, in_channels=3, margin=0.3, scale=20.0))
    feats, labels = 5 * torch.randn(6, 3), [0, 1, 2, 3, 0, 1]
    expected = []
    for row, label in zip(feats.double(), labels, strict=True):
        logits = [20 * float(row @ c / row.norm() / c.norm()) for c in head.weight.detach().double()]
        logits[label] -= 20 * 0.3
        expected.append(math.log(sum(math.exp(v) for v in logits)) - logits[label])
    losses = head.loss((feats,), [DataSample().set_gt_label(label) for label in labels])
    assert losses['loss'].item() == pytest.approx(sum(expected) / 6, rel=1e-5)


def test_other_keys_reach_the_engine():
    head = MODELS.build(dict(type='CosFaceHead', num_classes=4, in_channels=3, label_smoothing=0.1, cosine_clip=1e-4))
    assert (head.margin, head.scale, head.label_smoothing, head.cosine_clip) == (0.35, 64.0, 0.1, 1e-4)
