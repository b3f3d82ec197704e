"""write_predictions: fields, dtypes and the mean over views, against values by hand."""

import pytest
import torch
from mmpretrain.structures import DataSample

from hybridcls.structures import predicted_labels, write_predictions


def test_fields_and_types():
    embeddings = torch.randn(2, 4, dtype=torch.bfloat16, requires_grad=True)
    given = [DataSample().set_gt_label(0), None]
    out = write_predictions('head', given, embeddings, torch.tensor([[0.2, 0.8], [0.6, 0.4]], dtype=torch.float64))
    assert out[0] is given[0]
    assert [sample.pred_label.tolist() for sample in out] == [[1], [0]]
    for sample, embedding in zip(out, embeddings, strict=True):
        assert sample.pred_score.dtype == sample.embedding.dtype == torch.float32
        assert not sample.embedding.requires_grad
        torch.testing.assert_close(sample.embedding, embedding.detach().float())


def test_without_scores_only_the_embedding_is_written():
    (sample,) = write_predictions('head', None, torch.ones(1, 4))
    assert sample.keys() == ['embedding']


def test_views_are_averaged():
    embeddings = torch.tensor([[0.0], [10.0], [2.0], [30.0]])  # view 0 of both images, then view 1
    scores = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.0, 1.0]])
    out = write_predictions('head', [None, None], embeddings, scores)
    assert [sample.embedding.tolist() for sample in out] == [[1.0], [20.0]]
    torch.testing.assert_close(
        torch.stack([sample.pred_score for sample in out]), torch.tensor([[0.8, 0.2], [0.2, 0.8]])
    )


def test_wrong_rows_and_classes_are_errors():
    with pytest.raises(ValueError, match='head: expected a multiple of 2 embeddings for 2 samples, got 3'):
        write_predictions('head', [None, None], torch.ones(3, 1))
    with pytest.raises(ValueError, match='expected num_classes=3, as in the data, got 2'):
        write_predictions('head', [DataSample(metainfo=dict(num_classes=3))], torch.ones(1, 1), torch.ones(1, 2))


def test_labels_at_or_above_their_thresholds():
    scores, thresholds = torch.tensor([[0.5, 0.9, 0.1], [0.4, 0.1, 0.0]]), torch.tensor([0.5, 0.8, 0.05])
    samples = write_predictions('Head', None, torch.ones(2, 2), scores, thresholds=thresholds)
    assert [sample.pred_label.tolist() for sample in samples] == [[0, 1, 2], []]
    assert all(sample.pred_label.dtype == torch.int64 for sample in samples)
    assert samples[0].thresholds is samples[1].thresholds  # pickled once
    thresholds.zero_()  # those that a later validation fits
    assert samples[0].thresholds.tolist() == pytest.approx([0.5, 0.8, 0.05])
    assert 'thresholds' not in write_predictions('Head', None, torch.ones(2, 2), scores)[0]
    assert [labels.tolist() for labels in predicted_labels(scores)] == [[1], [0]]
