"""The estimate of a batch is that of a real one, and the search finds the largest that fits."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from torch import nn

from hybridcls.apis.doctor import batch_memory
from hybridcls.apis.doctor.batch_memory import check_memory
from hybridcls.apis.doctor.subject import Subject
from hybridcls.apis.memory import peak_memory


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU())

    def train_step(self, data, optim_wrapper):
        loss = self.layers(data['inputs'].float()).mean()
        optim_wrapper.update_params(loss)
        return dict(loss=loss)


@pytest.fixture
def runner():
    model = Model()
    return SimpleNamespace(model=model, optim_wrapper=OptimWrapper(torch.optim.Adam(model.parameters())))


DATA = dict(inputs=torch.zeros(8, 3, 32, 32), data_samples=[DataSample()] * 8)


def test_the_estimate_is_what_a_batch_takes(runner):
    subject = Subject(Config(), '')
    (note,) = check_memory(subject, runner, DATA, 64)
    assert note.level == 'note'
    step = batch_memory.TrainStep(runner)
    real = peak_memory(lambda: step(batch_memory._part(DATA, 64)), 'cpu') + batch_memory._lasting(runner)
    assert subject.facts['memory']['bytes'] == pytest.approx(real, rel=0.1)


def test_a_batch_that_is_too_large(runner, monkeypatch):
    monkeypatch.setattr(batch_memory, 'available_memory', lambda: 50 * 2**20)
    (found,) = check_memory(Subject(Config(), ''), runner, DATA, 10_000)
    assert found.level == 'problem'
    fits = int(found.change.partition('=')[2])
    step = batch_memory.TrainStep(runner)
    assert peak_memory(lambda: step(batch_memory._part(DATA, fits)), 'cpu') < 50 * 2**20


@pytest.mark.parametrize(('limit', 'batch', 'level'), [(100, 16, 'note'), (100, 300, 'problem'), (0, 8, 'problem')])
def test_the_largest_that_fits_a_gpu(monkeypatch, limit, batch, level):
    class Step:
        runner = SimpleNamespace(model=nn.Module(), optim_wrapper=SimpleNamespace(zero_grad=lambda: None))
        seconds = 0.1

        def __call__(self, data):
            if len(data['data_samples']) > limit:
                raise torch.cuda.OutOfMemoryError('out of memory')

    for name, value in dict(empty_cache=None, reset_peak_memory_stats=None, max_memory_allocated=2**30).items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda _: SimpleNamespace(total_memory=2**33))
    subject = Subject(Config(), '')
    (found,) = batch_memory._by_trial(subject, Step(), DATA, batch)
    assert found.level == level
    largest = subject.facts['memory']['largest']
    assert largest == 0 if limit == 0 else 0.9 * limit <= largest <= limit
