"""Test a model with calibrated probabilities."""

from collections.abc import Callable
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner

from hybridcls.compat.mmengine import bare_model
from hybridcls.datasets.dataset_parts import loaders_of, parts_of, version_of
from hybridcls.evaluation import AnsweredMetric
from hybridcls.models.classifiers.calibrated_predictions import attach_calibration
from hybridcls.models.classifiers.stream_skipping import skip_streams
from hybridcls.registry import HOOKS
from hybridcls.structures import Calibration

from ..checkpoints.calibration_file import find_calibration


@HOOKS.register_module()
class CalibrationHook(Hook):
    """Calibrate the predictions of a test; ``hybridcls test`` adds it where a calibration lies beside the checkpoint.

    Where the calibration has thresholds, the results of :class:`~hybridcls.evaluation.AnsweredMetric` come with the
    others. A validation in a training is not calibrated, since its weights are others.

    Args:
        checkpoint (str): The checkpoint that is tested.
        file (str, optional): Its calibration, of ``hybridcls calibrate``. Defaults to None: the one beside it.
        skip_sure (bool): Skip a stream where the calibration says that the other is sure. Defaults to False.
        token_merging_ratio (float, optional): That of the key ``inference``. Defaults to None: as the model has it.

    Raises:
        ValueError: Before anything is loaded, if the calibration is of other weights or classes, or there is none.
    """

    priority = 'LOW'  # the preprocessing version is kept by then

    def __init__(
        self,
        checkpoint: str,
        file: Optional[str] = None,
        skip_sure: bool = False,
        token_merging_ratio: Optional[float] = None,
    ) -> None:
        self._checkpoint, self._file, self._skip_sure = checkpoint, file, skip_sure
        self._ratio = token_merging_ratio
        self._calibration: Optional[Calibration] = None
        self._remove: Optional[Callable[[], None]] = None

    def before_run(self, runner: Runner) -> None:
        """Read the calibration."""
        found = find_calibration(self._checkpoint, self._file)
        if found is None:
            raise ValueError(
                f'CalibrationHook: expected a calibration beside {self._checkpoint}, got none. Type: hybridcls '
                f'calibrate {self._checkpoint} --data FOLDER'
            )
        self._calibration = found.calibration

    def before_test(self, runner: Runner) -> None:
        """Attach the calibration."""
        if self._calibration is None:
            return
        dataset: Any = getattr(runner.test_loop.dataloader, 'dataset', None)
        loaders = [loader for part in parts_of(dataset) for loader in loaders_of(getattr(part, 'pipeline', None))]
        if self._skip_sure:
            skip_streams(bare_model(runner.model), self._calibration)
        model = bare_model(runner.model)
        self._remove = attach_calibration(model, self._calibration, version_of(loaders), self._ratio)
        if self._calibration.has_guarantee:
            runner.test_loop.evaluator.metrics.append(AnsweredMetric())

    def after_test(self, runner: Runner) -> None:
        """Detach the calibration."""
        if self._remove is not None:
            self._remove()
            self._remove = None
        if self._skip_sure:
            bare_model(runner.model).skipping = None
