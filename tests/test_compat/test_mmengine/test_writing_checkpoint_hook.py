"""The public method by which regular checkpoints are written."""

from types import SimpleNamespace

from mmengine.hooks import CheckpointHook

from hybridcls.compat.mmengine.writing_checkpoint_hook import WritingCheckpointHook


class Noting(WritingCheckpointHook):
    steps: tuple = ()

    def write_step(self, runner, step, meta):
        self.steps = (*self.steps, (step, meta))


def test_mmengine_writes_by_it():
    hook = Noting(interval=1)
    runner = SimpleNamespace(epoch=2, iter=30, max_epochs=9, logger=SimpleNamespace(info=lambda text: None))
    hook.after_train_epoch(runner)
    assert hook.steps == ((3, dict(epoch=3, iter=30)),)


def test_without_a_child_it_is_mmengines(monkeypatch):
    calls = []
    monkeypatch.setattr(CheckpointHook, '_save_checkpoint_with_step', lambda self, *args: calls.append(args))
    WritingCheckpointHook(interval=1).write_step('runner', 3, {})
    assert calls == [('runner', 3, {})]
