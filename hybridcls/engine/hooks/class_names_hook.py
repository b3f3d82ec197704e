"""Number the classes of every dataset as the model does, by their names."""

from collections.abc import Sequence
from typing import Any, Optional

from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.engine.hooks import ClassNumCheckHook
from mmpretrain.evaluation import ConfusionMatrix, SingleLabelMetric

from hybridcls.checks import listed
from hybridcls.compat.mmengine import bare_model, built_loop, resumes
from hybridcls.datasets.class_numbering import ClassNumbering, Remark, class_names_of
from hybridcls.datasets.samplers.dataset_labels import label_lists
from hybridcls.evaluation import (
    Accuracy,
    AnsweredMetric,
    CalibrationMetric,
    ClassReport,
    DumpResults,
    OODMetric,
    SelectiveMetric,
    ValLoss,
)  # fmt: skip
from hybridcls.registry import HOOKS
from hybridcls.structures import ClassNames

from ..config.model_classes import training_class_names

_MOST_NAMES = 20  # that are written out


@HOOKS.register_module()
class ClassNamesHook(Hook):
    """Renumber the labels of validation, test and bank by the names of the model's classes; every run has this hook.

    The model's classes are those of the training data; in a test those that the checkpoint names, so that no training
    image is needed, or else those of the training data of the config. A class that only another dataset names gets a
    number behind them, the same in all datasets of the run: losses leave such images out, metrics count them as
    unknown or as wrong, and retrieval finds them. The log has a line for each dataset. See
    :class:`~hybridcls.datasets.ClassNumbering` for labels that are numbers without names.

    Without an image of a class of the model the shares of right answers say nothing. If no metric compares images with
    each other, as ``RetrievalMetric`` does, that is an error.

    Raises:
        ValueError: Before anything is computed: if the evaluated images have no class in common with the model, if the
            training joins datasets with other numbers, if a checkpoint to resume has other classes, if a list has
            numbers beyond the classes, or if a metric cannot take images of unknown classes.
    """

    def __init__(self) -> None:
        self._numbering: Optional[ClassNumbering] = None
        self._loaded: Optional[ClassNames] = None
        self._done: set[int] = set()

    def before_run(self, runner: Runner) -> None:
        """Reject mmpretrain's ClassNumCheckHook where it would take a backbone's ``num_classes`` for the head's."""
        if not any(isinstance(hook, ClassNumCheckHook) for hook in runner.hooks):
            return
        of_head = _num_classes_of(runner.model)
        for name, module in runner.model.named_modules():
            if getattr(module, 'num_classes', of_head) != of_head:
                raise ValueError(
                    f'ClassNumCheckHook: expected num_classes={of_head} in each part of the model, as its head has, '
                    f'got {module.num_classes} in {name}. Take it out of custom_hooks: ClassNamesHook, which every run '
                    'has, compares the classes by name.'
                )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the class names that the checkpoint was trained with."""
        self._loaded = ClassNames.of_checkpoint(checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Compare the classes with the checkpoint's, and renumber the validation data, before the first step."""
        names = class_names_of(runner.train_dataloader.dataset)
        if names is not None:
            _check_labels(runner.train_dataloader.dataset, names, _num_classes_of(runner.model))
        if names is not None and self._loaded is not None:
            self._compare(runner, names, self._loaded)
        self._renumber_loop(runner, 'val')

    def before_val(self, runner: Runner) -> None:
        """Renumber the validation data, if that has not been done."""
        self._renumber_loop(runner, 'val')

    def before_test(self, runner: Runner) -> None:
        """Renumber the test data."""
        self._renumber_loop(runner, 'test')

    def renumber(self, runner: Runner, dataset: Any, what: str) -> bool:
        """Renumber a dataset by class name, once, and log the result.

        Returns:
            bool: Whether it has images of classes that the model does not have.
        """
        return self._renumbered(runner, dataset, what).has_unknown

    def _renumbered(self, runner: Runner, dataset: Any, what: str) -> Remark:
        if self._numbering is None:
            self._numbering = ClassNumbering(self._names_of_model(runner), _num_classes_of(runner.model))
        remark = self._numbering.renumber(dataset, what)
        runner.logger.log(remark.level, remark.text)
        return remark

    def _renumber_loop(self, runner: Runner, kind: str) -> None:
        loop = built_loop(runner, kind)
        dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
        if dataset is None or id(dataset) in self._done:
            return
        self._done.add(id(dataset))
        remark = self._renumbered(runner, dataset, kind)
        evaluator = getattr(loop, 'evaluator', None)
        if remark.only and isinstance(evaluator, Evaluator):
            _check_metrics(evaluator, remark.only, self._numbering.model.names if self._numbering else (), kind)
        if hasattr(dataset, 'metainfo') and isinstance(evaluator, Evaluator):  # both have copies of what was
            evaluator.dataset_meta = runner.visualizer.dataset_meta = dataset.metainfo
            for metric in evaluator.metrics if remark.has_unknown else []:
                if isinstance(metric, (ConfusionMatrix, SingleLabelMetric)):
                    name = type(metric).__name__
                    raise ValueError(
                        f'{name}: expected images of the classes of the model, got images of other classes too (see '
                        "the log). Leave them out with dict(type='HeadMetric', known_only=True, "
                        f'metric=dict(type={name!r})).'
                    )

    def _names_of_model(self, runner: Runner) -> Optional[ClassNames]:
        loop = built_loop(runner, 'train')
        if loop is not None:
            return class_names_of(loop.dataloader.dataset)
        # An ensemble's members have checkpoints of their own.
        names = self._loaded or getattr(bare_model(runner.model), 'class_names', None)
        if names is None:
            try:
                names = training_class_names(runner.cfg)
            except FileNotFoundError:
                runner.logger.warning('The checkpoint does not name its classes, and the training images are missing.')
        return names

    @staticmethod
    def _compare(runner: Runner, names: ClassNames, loaded: ClassNames) -> None:
        if not loaded.moved(names):
            return
        before, now = listed(loaded.names, 10), listed(names.names, 10)
        if resumes(runner):
            raise ValueError(
                f'resume: expected the training data to have the classes of the checkpoint, {before}, in '
                f'their order, got {now}. Set classes=[...] in train_dataloader.dataset to those of the '
                'checkpoint, or start a new training from it: load_from without resume.'
            )
        runner.logger.warning(
            f'load_from: the classes of the checkpoint, {before}, have other numbers than in the training data, '
            f'{now}, so the weights of a classifier start with other classes.'
        )


