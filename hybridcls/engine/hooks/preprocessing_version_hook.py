"""Read images as they were read when the checkpoint was trained."""

from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner

from hybridcls.compat.mmengine import bare_model, resumes
from hybridcls.datasets.dataset_parts import keep_version, loaders_of, parts_of
from hybridcls.registry import HOOKS
from hybridcls.structures import PREPROCESSING_VERSION, record_version, recorded_version


@HOOKS.register_module()
class PreprocessingVersionHook(Hook):
    """Record the preprocessing version in checkpoints and use it in tests and resumed runs; every run has this hook.

    A checkpoint holds ``meta['preprocessing_version']``, the ``version`` of the training's ``LoadImage``. One that
    holds none was trained before versions were recorded, with version 1. A test of it, or a run that resumes it, reads
    images the same way, so that its predictions stay what they were; the log says so. A ``version`` that is written in
    a pipeline stays. A training that only starts from a checkpoint's weights is new, and reads images as now.
    """

    def __init__(self) -> None:
        self._version: Optional[int] = None  # of the checkpoint that was loaded, or of the training

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note the version of the checkpoint."""
        self._version = recorded_version(checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Use the checkpoint's version for the training images of a resumed run."""
        if not resumes(runner):
            self._version = None
        self.after_build_dataloader(runner, runner.train_loop.dataloader)
        written = [loader.version for loader in _loaders(runner.train_loop.dataloader) if loader.version]
        self._version = written[0] if written else PREPROCESSING_VERSION

    def before_val(self, runner: Runner) -> None:
        """Use the same version for the validation images."""
        self.after_build_dataloader(runner, runner.val_loop.dataloader)

    def before_test(self, runner: Runner) -> None:
        """Use the same version for the test images."""
        self.after_build_dataloader(runner, runner.test_loop.dataloader)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Record the version of the training."""
        record_version(checkpoint, self._version or PREPROCESSING_VERSION)

    def after_build_dataloader(self, runner: Runner, dataloader: Any) -> None:
        """Use the same version for other dataloaders; hooks trigger it by ``runner.call_hook``."""
        if self._version is None:  # no checkpoint of the Runner's: those of an ensemble's members, if it is one
            self._version = getattr(bare_model(runner.model), 'preprocessing_version', None)
        if keep_version(_loaders(dataloader), self._version):
            runner.logger.info(
                f'LoadImage: the model is trained with preprocessing version {self._version}, which is kept (1: '
                'transparency is dropped, and 16-bit images keep the upper 8 bits). Set '
                f'version={PREPROCESSING_VERSION} in LoadImage to use the current preprocessing.'
            )


def _loaders(dataloader: Any) -> list:
    parts = parts_of(getattr(dataloader, 'dataset', None))
    return [loader for part in parts for loader in loaders_of(getattr(part, 'pipeline', None))]
