"""An unexpected error is laid at the door of whose code it comes from."""

import functools
import importlib
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from hybridcls import error_origin
from hybridcls.error_origin import describe_origin, places_of
from hybridcls.functional import l2_normalize

PLUGIN = """
import torch
from hybridcls.functional import l2_normalize

class Net:
    def own(self):
        {}['x']
    def library(self):
        torch.cat([torch.zeros(1), torch.zeros(1, 1)])
    def ours(self):
        l2_normalize(None)
    def renamed(self):
        try:
            self.own()
        except KeyError as error:
            raise error

class Images:
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return {}[index]
"""


@pytest.fixture
def nothing_known():
    """What is installed is read again: it takes a second, so the other tests share it."""
    error_origin._distributions.cache_clear()
    yield
    error_origin._distributions.cache_clear()


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / 'some_plugin.py').write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, 'some_plugin', raising=False)
    return importlib.import_module('some_plugin')


def caught(function, *args):
    try:
        function(*args)
    except Exception as error:
        error.__traceback__ = error.__traceback__.tb_next  # without the frame of this test
        return error
    raise AssertionError('nothing was raised')


def test_of_a_plugin(plugin):
    said = describe_origin(caught(plugin.Net().own))
    assert said == 'This comes from code outside hybridcls: some_plugin.py, line 7, in Net.own. Repair it there.'


def test_of_a_library_that_a_plugin_calls(plugin):
    assert 'some_plugin.py, line 9, in Net.library. Repair' in describe_origin(caught(plugin.Net().library))
    plugin.Net.own = functools.partialmethod(torch.nn.Linear(2, 2))
    said = describe_origin(caught(plugin.Net().renamed))
    assert re.search(
        r'in Net\.renamed, where torch/nn/modules/linear\.py, line \d+, in Linear\.forward raised it', said
    )


def test_of_hybridcls_that_a_plugin_calls(plugin):
    said = describe_origin(caught(plugin.Net().ours))
    assert said.startswith('This comes from hybridcls (hybridcls/functional/')
    assert 'called by code outside it: some_plugin.py, line 11, in Net.ours. If what it passes' in said


def test_of_hybridcls(monkeypatch):
    monkeypatch.setattr(error_origin, '_registered_by_users', list)
    said = describe_origin(caught(l2_normalize, None))
    assert said.startswith('This is a bug in hybridcls (hybridcls/functional/')
    assert said.endswith(').')


def test_of_a_library_that_hybridcls_calls(monkeypatch):
    from hybridcls.models.backbones.timm_stream import TimmStream

    monkeypatch.setattr(error_origin, '_registered_by_users', lambda: ['MyNet (net.py)'])
    said = describe_origin(caught(TimmStream('test_resnet'), torch.rand(1, 3, 32, 32, dtype=torch.float64).half()))
    assert said.startswith('This is a bug in hybridcls (hybridcls/models/backbones/timm_stream.py, line ')
    assert '; raised by torch/nn/' in said
    assert said.endswith(' Or a part of yours gives it what it does not expect: MyNet (net.py).')


def test_in_a_worker_process(plugin):
    loader = DataLoader(plugin.Images(), num_workers=1)
    said = describe_origin(caught(next, iter(loader)))
    assert said == 'This comes from code outside hybridcls: some_plugin.py, line 22, in __getitem__. Repair it there.'


def test_raised_again_by_a_library(plugin):
    def build():
        try:
            plugin.Net().own()
        except KeyError as error:
            raise type(error)(f'class Net: {error}') from None

    error = caught(build)
    error.__traceback__ = None
    error.__suppress_context__ = False
    assert 'some_plugin.py, line 7, in Net.own' in describe_origin(error)


def test_at_the_import(plugin, tmp_path):
    (tmp_path / 'bad_plugin.py').write_text('\nx = = 1\n')
    said = describe_origin(caught(importlib.import_module, 'bad_plugin'))
    assert 'bad_plugin.py, line 2, in <module>' in said


def test_of_an_installed_plugin(plugin, tmp_path, monkeypatch, nothing_known):
    error = caught(plugin.Net().own)
    monkeypatch.setattr(error_origin, '_package_folders', lambda: [tmp_path])
    assert places_of(error)[-1].owner == 'some_plugin'
    error_origin._distributions.cache_clear()
    monkeypatch.setattr('importlib.metadata.packages_distributions', lambda: {'some_plugin': ['some-plugin']})
    monkeypatch.setattr('importlib.metadata.requires', lambda name: ['numpy', 'hybridcls>=0.1; extra == "x"'])
    assert places_of(error)[-1].owner == 'user'


def test_what_is_installed_is_read_once(monkeypatch, nothing_known):
    """Not for each of the hundreds of registered parts: a command that failed did not end for minutes."""
    reads = []
    monkeypatch.setattr('importlib.metadata.packages_distributions', lambda: reads.append(1) or {})
    parts = {name: getattr(torch.nn, name) for name in ('Linear', 'Conv2d', 'LayerNorm', 'Dropout')}
    parts['approx'] = pytest.approx(1).__class__
    registry = SimpleNamespace(module_dict=parts, parent=None)
    monkeypatch.setitem(sys.modules, 'hybridcls.registry', SimpleNamespace(__all__=['MODELS'], MODELS=registry))
    assert error_origin._registered_by_users() == []
    assert len(reads) == 1


def test_parts_of_users_are_named(plugin, monkeypatch):
    monkeypatch.setattr(plugin.Net, '__module__', 'some_plugin')
    registry = SimpleNamespace(module_dict={'Net': plugin.Net, 'Linear': torch.nn.Linear}, parent=None)
    registries = SimpleNamespace(__all__=['MODELS'], MODELS=registry)
    monkeypatch.setitem(sys.modules, 'hybridcls.registry', registries)
    assert error_origin._registered_by_users() == ['Net (some_plugin.py)']
