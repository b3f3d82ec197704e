"""Nothing that a pickle names is run: each of these leaves a file behind when Python's own unpickler reads it."""

import contextlib
import copyreg
import functools
import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from hybridcls.compat.restricted_pickle import Placeholder, RefusedError, load
from hybridcls.compat.torch import placeholders_in, read_torch_file

EXTENSION = 203  # a free code


class Runs:
    """Pickles as a call."""

    def __init__(self, function, *arguments, state=None):
        self.parts = function, arguments, state

    def __reduce__(self):
        return self.parts if self.parts[2] is not None else self.parts[:2]


def pickles(canary):
    """Name, bytes: what runs ``touch canary`` when it is unpickled."""
    touch, python = f'touch {canary}', f'open({str(canary)!r}, "w")'
    evil = Runs(os.system, touch)
    objects = {
        'system': evil,
        'eval': Runs(eval, python),
        'exec': Runs(exec, python),
        'getattr': Runs(getattr(os, 'system'), touch),  # noqa: B009
        'chain': Runs(functools.partial(os.system, touch)),
        'torch.load': Runs(functools.partial(torch.load, nested(canary), weights_only=False)),
        'inside': {1: (evil,)},
        'object array': np.array([evil], dtype=object),
        'attributes of a tensor': Runs(torch._tensor._rebuild_from_type_v2, os.system, torch.Tensor, (touch,), {}),
        'default factory': Runs(OrderedDict, [(1, evil)]),
        'history': Runs(HistoryBuffer, state=dict(statistics_methods=dict(min=evil), _log_history=[], max_length=1)),
        'newobj_ex': Runs(copyreg.__newobj_ex__, str, (), {'object': evil}),
    }
    for name, value in objects.items():
        for protocol in (0, 1, 2, 4, 5):
            yield f'{name} {protocol}', pickle.dumps(value, protocol)
    text = touch.encode()
    yield 'inst', b"(S'" + text + b"'\nios\nsystem\n."
    yield 'obj', b"(cos\nsystem\nS'" + text + b"'\no."
    yield (
        'getattr by name',
        b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(S'os'\ntRS'system'\ntR(S'" + text + b"'\ntR.",
    )
    yield 'memo', b"cos\nsystem\nq\x010h\x01(S'" + text + b"'\ntR."
    yield 'extension', pickle.EXT1 + bytes([EXTENSION]) + b"(S'" + text + b"'\ntR."
    yield 'stack global', b'\x80\x04\x8c\x02os\x8c\x06system\x93\x8c' + bytes([len(text)]) + text + b'\x85R.'


def nested(canary):
    file = canary.parent / 'nested.pth'
    torch.save(Runs(os.system, f'touch {canary}'), file)
    return str(file)


@pytest.fixture
def canary(tmp_path):
    copyreg.add_extension('os', 'system', EXTENSION)
    yield tmp_path / 'canary'
    copyreg.remove_extension('os', 'system', EXTENSION)


def as_zip(data):
    """The bytes as the pickle of a zip file of torch."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        for name, content in [('data.pkl', data), ('byteorder', b'little'), ('version', b'3\n')]:
            archive.writestr(f'archive/{name}', content)
    return file.getvalue()


def as_old(data):
    """The bytes as the pickle of a file of torch before 1.6."""
    head = [torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {}]
    return b''.join(pickle.dumps(value, 2) for value in head) + data + pickle.dumps([], 2)


def test_nothing_is_run(canary):
    ran = set()
    for name, data in pickles(canary):
        for form in (bytes, as_zip, as_old):
            with contextlib.suppress(Exception):  # refused, or not what the payload thinks it is
                load(io.BytesIO(data)) if form is bytes else read_torch_file(io.BytesIO(form(data)))
            assert not canary.exists(), f'{name} ran as {form.__name__}'
        with contextlib.suppress(Exception):
            pickle.loads(data)
        if canary.exists():
            ran.add(name)
            canary.unlink()
    assert ran == {name for name, _ in pickles(canary)}  # it is not the payloads that do nothing


def test_what_was_wanted_is_noted():
    found = load(io.BytesIO(pickle.dumps(Runs(os.system, 'ls', state={'a': 1}), 2)))
    assert isinstance(found, Placeholder)
    assert found.kind == 'posix.system'
    assert found.arguments == ('ls',)
    assert found.state == {'a': 1}
    again = pickle.loads(pickle.dumps(found))  # mmengine compares pickled metainfo
    assert again.kind == 'posix.system'


def test_names_cannot_make_up_lines_of_a_message():
    data = b'\x80\x04\x8c\x01m\x8c\x0aa\nAll well\x93.'
    assert '\n' not in load(io.BytesIO(data)).kind


@pytest.mark.parametrize(
    'data',
    [
        b'ctorch\nTensor\n}b.',  # the state of a class
        b'ctorch\nTensor\n(tR.',  # a call of one that is only named
        b'ctorch.storage\nUntypedStorage\n(I5\ntR.',
        b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR.",
        b"(S'a'\nl}b.",  # the state of a list
        b'(tI1\na.',  # an element of a tuple
        b'P1\n.',  # a persistent object
        pickle.EXT1 + bytes([EXTENSION]) + b'.',
    ],
)
def test_what_does_more_than_build_is_refused(data):
    with pytest.raises(RefusedError):
        load(io.BytesIO(data))


def test_a_persistent_object_must_be_a_storage():
    """torch compares the source code of modules in old files, and writes what differs to ``<name>.patch``."""
    kind = 'm\nC\n'
    data = b"(S'module'\nc" + kind.encode() + b"S'file'\nS'source'\ntQ."
    (found,) = [value for value in [read_torch_file(io.BytesIO(as_old(data)))]]
    assert issubclass(found, Placeholder)  # the class, unread
    for identity in (b"(S'storage'\nS'x'\nS'0'\nS'cpu'\nI1\nNtQ.", b"(S'other'\nI1\ntQ.", b'I0\nQ.'):
        with pytest.raises(Exception, match='persistent'):
            read_torch_file(io.BytesIO(as_old(identity)))


def test_state_of_a_state_dict_is_its_versions_only():
    weights = torch.nn.BatchNorm1d(2).state_dict()
    weights.anything = 'else'
    file = io.BytesIO()
    torch.save(weights, file)
    file.seek(0)
    found = read_torch_file(file)
    assert found._metadata == weights._metadata
    assert not hasattr(found, 'anything')
    assert not list(placeholders_in(found))
