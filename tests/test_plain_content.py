"""plain_content: saved content is read by torch's weights-only reader, and restored."""

import enum
import io
import pathlib
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from hybridcls.plain_content import from_plain, to_plain


class Colour(str, enum.Enum):
    RED = 'red'


def through(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_round_trip():
    values = dict(
        history=HistoryBuffer([0.1, 0.2], [1, 3], 5),
        array=np.arange(4, dtype=np.uint8).reshape(2, 2),
        names=np.array(['a', 'b']),
        names_seen={'x'},
        ordered=OrderedDict(b=1, a=(2, None)),
    )
    plain = through(to_plain(values, 'x'))
    assert type(plain['history']) is dict
    found = from_plain(plain)
    for new, old in zip(found['history'].data, values['history'].data, strict=True):
        np.testing.assert_array_equal(new, old)
        assert new.dtype == old.dtype
    assert found['history'].max_length == 5
    np.testing.assert_array_equal(found['array'], values['array'])
    assert found['array'].dtype == np.uint8
    assert found['names'].tolist() == ['a', 'b']
    assert found['names_seen'] == {'x'}
    assert list(found['ordered'].items()) == [('b', 1), ('a', (2, None))]


def test_numbers_strings_paths_and_configs_become_plain():
    values = [np.float32(0.5), np.int64(3), np.bool_(True), pathlib.Path('a/b'), ConfigDict(a=1), Colour.RED]
    assert through(to_plain(values, 'x')) == [0.5, 3, True, str(pathlib.Path('a/b')), {'a': 1}, 'red']


def test_weights_keep_their_versions_and_share_their_storage():
    weights = torch.nn.BatchNorm1d(2).state_dict()
    plain = to_plain(dict(a=weights, b=weights), 'x')
    assert plain['a']._metadata == weights._metadata
    assert plain['a']['weight'].data_ptr() == weights['weight'].data_ptr()
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.note = object()
    assert type(to_plain(parameter, 'x')) is torch.Tensor


def test_content_without_a_plain_form():
    with pytest.raises(TypeError, match=r'got a object at optimizer\.0\.b'):
        to_plain([dict(b=object())], 'optimizer')
    told = []
    found = to_plain(dict(a=1, b=object(), c=[object(), 2]), 'meta', lambda path, value: told.append(path))
    assert found == dict(a=1, c=[2])
    assert told == ['meta.b', 'meta.c.0']


def test_similar_dict_is_unchanged():
    assert from_plain(dict(hybridcls_kind='HistoryBuffer', logs=1)) == dict(hybridcls_kind='HistoryBuffer', logs=1)
