"""Log which images each dataset found."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from hybridcls.datasets.dataset_parts import parts_of
from hybridcls.registry import HOOKS


@HOOKS.register_module()
class DataReportHook(Hook):
    """Log once which images each dataset found, before its first use; every run has this hook.

    A dataset says it by a method ``describe()`` (:meth:`hybridcls.datasets.ImageFolder.describe`); others say nothing.
    """

    def __init__(self) -> None:
        self._described: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Describe the training data."""
        self.after_build_dataloader(runner, runner.train_loop.dataloader)

    def before_val(self, runner: Runner) -> None:
        """Describe the validation data."""
        self.after_build_dataloader(runner, runner.val_loop.dataloader)

    def before_test(self, runner: Runner) -> None:
        """Describe the test data."""
        self.after_build_dataloader(runner, runner.test_loop.dataloader)

    def after_build_dataloader(self, runner: Runner, dataloader: Any) -> None:
        """Describe other data; hooks with their own dataloader trigger it by ``runner.call_hook``."""
        for part in parts_of(getattr(dataloader, 'dataset', None)):
            said = part.describe() if hasattr(part, 'describe') else ''
            if said and said not in self._described:
                self._described.add(said)
                runner.logger.info(said)
