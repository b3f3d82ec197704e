"""known_rows: labels of known and unknown classes, and unlabelled samples."""

import torch
from mmpretrain.structures import DataSample

from hybridcls.structures import known_rows


def test_only_minus_one_is_unknown():
    several = DataSample()
    several.gt_label = torch.tensor([-1, 2])
    samples = [
        DataSample().set_gt_label(-1),
        DataSample().set_gt_label(0),
        DataSample(),
        several,
        DataSample().set_gt_score([0.5, 0.5]),
    ]
    assert known_rows(samples) == [1, 2, 3, 4]
    assert known_rows([]) == []
