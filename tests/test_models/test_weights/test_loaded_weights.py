"""Which weights a model really has, whatever a loader says."""

import torch
from torch import nn

from hybridcls.models.weights.loaded_weights import differing_weights


def test_values_decide():
    model = nn.Linear(2, 2)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    assert differing_weights(model, weights) == []
    weights['bias'][0] += 1
    weights['other'] = torch.zeros(1)
    assert differing_weights(model, weights) == ['bias', 'other']
    assert differing_weights(model, weights, ['weight']) == []
    assert differing_weights(model, dict(weight=torch.zeros(3, 2))) == ['weight']


def test_the_models_type_of_number_decides_and_nan_is_nan():
    model = nn.Linear(2, 1, bias=False)
    half = torch.tensor([[0.1, float('nan')]], dtype=torch.float16)
    model.load_state_dict(dict(weight=half))
    assert differing_weights(model, dict(weight=half)) == []
