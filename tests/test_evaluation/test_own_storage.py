"""own_storage: rows are copied out of their batch with all fields, by the size of their pickles."""

import pickle
from typing import NamedTuple

import pytest
import torch
from mmpretrain.structures import DataSample

from hybridcls.evaluation import Accuracy, ConfusionMatrix, DumpResults, HeadMetric, SingleLabelMetric
from hybridcls.evaluation.own_storage import own_storage


class Pair(NamedTuple):
    row: torch.Tensor
    name: str


def storages(data):
    """The bytes of the storage of each tensor in nested data."""
    if isinstance(data, torch.Tensor):
        return [data.untyped_storage().nbytes()]
    if isinstance(data, DataSample):
        data = data.to_dict()
    parts = data.values() if isinstance(data, dict) else data if isinstance(data, (list, tuple)) else []
    return [size for part in parts for size in storages(part)]


def test_every_tensor_has_its_own_storage():
    batch = torch.randn(100, 8, requires_grad=True)
    sample = DataSample(metainfo=dict(img_path='a.png')).set_pred_score(batch[1])
    data = dict(
        row=batch[3], column=batch[:4, 2], nested=[(batch[0], 'x'), Pair(batch[5], 'y')], sample=sample, none=None
    )
    own = own_storage(data)
    assert storages(own) == [32, 16, 32, 32, 32]
    assert own['sample'].img_path == 'a.png'
    assert isinstance(own['nested'][1], Pair)
    assert own['none'] is None
    for one, other in ((own['row'], batch[3]), (own['column'], batch[:4, 2]), (own['sample'].pred_score, batch[1])):
        torch.testing.assert_close(one, other.detach(), rtol=0, atol=0)
    assert not own['row'].requires_grad


def test_small_storage_is_not_copied():
    alone = torch.ones(3)
    assert own_storage(alone).data_ptr() == alone.data_ptr()


def batch_of(images=64, classes=500):
    scores = torch.randn(images, classes).softmax(1)
    labels = torch.arange(images).unsqueeze(1)
    embeddings = torch.randn(images, 32)
    return [
        dict(pred_score=score, pred_label=label, gt_label=label, embedding=embedding, img_path=f'{row}.png', face=None)
        for row, (score, label, embedding) in enumerate(zip(scores, labels, embeddings, strict=True))
    ]


def test_predictions_file_is_small(tmp_path):
    path = tmp_path / 'p.pkl'
    metric = DumpResults(out_file_path=str(path))
    samples = [dict(sample, heads=dict(evidence=dict(total=sample['pred_score']))) for sample in batch_of()]
    for start in (0, 32):
        metric.process(None, samples[start : start + 32])
    assert metric.evaluate(64) == {}
    numbers = 4 * 64 * (500 * 2 + 32)
    assert numbers < path.stat().st_size < 1.5 * numbers + 64 * 2000
    read = pickle.loads(path.read_bytes())
    assert [list(sample) for sample in read] == [list(sample) for sample in samples]
    for one, other in zip(read, samples, strict=True):
        torch.testing.assert_close(one['pred_score'], other['pred_score'], rtol=0, atol=0)
        torch.testing.assert_close(one['heads']['evidence']['total'], other['pred_score'], rtol=0, atol=0)
        assert one['img_path'] == other['img_path']


@pytest.mark.parametrize(
    'metric',
    [Accuracy(), SingleLabelMetric(), ConfusionMatrix(), HeadMetric(dict(type='mmpretrain.Accuracy'))],
    ids=lambda metric: type(metric).__name__,
)
def test_collected_results_are_small(metric):
    metric.process(None, batch_of())
    assert len(pickle.dumps(metric.results)) < 64 * (2 * 4 * 500 + 2500)
