"""Several processes: launchers, devices, synchronised BatchNorm."""

import pytest
import torch
from config_helpers import applied
from mmengine.config import Config

from hybridcls.engine.config import ConfigError
from hybridcls.engine.config.distributed import distributed
from hybridcls.engine.runner.distributed import local_process_count, process_count, start_processes


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'TORCHELASTIC_RUN_ID'):
        monkeypatch.delenv(name, raising=False)


def test_one_process_needs_nothing():
    cfg = Config(dict())
    start_processes('none')
    assert applied(cfg, distributed, 'none').to_dict() == dict(launcher='none')
    assert process_count('none') == 1


def test_a_forgotten_launcher_is_noticed(monkeypatch):
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'x')
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(RuntimeError, match='add --launcher pytorch'):
        start_processes('none')


@pytest.mark.parametrize(
    ('launcher', 'name'), [('pytorch', 'WORLD_SIZE'), ('slurm', 'SLURM_NTASKS'), ('mpi', 'OMPI_COMM_WORLD_SIZE')]
)
def test_processes_that_no_launcher_started(launcher, name):
    with pytest.raises(RuntimeError, match=f'--launcher {launcher}: the environment variable {name} is not set'):
        start_processes(launcher)


def test_more_processes_than_gpus_is_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    for name, value in dict(WORLD_SIZE='16', RANK='0', LOCAL_WORLD_SIZE='8').items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeError, match=r'8 processes were requested, but this machine shows 2 GPUs .*at most 2\.'):
        start_processes('pytorch')
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    cfg = Config(dict())
    start_processes('pytorch')
    applied(cfg, distributed, 'pytorch')
    assert 'model_wrapper_cfg' not in cfg, 'with GPUs mmengine does it all'


def test_without_a_gpu_the_wrapper_has_no_device(monkeypatch):
    started = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.distributed, 'init_process_group', started.append)
    monkeypatch.setenv('OMPI_COMM_WORLD_SIZE', '2')
    monkeypatch.setenv('OMPI_COMM_WORLD_RANK', '1')
    for name in ('WORLD_SIZE', 'RANK', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, 'placeholder')  # so that what is set below is undone
        monkeypatch.delenv(name)
    cfg = Config(dict(find_unused_parameters=True, model_wrapper_cfg=dict(static_graph=True)))
    start_processes('mpi')
    applied(cfg, distributed, 'mpi')
    assert started == ['gloo']
    assert process_count('mpi') == 2
    assert cfg.launcher == 'mpi'
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters
    assert cfg.model_wrapper_cfg.static_graph


def test_a_launcher_that_does_not_say_how_many(monkeypatch):
    monkeypatch.setenv('SLURM_NTASKS_PER_NODE', '4(x2)')
    assert local_process_count('slurm') is None


def test_synchronised_batchnorm_is_the_classifiers_own_affair_on_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    for name, value in dict(WORLD_SIZE='2', RANK='0', LOCAL_WORLD_SIZE='2').items():
        monkeypatch.setenv(name, value)
    cfg = Config(dict(sync_bn='torch', model=dict(type='HybridClassifier')))
    applied(cfg, distributed, 'pytorch')
    assert cfg.model.sync_bn
    assert cfg.sync_bn is None
    other = Config(dict(sync_bn='torch', model=dict(type='ImageClassifier')))
    applied(other, distributed, 'pytorch')
    assert other.sync_bn == 'torch'


def test_synchronised_batchnorm_without_gpus_is_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    for name, value in dict(WORLD_SIZE='2', RANK='0').items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="sync_bn='torch': torch synchronises BatchNorm only on GPUs"):
        applied(Config(dict(sync_bn='torch')), distributed, 'pytorch')


def test_a_launcher_that_there_is_not():
    with pytest.raises(ValueError, match=r"expected launcher to be one of .*, got 'slrum'"):
        process_count('slrum')
