"""FSDP resumes with torch's present order of arguments."""

import inspect
from types import SimpleNamespace

from torch.distributed.fsdp import FullyShardedDataParallel

from hybridcls.engine.runner.fsdp_strategy import FSDPStrategy
from hybridcls.registry import STRATEGIES


def test_the_state_of_the_optimizer_is_given_where_torch_expects_it(monkeypatch):
    names = list(inspect.signature(FullyShardedDataParallel.optim_state_dict_to_load).parameters)
    got = {}

    def shard(*args, **kwargs):
        got.update(zip(names, args, strict=False), **kwargs)
        return 'sharded'

    monkeypatch.setattr(FullyShardedDataParallel, 'optim_state_dict_to_load', staticmethod(shard))
    loaded = []
    strategy = FSDPStrategy.__new__(FSDPStrategy)
    strategy.model = 'model'
    strategy.optim_wrapper = SimpleNamespace(optimizer='optimizer', load_state_dict=loaded.append)
    strategy.load_optim_state_dict('state')
    assert got == dict(model='model', optim='optimizer', optim_state_dict='state')
    assert loaded == ['sharded']


def test_the_name_is_ours():
    assert STRATEGIES.get('FSDPStrategy') is FSDPStrategy
