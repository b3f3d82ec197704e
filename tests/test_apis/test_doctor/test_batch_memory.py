"""The estimate of a batch is that of a real one, and the search finds the largest that fits."""

import weakref
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


@pytest.mark.parametrize(
    ('limit', 'batch', 'error'),
    [
        (100, 16, RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`')),
        (37, 300, torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')),
        (0, 8, torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')),
    ],
)
def test_the_largest_that_fits_a_gpu(runner, monkeypatch, limit, batch, error):
    """A card that is simulated: more images than ``limit`` have no room, after their activations were made."""
    tried, activations, left = [], [], []

    def forward(images):
        tried.append(len(images))
        activations.append(found := torch.zeros(len(images), 1))
        activations[-1] = weakref.ref(found)
        if len(images) > limit:
            raise type(error)(*error.args)  # a new one: its frames hold the activations
        return sum(param.sum() for param in runner.model.parameters()) + found

    runner.model.layers.forward = forward

    def empty_cache():
        left.extend(ref for ref in activations if ref() is not None)
        left.extend(param for param in runner.model.parameters() if param.grad is not None)

    for name, value in dict(reset_peak_memory_stats=None, max_memory_allocated=2**30).items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, 'empty_cache', empty_cache)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda _: SimpleNamespace(total_memory=2**33))
    subject = Subject(Config(), '')
    (found,) = batch_memory._by_trial(subject, batch_memory.TrainStep(runner), DATA, batch)
    assert subject.facts['memory']['largest'] == limit
    assert limit + 1 in tried
    assert left == []
    assert (found.level, found.what) == (
        ('note', 'a batch of 16 takes 1.00 GiB of the GPU; by trial 100 images fit.')
        if batch < limit
        else ('problem', f'a batch of {batch} does not fit the 8 GiB of the GPU; {limit} images do.')
    )


def test_other_errors_of_a_step_are_raised(runner):
    runner.model.layers.forward = lambda images: 1 / 0 if len(images) < 8 else torch.zeros(2) @ torch.zeros(3)
    with pytest.raises(RuntimeError, match='inconsistent tensor size'):
        list(batch_memory._by_trial(Subject(Config(), ''), batch_memory.TrainStep(runner), DATA, 8))
