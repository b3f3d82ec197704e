"""Pass the number of training images of each class to the parts of a model that need it."""

from typing import Any, Protocol

from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from hybridcls.checks import counted, listed
from hybridcls.compat.mmengine import bare_model
from hybridcls.datasets.class_numbering import class_names_of
from hybridcls.datasets.samplers.dataset_labels import class_counts
from hybridcls.registry import HOOKS


class TakesClassCounts(Protocol):
    """A part of a model, such as a head, that can request the number of training images of each class."""

    num_classes: int
    needs_class_counts: bool

    def set_class_counts(self, counts: Tensor, num_images: int) -> str:
        """Set the counts, int64 (C,), and the number of all images; return a description of their effect."""


@HOOKS.register_module()
class ClassCountsHook(Hook):
    """Count the training labels for heads with ``class_weight='balanced'`` and the like; every run has this hook.

    It does so before the first step, after a checkpoint was loaded: a run that is resumed, and each phase, counts its
    own data, and each process does, so that all have the same numbers. No image is loaded, and where no part of the
    model has ``needs_class_counts`` nothing is done. Datasets that repeat images (``ClassBalancedDataset``) count as
    often as they repeat them; what a sampler does (``PKSampler``) is not looked at. The log says the counts once.

    Raises:
        TypeError: If the data has no labels.
        ValueError: If a label is none of the head's classes, or there is no label at all.
    """

    def before_train(self, runner: Runner) -> None:
        """Count the labels, and pass the counts to the heads."""
        parts = _parts(bare_model(runner.model))
        if not parts:
            return
        dataset = runner.train_dataloader.dataset
        # With update_buffers=True the average is validated with what follows from its own counts, no copy of these.
        averages = [_parts(hook.ema_model.module) for hook in runner.hooks if isinstance(hook, EMAHook)]
        said = []
        for name, part in parts.items():
            counts = class_counts('ClassCountsHook', dataset, part.num_classes)
            if not counts.any():
                raise ValueError(f'ClassCountsHook: expected labels in the training data for {name}, got none.')
            said.append(f'{name}: {part.set_class_counts(counts, len(dataset))}.')
            for average in averages:
                average[name].set_class_counts(counts, len(dataset))
        runner.logger.info(' '.join([_sentence(dataset, counts, len(dataset)), *said]))


def _parts(model: nn.Module) -> dict[str, Any]:
    return {name: part for name, part in model.named_modules() if getattr(part, 'needs_class_counts', False)}


def _sentence(dataset: Any, counts: Tensor, num_images: int) -> str:
    names: Any = getattr(class_names_of(dataset), 'names', None)

    def named(number: int) -> str:
        return f'class {number}' if names is None or number >= len(names) else names[number]

    present, missing = (counts > 0).nonzero().flatten().tolist(), (counts == 0).nonzero().flatten().tolist()
    fewest, most = min(present, key=counts.tolist().__getitem__), int(counts.argmax())
    without = f', none in {len(missing)}: {listed(map(named, missing), 10)}' if missing else ''
    return (
        f'{counted(num_images, "training image")}, from {counts[fewest]} of {named(fewest)} to {counts[most]} of '
        f'{named(most)} in {counted(len(present), "class", "classes")}{without}.'
    )
