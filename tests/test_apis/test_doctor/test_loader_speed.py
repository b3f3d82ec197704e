"""The slower of loader and model is named."""

import time

from mmengine.config import Config

from hybridcls.apis.doctor.loader_speed import check_speed
from hybridcls.apis.doctor.subject import Subject


class Loader:
    num_workers = 0

    def __iter__(self):
        for _ in range(3):
            time.sleep(0.02)
            yield dict(data_samples=[None] * 4)


def test_the_slower_is_the_limit(monkeypatch):
    monkeypatch.setattr('hybridcls.apis.doctor.loader_speed._MOST_BATCHES', 4)
    subject = Subject(Config(), '', facts=dict(step_seconds_an_image=0.1))
    (found,) = check_speed(subject, Loader())
    assert 'the model is the limit' in found.what
    assert 100 < subject.facts['speed']['loader'] < 205
    subject.facts['step_seconds_an_image'] = 1e-5
    (found,) = check_speed(subject, Loader())
    assert 'the loader is the limit' in found.what
    assert found.change.startswith('train_dataloader.num_workers=')
    assert list(check_speed(Subject(Config(), ''), Loader())) == []  # no step was timed
