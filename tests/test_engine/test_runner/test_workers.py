"""The workers of a Runner end with its training."""

from types import SimpleNamespace

from mmengine.runner.base_loop import BaseLoop
from torch.utils.data import DataLoader

from hybridcls.engine.runner.workers import end_workers


class Loop(BaseLoop):
    def run(self):
        return None


def test_long_lived_workers_end_and_loops_that_are_not_built_stay_so():
    loader = DataLoader([1, 2], num_workers=1, persistent_workers=True)
    iterator = iter(loader)
    next(iterator)
    workers = list(iterator._workers)
    assert all(worker.is_alive() for worker in workers)
    loop = Loop(None, loader)
    loop.dataloader_iterator = iterator
    del iterator
    runner = SimpleNamespace(_train_loop=loop, _val_loop=dict(type='ValLoop'), _test_loop=None)
    end_workers(runner)
    for worker in workers:
        worker.join(10)
    assert not any(worker.is_alive() for worker in workers)
    assert loop.dataloader_iterator is None
    assert runner._val_loop == dict(type='ValLoop')
