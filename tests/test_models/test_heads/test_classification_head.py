"""Scores, labels and accuracy of heads with classes."""

import pytest
import torch
from torch import nn

from hybridcls.models.heads import ClassificationHead


class Toy(ClassificationHead):
    def forward(self, feats):
        return self.pre_logits(feats) * 2


def test_scores_are_the_softmax_of_the_logits_averaged_over_views():
    feats = torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 0.0], [0.0, 0.0]], dtype=torch.float16)
    samples = Toy(2, in_channels=2).predict((feats,), [None, None])  # two images, two views of each
    scores = (feats.float() * 2).softmax(1)
    torch.testing.assert_close(samples[0].pred_score, (scores[0] + scores[2]) / 2)
    assert samples[0].pred_score.dtype == torch.float32
    assert [sample.pred_label.item() for sample in samples] == [int(s.argmax()) for s in (scores[:2] + scores[2:])]
    torch.testing.assert_close(samples[1].embedding, torch.tensor([1.0, 0.0]))


def test_accuracy_is_a_percentage_of_rows():
    labels = torch.tensor([0, 1, 2, 2])
    assert Toy.accuracy(torch.tensor([0, 1, 1, 0]), labels) == 50
    assert Toy.accuracy(torch.tensor([[0, 2], [0, 2], [1, 2], [2, 0]]), labels) == 75


def test_what_cannot_be_built():
    with pytest.raises(ValueError, match='num_classes'):
        Toy(0, in_channels=2)
    with pytest.raises(ValueError, match='label_smoothing'):
        Toy(2, in_channels=2, label_smoothing=1.0)
    assert isinstance(Toy(1, in_channels=2), nn.Module)
