"""Draw the learning curves of a training to its work dir."""

import json
import time
from pathlib import Path
from typing import Any, Optional

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from hybridcls.checks import check_number
from hybridcls.evaluation import ValLoss
from hybridcls.evaluation.result_names import direction_of, metric_of, unit_of
from hybridcls.registry import HOOKS
from hybridcls.renames import with_new_metric_names
from hybridcls.visualization.learning_curves import Curve, Panel, draw_learning_curves

from ..checkpoints.files import atomic_write
from ..runner.monitored_metric import guessed_rule, validation_metrics


@HOOKS.register_module()
class LearningCurvesHook(Hook):
    """Draw losses, validation results and the learning rate to ``learning_curves.png``.

    The picture is drawn after validations, not more often than every ``seconds_between``, and at the end. It has a
    panel for what is measured in nats (losses, likelihoods), one for percentages and one for all else, as the metrics
    say (``units``); the best point of a curve is marked where its metric says which way is better (``directions``, both
    in :mod:`hybridcls.evaluation.result_names`). Of other metrics, what contains ``loss`` is taken for a loss.

    After a resume the curves are whole: those of the training come from the message hub, which a checkpoint holds, and
    the results of validations from the checkpoint (ResumeHook) and from ``learning_curves.json`` beside the picture.

    Args:
        seconds_between (float): So long the picture may be out of date; drawing takes about half a second.
            Defaults to 60.
        file_name (str): Within the work dir; a ``.png``. Defaults to ``'learning_curves.png'``.

    Raises:
        ValueError: If a number is negative or the file is no ``.png``.
    """

    priority = 'VERY_LOW'  # after the hooks that write the numbers of a training step down

    def __init__(self, seconds_between: float = 60.0, file_name: str = 'learning_curves.png') -> None:
        check_number('LearningCurvesHook', 'seconds_between', seconds_between, 0)
        if not file_name.endswith('.png'):
            raise ValueError(f'LearningCurvesHook: file_name={file_name!r} must end in .png.')
        self.seconds_between = seconds_between
        self.file_name = file_name
        self._drawn = time.monotonic()
        self._validations: list[dict[str, Any]] = []
        self._is_training = False

    def before_train(self, runner: Runner) -> None:
        """Read the validation results of the resumed run, up to its checkpoint."""
        self._drawn = time.monotonic()
        self._is_training = True
        numbers = self._numbers_file(runner)
        written = json.loads(numbers.read_text()) if numbers.is_file() else []
        known = [*self._validations, *with_new_metric_names(written)]
        by_iteration = {one['iter']: one for one in known if one['iter'] <= runner.iter}
        self._validations = [by_iteration[iteration] for iteration in sorted(by_iteration)]

    def state_dict(self) -> dict:
        """Return the validation results so far; ResumeHook saves them."""
        return dict(validations=self._validations)

    def load_state_dict(self, state: dict) -> None:
        """Restore the validation results."""
        self._validations = state['validations']

    def after_val_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        """Store the results of this validation, and redraw an outdated picture."""
        if (
            not self._is_training or runner.rank != 0
        ):  # runner.val() alone; before the first update HeadFirstHook validates
            return
        values = {name: float(value) for name, value in (metrics or {}).items() if isinstance(value, (int, float))}
        self._validations = [one for one in self._validations if one['iter'] < runner.iter]  # not the same one twice
        self._validations.append(dict(iter=runner.iter, metrics=values))
        atomic_write(json.dumps(self._validations).encode(), self._numbers_file(runner))
        if time.monotonic() - self._drawn >= self.seconds_between:
            self._draw(runner)

    def after_train(self, runner: Runner) -> None:
        """Draw the final picture."""
        self._is_training = False
        if runner.rank == 0:
            self._draw(runner)

    def _numbers_file(self, runner: Runner) -> Path:
        return Path(runner.work_dir, self.file_name).with_suffix('.json')

    def _draw(self, runner: Runner) -> None:
        per_epoch = len(runner.train_dataloader) if isinstance(runner.train_loop, EpochBasedTrainLoop) else 1
        panels = {name: Panel(name, {}, {}) for name in ('loss (nats)', 'percent', 'other results')}
        learning_rate: dict[str, Curve] = {}
        for name, buffer in runner.message_hub.log_scalars.items():
            if name.startswith('train/') and ('loss' in name or name in ('train/lr', 'train/base_lr')):
                values = [float(value) for value in buffer.data[0]]
                # Logged once an iteration, the last of them now.
                first = runner.iter - len(values) + 1
                curve = ([(first + index) / per_epoch for index in range(len(values))], values)
                if 'loss' in name:
                    panels['loss (nats)'].curves[name.replace('/', ' ', 1)] = curve
                elif not learning_rate or name == 'train/base_lr':
                    learning_rate = {'learning rate': curve}
        metrics = validation_metrics(runner)
        for name in dict.fromkeys(name for one in self._validations for name in one['metrics']):
            those = [one for one in self._validations if name in one['metrics']]
            curve = ([one['iter'] / per_epoch for one in those], [one['metrics'][name] for one in those])
            panel = panels[_panel_of(name, metrics)]
            if isinstance(metric_of(name, metrics), ValLoss) and panel.name == 'percent' and _is_drawn(curve, panel):
                continue  # the head's own accuracy, which Accuracy reports too
            label = f'val {name.removeprefix("val/")}'
            panel.curves[label] = curve
            panel.directions[label] = direction_of(name, metrics) or (
                guessed_rule(name) if metric_of(name, metrics) is None else None
            )
        if any(panel.curves for panel in panels.values()):
            axis = 'epoch' if per_epoch > 1 else 'iteration'
            all_panels = [*panels.values(), Panel('learning rate', learning_rate, is_schedule=True)]
            atomic_write(
                draw_learning_curves(all_panels, axis, runner.experiment_name), Path(runner.work_dir, self.file_name)
            )
        self._drawn = time.monotonic()


def _panel_of(name: str, metrics: list[BaseMetric]) -> str:
    unit = unit_of(name, metrics)
    if unit == 'nats' or (unit is None and 'loss' in name):
        return 'loss (nats)'
    return 'percent' if unit == '%' else 'other results'


def _is_drawn(curve: Curve, panel: Panel) -> bool:
    """Return whether the panel already has a curve with the same values."""
    drawn = panel.curves.values()
    return any(curve[0] == positions and np.allclose(curve[1], values, atol=1e-3) for positions, values in drawn)
