"""Hard and soft labels of data samples, and the errors for wrong ones."""

import pytest
import torch
from mmpretrain.structures import DataSample

from hybridcls.structures import read_hard_labels, read_multi_targets, read_targets


def samples(*labels):
    return [DataSample().set_gt_label(label) for label in labels]


def test_hard_labels():
    out = read_targets('head', samples(2, 0, 1), 'cpu', num_classes=3)
    assert out.dtype == torch.int64
    assert out.tolist() == [2, 0, 1]
    assert read_hard_labels('head', samples(-5, 999), 'cpu').tolist() == [-5, 999]  # num_classes is None: no check


def test_soft_labels_have_precedence():
    # Mixup leaves the unmixed gt_label on the sample.
    mixed = [
        DataSample().set_gt_label(0).set_gt_score([0.3, 0.7]),
        DataSample().set_gt_label(1).set_gt_score([0.0, 1.0]),
    ]
    torch.testing.assert_close(read_targets('head', mixed, 'cpu', 2), torch.tensor([[0.3, 0.7], [0.0, 1.0]]))
    with pytest.raises(
        ValueError, match=r'ArcFaceHead: expected one class .* got soft labels \(mixup, cutmix\).*LinearHead'
    ):
        read_hard_labels('ArcFaceHead', mixed, 'cpu')


@pytest.mark.parametrize('scores', [[1.0, 0.5, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
def test_scores_with_another_class_are_no_hard_label(scores):
    with pytest.raises(ValueError, match='soft labels'):
        read_hard_labels('ArcFaceHead', [DataSample().set_gt_score(scores)], 'cpu')


def test_one_hot_scores_are_hard_labels():
    one_hot = [DataSample().set_gt_score([0.0, 1.0, 0.0]), DataSample().set_gt_score([1.0, 0.0, 0.0])]
    assert read_hard_labels('head', one_hot, 'cpu').tolist() == [1, 0]


@pytest.mark.parametrize('label', [-1, 3])
def test_labels_out_of_range(label):
    with pytest.raises(ValueError, match=rf'head: expected labels in \[0, 2\] \(num_classes=3\), got {label}'):
        read_targets('head', samples(0, label), 'cpu', num_classes=3)


def test_invalid_labels_are_errors():
    with pytest.raises(ValueError, match=r'head: expected a gt_label for cat\.png, got none'):
        read_targets('head', [DataSample(metainfo=dict(img_path='cat.png'))], 'cpu')
    with pytest.raises(ValueError, match=r'expected one gt_label for sample 0 of the batch, got \[0, 1\]'):
        read_targets('head', [DataSample().set_gt_label([0, 1])], 'cpu')
    with pytest.raises(TypeError, match='expected integer labels, got'):
        read_targets('head', [DataSample().set_gt_label(torch.tensor([0.5]))], 'cpu')
    with pytest.raises(ValueError, match=r'expected soft labels for num_classes=3, got 2 classes'):
        read_targets('head', [DataSample().set_gt_score([0.5, 0.5])], 'cpu', num_classes=3)


@pytest.mark.parametrize('labels', [[[0, 2], [], [1]], [[2, 0, 7], [-1], [1, 1]]])
def test_several_labels_an_image(labels):
    """Numbers that are no class of the model are left out."""
    samples = [DataSample().set_gt_label(own) for own in labels]
    targets = read_multi_targets('MultiLabelHead', samples, 'cpu', num_classes=3)
    assert targets.dtype == torch.float32
    assert targets.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_soft_labels_of_several_classes():
    samples = [DataSample().set_gt_score([0.5, 1.0, 0.0]).set_gt_label([1])]
    assert read_multi_targets('MultiLabelHead', samples, 'cpu', 3).tolist() == [[0.5, 1.0, 0.0]]
    with pytest.raises(ValueError, match='MultiLabelHead: expected soft labels for num_classes=4, got 3 classes'):
        read_multi_targets('MultiLabelHead', samples, 'cpu', 4)
    with pytest.raises(ValueError, match=r'expected a gt_label for a\.png, got none'):
        read_multi_targets('MultiLabelHead', [DataSample(img_path='a.png')], 'cpu', 3)


class _Sent(torch.Tensor):
    """A tensor that notes how it is moved."""

    moves = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.to:
            cls.moves.append((kwargs or {}).get('non_blocking', False))
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize('read', [read_targets, read_hard_labels, read_multi_targets])
@pytest.mark.parametrize(('device', 'may_be_late'), [('cpu', False), (torch.device('cpu'), False), ('meta', True)])
def test_numbers_from_a_gpu_have_arrived_when_they_are_read(read, device, may_be_late):
    """A copy to the CPU that does not block goes on while its numbers are read."""
    _Sent.moves.clear()
    sample = DataSample()
    sample.set_field(torch.tensor([1]).as_subclass(_Sent), 'gt_label', dtype=torch.Tensor)
    read('Head', [sample], device, 3)
    if read is not read_multi_targets:
        assert _Sent.moves == [may_be_late]
    _Sent.moves.clear()
    sample = DataSample()
    sample.set_field(torch.tensor([0.0, 1.0, 0.0]).as_subclass(_Sent), 'gt_score', dtype=torch.Tensor)
    read('Head', [sample], device, 3)
    assert _Sent.moves == [may_be_late]
