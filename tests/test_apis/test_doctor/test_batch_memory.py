"""The estimate of a batch is that of a real one, and the search finds the largest that fits."""

import random
import weakref
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from torch import nn

from hybridcls.apis.doctor import batch_memory
from hybridcls.apis.doctor.batch_memory import check_memory
from hybridcls.apis.doctor.subject import Subject
from hybridcls.apis.memory import peak_memory
from hybridcls.compat.mmengine.accumulation import accumulation_counts
from hybridcls.engine.optim import ComposedOptimWrapper


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


class Card(BaseModel):
    """A model on a card that holds ``limit`` images, in whichever pass; the runner of a training of it."""

    def __init__(self, limit, of_pass):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(2)
        )
        self.layers(torch.zeros(2, 3, 8, 8))
        self.limit, self.of_pass, self.passes, self.kept, self.sizes, self.images = limit, of_pass, 0, [], [], []
        stages = dict(sam=dict(type='SAM', rho=0.1), lookahead=dict(type='Lookahead', k=2, alpha=0.5))
        wrapper = ComposedOptimWrapper(torch.optim.AdamW(self.parameters(), lr=0.1), stages=stages)
        self.runner = SimpleNamespace(model=self, optim_wrapper=wrapper)

    def forward(self, inputs, data_samples=None, mode='loss'):
        assert not any(one() is not None for one in self.kept[:-1])  # the batches before have been given back
        self.passes += 1
        images = torch.stack(inputs) if isinstance(inputs, list) else inputs
        self.images.append(weakref.ref(images))
        out = self.layers(images)
        self.kept.append(weakref.ref(out))
        self.sizes.append(len(out))
        if len(out) > self.limit and self.passes % 2 == self.of_pass:
            self.passes = 0
            raise torch.OutOfMemoryError('CUDA out of memory.')
        return dict(loss=out.square().mean())


def tensors_of(card):
    return deepcopy([card.state_dict(), card.runner.optim_wrapper.state_dict()['state'], torch.get_rng_state()])


def texts_of(card):
    return str(card.runner.optim_wrapper.state_dict()['param_groups']), str(np.random.get_state()), random.getstate()  # noqa: NPY002


@pytest.mark.parametrize('of_pass', [1, 0], ids=['forward', 'ascent'])
@pytest.mark.parametrize(('limit', 'batch', 'level'), [(101, 16, 'note'), (101, 300, 'problem'), (0, 8, 'problem')])
def test_the_largest_that_fits_a_gpu_and_nothing_of_it_remains(monkeypatch, limit, batch, level, of_pass, tmp_path):
    emptied = []
    for name, value in dict(reset_peak_memory_stats=None, max_memory_allocated=2**30).items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: emptied.append(1))
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda _: SimpleNamespace(total_memory=2**33))
    monkeypatch.setattr(batch_memory, '_estimated', batch_memory._by_trial)  # the model lies on the CPU
    monkeypatch.chdir(tmp_path)
    card, subject = Card(10**6, of_pass), Subject(Config(), '')
    data = dict(inputs=torch.rand(8, 3, 8, 8), data_samples=[DataSample()] * 8)
    for _ in range(3):  # as the doctor has trained before
        card.train_step(data, card.runner.optim_wrapper)
    card.images.clear()  # which are the test's own
    card.limit, card.passes, tensors, texts = limit, 0, tensors_of(card), texts_of(card)
    (found,) = check_memory(subject, card.runner, data, batch)
    assert found.level == level
    assert subject.facts['memory']['largest'] == limit
    assert 'at least' not in found.what
    assert len(emptied) >= len({size for size in card.sizes if size != 8})
    torch.testing.assert_close(tensors_of(card), tensors, rtol=0, atol=0)
    assert texts_of(card) == texts
    assert all(one.grad is None for one in card.parameters())
    assert not any(one() is not None for one in card.kept + card.images)
    assert not list(tmp_path.iterdir())


def test_a_step_that_fails_with_few_images_does_not_fail_for_want_of_memory(monkeypatch):
    """cuBLAS and cuDNN have no class of errors for it."""
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: None)
    card = Card(10**6, 1)
    step = batch_memory.TrainStep(card.runner)

    def fail(*_):
        raise RuntimeError('CUBLAS_STATUS_ALLOC_FAILED')

    card.layers.forward = fail
    data = dict(inputs=torch.rand(8, 3, 8, 8), data_samples=[DataSample()] * 8)
    assert not batch_memory._fits(step, data, True)
    with pytest.raises(RuntimeError, match='CUBLAS'):
        batch_memory._fits(step, data, False)