# Of right answers, which there are none of among classes that the model does not have; and what does not mind.
_OF_ANSWERS = (
    Accuracy, AnsweredMetric, CalibrationMetric, ClassReport, ConfusionMatrix, SelectiveMetric, SingleLabelMetric,
)  # fmt: skip
_OF_EITHER = (DumpResults, OODMetric, ValLoss)


def _check_metrics(evaluator: Evaluator, own: Sequence[str], names: Sequence[str], kind: str) -> None:
    """Raise if images of other classes alone are evaluated by metrics of right answers alone."""
    of_answers = [metric for metric in evaluator.metrics if isinstance(metric, _OF_ANSWERS)]
    if not of_answers or not all(isinstance(metric, (*_OF_ANSWERS, *_OF_EITHER)) for metric in evaluator.metrics):
        return
    same = (
        f' If they are these classes under other names, in the order of the folders: --cfg-options '
        f'"{kind}_dataloader.dataset.classes={[*names]}".'
        if len(own) == len(names) <= _MOST_NAMES
        else ''
    )
    raise ValueError(
        f'{kind}: expected images of the classes of the model, {listed(names, 10)}, got only images of others, '
        f'{listed(own, 10)}: {type(of_answers[0]).__name__} would say nothing. Rename the folders (or labels) to the '
        f'classes of the model.{same} Images of unseen classes are compared with each other by RetrievalMetric.'
    )


def _check_labels(dataset: Any, names: ClassNames, num_classes: Optional[int]) -> None:
    """Raise if images are of a class that the head does not have; named classes without images may be more."""
    if num_classes is None or len(names.names) <= num_classes:
        return
    largest = max((int(labels.max()) for labels in label_lists(dataset) if len(labels)), default=-1)
    if largest >= num_classes:
        raise ValueError(
            f'train: expected a model of {len(names.names)} classes, as the training images have '
            f'({listed(names.names, 5)}), got num_classes={num_classes}. Leave num_classes out, and the classes are '
            'counted; or take the images of the other classes out.'
        )


def _num_classes_of(model: Any) -> Optional[int]:
    """Return the number of classes of a model's head, the largest of several; None without a classification head."""
    numbers = [
        module.num_classes
        for name, module in model.named_modules()
        if {'head', 'heads'} & set(name.split('.')) and isinstance(getattr(module, 'num_classes', None), int)
    ]
    return max(numbers, default=None)
