"""Result files: plain numbers and lists in every format, read back by json, yaml and pickle."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
import yaml

from hybridcls.evaluation.result_file import results_as_bytes

RESULTS = {
    'matrix': torch.tensor([[3, 1], [0, 2]]),
    'classwise': [np.float32(0.5), torch.tensor(0.25)],
    'array': np.arange(3),
    'nested': {'tuple': (1, 2.5)},
    'name': 'x',
    'none': None,
}
PLAIN = {
    'matrix': [[3, 1], [0, 2]],
    'classwise': [0.5, 0.25],
    'array': [0, 1, 2],
    'nested': {'tuple': [1, 2.5]},
    'name': 'x',
    'none': None,
}


@pytest.mark.parametrize(
    ('name', 'read'),
    [('m.json', json.loads), ('m.yml', yaml.safe_load), ('m.yaml', yaml.safe_load), ('m.pkl', pickle.loads)],
)
def test_every_format_has_plain_numbers(name, read):
    assert read(results_as_bytes(RESULTS, name)) == PLAIN


def test_non_finite_numbers_are_null_in_json():
    values = {'nan': torch.tensor(math.nan), 'inf': [math.inf, 1.0]}
    strict = json.loads(results_as_bytes(values, 'm.json'), parse_constant=lambda name: pytest.fail(name))
    assert strict == {'nan': None, 'inf': [None, 1.0]}
