"""The log lists what was found; the Runner's side is in test_preprocessing_version_hook.py."""

from types import SimpleNamespace

from mmengine.dataset import ConcatDataset, RepeatDataset

from hybridcls.datasets import Digits
from hybridcls.engine.hooks import DataReportHook


class Described(Digits):
    """Says something."""

    def describe(self):
        """Say its split."""
        return f'{len(self)} of {self.split}'


def test_each_part_is_described_once():
    said = []
    train = ConcatDataset([Described(split='train', indices=5), Described(split='test', indices=4), Digits()])
    loops = dict(
        train_loop=SimpleNamespace(dataloader=SimpleNamespace(dataset=train)),
        val_loop=SimpleNamespace(
            dataloader=SimpleNamespace(dataset=RepeatDataset(Described(split='test', indices=4), 2))
        ),
        test_loop=SimpleNamespace(dataloader=SimpleNamespace(dataset=Described(split='test', indices=3))),
    )
    runner = SimpleNamespace(**loops, logger=SimpleNamespace(info=said.append))
    hook = DataReportHook()
    hook.before_train(runner)
    for _ in range(2):
        hook.before_val(runner)
    hook.before_test(runner)
    assert said == ['5 of train', '4 of test', '3 of test']
