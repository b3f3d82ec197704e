"""The base of heads with classes."""

import pytest
import torch
from mmpretrain.evaluation import Accuracy
from mmpretrain.structures import DataSample

from hybridcls.models.heads import ClassificationHead


class Scaled(ClassificationHead):
    """Logits that are twice the embedding."""

    def forward(self, feats):
        return 2 * self.pre_logits(feats)


@pytest.mark.parametrize('views', [1, 2])
def test_scores_are_the_softmax_of_the_logits_averaged_over_views(views):
    embeddings = torch.randn(views * 3, 4, generator=torch.Generator().manual_seed(0))
    samples = Scaled(4, 4).predict((embeddings,), [DataSample() for _ in range(3)])
    scores = (2 * embeddings).softmax(1).unflatten(0, (views, 3)).mean(0)
    for row, sample in enumerate(samples):
        torch.testing.assert_close(sample.pred_score, scores[row])
        assert sample.pred_label.tolist() == [int(scores[row].argmax())]
        torch.testing.assert_close(sample.embedding, embeddings.unflatten(0, (views, 3)).mean(0)[row])


def test_scores_of_half_precision_are_float32():
    (sample,) = Scaled(4, 4).predict((torch.randn(1, 4).half(),))
    assert sample.pred_score.dtype == torch.float32
    assert sample.pred_score.sum().item() == pytest.approx(1, abs=1e-6)


def test_accuracy_is_mmpretrains():
    logits, labels = torch.randn(20, 5, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 5
    (top1,), (top2,) = Accuracy.calculate(logits.softmax(1), labels, topk=(1, 2))
    assert ClassificationHead.accuracy(logits.argmax(1), labels).item() == pytest.approx(top1.item())
    assert ClassificationHead.accuracy(logits.topk(2).indices, labels).item() == pytest.approx(top2.item())


@pytest.mark.parametrize(
    ('keys', 'name'),
    [
        (dict(num_classes=0), 'num_classes'),
        (dict(num_classes=2.5), 'num_classes'),
        (dict(label_smoothing=1.0), 'label_smoothing'),
    ],
)
def test_numbers_out_of_range_are_named(keys, name):
    with pytest.raises((ValueError, TypeError), match=f'Scaled: .*{name}'):
        Scaled(**{'num_classes': 3, 'in_channels': 4, **keys})
