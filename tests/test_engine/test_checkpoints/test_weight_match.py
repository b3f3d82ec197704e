"""Each weight has its place, or the sentence says which have none."""

import pytest
import torch
from torch import nn

from hybridcls.engine.checkpoints.weight_match import check_every_weight
from hybridcls.engine.checkpoints.weight_transfer import WeightMismatchError


def test_layers_that_differ_are_counted_and_named():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    weights = model.state_dict()
    check_every_weight(model, weights, 'x.pth')
    del weights['1.num_batches_tracked']
    check_every_weight(model, weights, 'x.pth')
    del weights['1.bias']
    weights['2.weight'], weights['0.weight'] = torch.zeros(1), torch.zeros(5, 2)
    with pytest.raises(WeightMismatchError) as error:
        check_every_weight(model, weights, 'x.pth')
    for part in (
        '1 have another shape (first: 0.weight, (5, 2) in the checkpoint, (3, 2) in the model)',
        '1 of the model are not in it (first: 1.bias)',
        '1 of it are not in the model (first: 2.weight)',
    ):
        assert part in str(error.value)
