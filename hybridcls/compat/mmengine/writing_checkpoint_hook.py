"""mmengine's CheckpointHook with its private method for regular checkpoints made public."""

from typing import Any

from mmengine.hooks import CheckpointHook

__all__ = ['WritingCheckpointHook']


class WritingCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, whose regular checkpoints are written by the overridable :meth:`write_step`."""

    def write_step(self, runner: Any, step: int, meta: dict) -> None:
        """Write the checkpoint of a step, remove surplus ones, and note the last one.

        mmengine calls it when a checkpoint is due, and again when a validation has found the best one.

        Args:
            runner (Runner): Whose state.
            step (int): The number in its name: epochs or iterations.
            meta (dict): ``epoch`` and ``iter``: how many are done.
        """
        super()._save_checkpoint_with_step(runner, step, meta)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        self.write_step(runner, step, meta)
