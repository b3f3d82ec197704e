"""Parts of batches, of one view or of several."""

import torch
from mmpretrain.structures import DataSample

from hybridcls.apis.doctor.train_step import pick, size_of


def test_rows_of_one_view_and_of_several():
    samples = [DataSample().set_gt_label(number) for number in range(3)]
    images = torch.arange(3)[:, None, None, None].expand(3, 3, 2, 2)
    one = pick(dict(inputs=images, data_samples=samples), [2, 0])
    assert one['inputs'][:, 0, 0, 0].tolist() == [2, 0]
    assert size_of(one) == 2
    two = pick(dict(inputs=[images, images + 10], data_samples=samples), [1])
    assert [view[:, 0, 0, 0].tolist() for view in two['inputs']] == [[1], [11]]
    several_sizes = pick(dict(inputs=list(images), data_samples=samples), [1, 1])
    assert [image[0, 0, 0].item() for image in several_sizes['inputs']] == [1, 1]


def test_samples_are_copies():
    samples = [DataSample().set_gt_label(0)]
    picked = pick(dict(inputs=torch.zeros(1, 3, 2, 2), data_samples=samples), [0, 0])['data_samples']
    picked[0].set_gt_score(torch.tensor([1.0]))
    assert 'gt_score' not in samples[0]
    assert 'gt_score' not in picked[1]
