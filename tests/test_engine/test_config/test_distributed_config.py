"""What a launcher changes in a config, on a machine without GPUs and on one with."""

import pytest
import torch
from mmengine.config import Config

from hybridcls.engine import ConfigError
from hybridcls.engine.config.distributed import distributed


@pytest.fixture(params=[False, True], ids=['cpu', 'gpu'])
def has_gpus(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: request.param)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')  # mmengine's logger counts devices
    return request.param


def planned(started_by, **cfg):
    return {change.path: change.new for change in distributed(Config(cfg), started_by)}


def test_one_process_gets_its_launcher_alone(has_gpus):
    assert planned('none') == {('launcher',): 'none'}
    assert planned('none', launcher='none', sync_bn='torch') == {}


def test_without_gpus_the_wrapper_knows_no_device(has_gpus):
    found = planned('pytorch', launcher='pytorch', find_unused_parameters=True)
    if has_gpus:
        assert found == {}
    else:
        buffers = found.keys() & {('model_wrapper_cfg', f'{name}_buffers') for name in ('broadcast', 'forward_sync')}
        assert [found.pop(key) for key in buffers] == [False]
        assert found == {
            ('model_wrapper_cfg', 'type'): 'MMDistributedDataParallel',
            ('model_wrapper_cfg', 'find_unused_parameters'): True,
            ('model_wrapper_cfg', 'device_ids'): None,
        }


def test_a_wrapper_that_is_written_stays(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    given = dict(type='Mine', find_unused_parameters=False, broadcast_buffers=True, device_ids=None)
    assert planned('pytorch', launcher='pytorch', model_wrapper_cfg=given) == {}


def test_sync_bn_needs_gpus(has_gpus):
    cfg = dict(launcher='pytorch', sync_bn='torch', model=dict(type='HybridClassifier'))
    if has_gpus:
        assert planned('pytorch', **cfg) == {('model', 'sync_bn'): True, ('sync_bn',): None}
        assert planned('pytorch', **dict(cfg, model=dict(type='ImageClassifier'))) == {}
    else:
        with pytest.raises(ConfigError, match=r"sync_bn='torch': .* --cfg-options sync_bn=None"):
            planned('pytorch', **cfg)