def on_a_card(monkeypatch):
    """Let the search run, of a model on the CPU."""
    for name in ('reset_peak_memory_stats', 'max_memory_allocated'):
        monkeypatch.setattr(torch.cuda, name, lambda device: 2**30)
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: None)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda _: SimpleNamespace(total_memory=2**33))
    monkeypatch.setattr(batch_memory, '_estimated', batch_memory._by_trial)


class Resident(BaseModel):
    """On a card that holds ``limit`` images less ten for gradients that are there, and ten for an optimizer's state."""

    def __init__(self, limit, accumulative_counts):
        super().__init__()
        self.layer, self.limit = nn.Linear(3, 2), limit
        optimizer = torch.optim.AdamW(self.parameters())
        self.wrapper = ComposedOptimWrapper(optimizer, accumulative_counts=accumulative_counts)
        self.wrapper.initialize_count_status(self, 0, 20)
        self.runner = SimpleNamespace(model=self, optim_wrapper=self.wrapper)

    def forward(self, inputs, data_samples=None, mode='loss'):
        images = torch.stack(inputs) if isinstance(inputs, list) else inputs
        taken = 10 * (self.layer.weight.grad is not None) + 10 * bool(self.wrapper.optimizer.state)
        if len(images) + taken > self.limit:
            raise torch.OutOfMemoryError('CUDA out of memory.')
        return dict(loss=self.layer(images.float().mean((2, 3))).mean())


@pytest.mark.parametrize('batch', [32, 64])
@pytest.mark.parametrize(('accumulative_counts', 'largest'), [(1, 40), (2, 30), (8, 30)])
def test_the_state_of_the_optimizer_and_accumulated_gradients_take_their_room(
    accumulative_counts, largest, batch, monkeypatch
):
    on_a_card(monkeypatch)
    card, subject = Resident(50, accumulative_counts), Subject(Config(), '')
    data = dict(inputs=torch.rand(8, 3, 8, 8), data_samples=[DataSample()] * 8)
    counts = accumulation_counts(card.wrapper)
    (found,) = check_memory(subject, card.runner, data, batch)
    assert subject.facts['memory']['largest'] == largest
    assert found.level == ('note' if largest >= batch else 'problem')
    assert accumulation_counts(card.wrapper) == counts


def test_the_estimate_of_an_accumulating_training_has_the_optimizer_once(runner):
    runner.model.layers.append(nn.Flatten()).append(nn.LazyLinear(200))
    found = []
    for accumulative_counts in (1, 4):
        model = deepcopy(runner.model)
        model.layers(torch.zeros(2, 3, 32, 32))
        wrapper = OptimWrapper(torch.optim.Adam(model.parameters()), accumulative_counts=accumulative_counts)
        subject = Subject(Config(), '')
        list(check_memory(subject, SimpleNamespace(model=model, optim_wrapper=wrapper), DATA, 64))
        found.append(subject.facts['memory']['bytes'])
    assert found[1] == pytest.approx(found[0], rel=0.02)


def test_a_step_that_fails_after_unscaling_bars_no_other(monkeypatch):
    """Of float16: the optimizer's own step may want memory, too."""
    on_a_card(monkeypatch)
    card = Resident(10**6, 1)
    card.wrapper = ComposedOptimWrapper(torch.optim.AdamW(card.parameters()))
    card.wrapper.precision.scaler = torch.amp.GradScaler('cpu')
    card.runner.optim_wrapper, failing = card.wrapper, [None, torch.OutOfMemoryError('CUDA out of memory.')]
    card.wrapper.optimizer.register_step_pre_hook(lambda *_: raise_first(failing))
    data = dict(inputs=torch.rand(8, 3, 8, 8), data_samples=[DataSample()] * 8)
    step = batch_memory.TrainStep(card.runner)
    assert [batch_memory._fits(step, data, True) for _ in range(3)] == [True, False, True]


def raise_first(errors):
    error = errors.pop(0) if errors else None
    if error is not None:
        raise error


def test_an_error_that_is_not_of_the_memory_is_not_taken_for_it(monkeypatch):
    on_a_card(monkeypatch)
    card = Resident(10**6, 1)
    data = dict(inputs=torch.rand(8, 3, 8, 8), data_samples=[DataSample()] * 8)
    plain = card.layer.forward

    def fail_with_many(images):
        if len(images) > 2:
            raise RuntimeError('The size of tensor a (3) must match the size of tensor b (2)')
        return plain(images)

    card.layer.forward = fail_with_many
    with pytest.raises(RuntimeError, match='size of tensor'):
        list(check_memory(Subject(Config(), ''), card.runner, data, 8))
