"""The slower of loader and model is named."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config

from hybridcls.apis.doctor.loader_speed import check_speed
from hybridcls.apis.doctor.subject import Subject


class Loader:
    """Of a clock of its own: how long a process sleeps is the machine's affair."""

    num_workers = 0
    seconds = 0.0

    def __iter__(self):
        for _ in range(3):
            self.seconds += 0.02
            yield dict(data_samples=[None] * 4)


def test_the_slower_is_the_limit(monkeypatch):
    monkeypatch.setattr('hybridcls.apis.doctor.loader_speed._MOST_BATCHES', 4)
    loader = Loader()
    clock = SimpleNamespace(perf_counter=lambda: loader.seconds)
    monkeypatch.setattr('hybridcls.apis.doctor.loader_speed.time', clock)
    subject = Subject(Config(), '', facts=dict(step_seconds_an_image=0.1))
    (found,) = check_speed(subject, loader)
    assert 'the model is the bottleneck.' in found.what
    assert subject.facts['speed']['loader'] == pytest.approx(4 / 0.02)
    subject.facts['step_seconds_an_image'] = 1e-5
    (found,) = check_speed(subject, loader)
    assert 'the loader is the bottleneck.' in found.what
    assert found.change.startswith('train_dataloader.num_workers=')
    assert list(check_speed(Subject(Config(), ''), loader)) == []  # no step was timed
