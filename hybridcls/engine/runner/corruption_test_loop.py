"""Test a model on clean images, then on images with increasingly severe corruptions."""

from collections.abc import Sequence
from typing import Any, Optional, Union

from mmengine.evaluator import DumpResults
from mmengine.runner import TestLoop

from hybridcls.checks import check_choice, check_number
from hybridcls.compat.torch import drop_iterator
from hybridcls.datasets.dataset_nodes import leaves_of
from hybridcls.datasets.transforms.corrupt import CORRUPTIONS, SEVERITIES, Corrupt
from hybridcls.registry import LOOPS

__all__ = ['CorruptionTestLoop']


@LOOPS.register_module()
class CorruptionTestLoop(TestLoop):
    """Evaluate the test set without corruption, and once for each corruption and severity.

    The results of the clean images keep their names; those of corrupted ones have the prefix ``corruption/blur_3/``
    (kind and severity). ``corruption/blur/...`` is the mean over the severities, ``corruption/mean/...`` that over all.
    Of corrupted images only numbers are kept, no tables; means leave out the ends of intervals, whose mean is no end.

    Images are corrupted before the last transform of each pipeline (``PackInputs``), at the size that the model sees.

    Args:
        runner, dataloader, evaluator, fp16: As in mmengine's ``TestLoop``.
        corruptions (str | Sequence[str]): Which, see :class:`hybridcls.datasets.transforms.Corrupt`. Defaults to all.
        severities (int | Sequence[int]): From 1 to 5. Defaults to all.
        seed (int): Of the noise. Defaults to 0.

    Raises:
        ValueError: If a corruption does not exist, a severity is out of range, a dataset has no pipeline, or the
            predictions are to be written, which those of the last pass would replace.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        evaluator: Any,
        fp16: bool = False,
        corruptions: Union[str, Sequence[str]] = CORRUPTIONS,
        severities: Union[int, Sequence[int]] = SEVERITIES,
        seed: int = 0,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        self.corruptions = (corruptions,) if isinstance(corruptions, str) else tuple(corruptions)
        self.severities = (severities,) if isinstance(severities, int) else tuple(severities)
        for kind in self.corruptions:
            check_choice('CorruptionTestLoop', 'corruptions', kind, CORRUPTIONS)
        for severity in self.severities:
            check_number('CorruptionTestLoop', 'severities', severity, 1, 5, integer=True)
        if any(isinstance(metric, DumpResults) for metric in self.evaluator.metrics):
            raise ValueError(
                'CorruptionTestLoop: expected metrics, got DumpResults too: each pass would overwrite the predictions '
                'of the previous one. Write them in a test without corruptions.'
            )
        self.corrupt = Corrupt(seed=seed)
        for dataset in leaves_of(self.dataloader.dataset):
            transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', None)
            if not transforms:
                raise ValueError(
                    f'CorruptionTestLoop: expected a dataset with a pipeline, got {type(dataset).__name__}.'
                )
            if self.corrupt not in transforms:  # datasets may share a pipeline
                transforms.insert(len(transforms) - 1, self.corrupt)

    def run(self) -> dict:
        """Run all passes, and return all results."""
        self.runner.call_hook('before_test')
        metrics = self._pass(None)
        corrupted: dict[str, list[dict[str, float]]] = {kind: [] for kind in self.corruptions}
        for kind in self.corruptions:
            for severity in self.severities:
                self.runner.logger.info(f'Corruption {kind}, severity {severity}.')
                numbers = {
                    k: value for k, value in self._pass(kind, severity).items() if isinstance(value, (int, float))
                }
                corrupted[kind].append(numbers)
                metrics.update({f'corruption/{kind}_{severity}/{name}': value for name, value in numbers.items()})
        corrupted['mean'] = [numbers for passes in corrupted.values() for numbers in passes]
        for title, passes in corrupted.items():
            for name in dict.fromkeys(name for numbers in passes for name in numbers):
                values = [numbers[name] for numbers in passes if name in numbers]
                if not name.endswith(('_low', '_high')):
                    metrics[f'corruption/{title}/{name}'] = sum(values) / len(values)
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.call_hook('after_test')
        return metrics

    def _pass(self, kind: Optional[str], severity: int = 1) -> dict:
        self.corrupt.set(kind, severity)
        drop_iterator(self.dataloader)  # workers that persist have the transform as it was
        self.runner.call_hook('before_test_epoch')
        self.runner.model.eval()
        for number, batch in enumerate(self.dataloader):
            self.run_iter(number, batch)
        return self.evaluator.evaluate(len(self.dataloader.dataset))
