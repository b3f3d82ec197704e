"""Evaluate the guarantees of calibrated thresholds: coverage and error of answers, coverage and size of sets."""

from collections.abc import Sequence
from typing import Any, Optional

from mmengine.evaluator import BaseMetric

from hybridcls.registry import METRICS

from .prediction_fields import NO_IMAGE, label_of
from .result_names import without_result

__all__ = ['AnsweredMetric']


@METRICS.register_module()
class AnsweredMetric(BaseMetric):
    """Coverage and error of the answers of a calibrated model, and coverage and size of its prediction sets.

    - ``coverage``, percent: images that are answered (field ``answered``), higher is better.
    - ``error``, percent: of these the wrong ones, lower is better: what ``hybridcls calibrate --risk`` bounds. An image
      of an unknown category (label -1, or one that the model has no class for) is wrong wherever it is answered.
    - ``set_coverage``, percent: images of known classes whose set (field ``prediction_set``) has the right class: what
      ``--sets`` bounds from below.
    - ``set_size``: the mean number of classes in a set, lower is better.

    Predictions have these fields with a calibration that has thresholds (``hybridcls test --calibration``); of others
    there is no result, but a warning.

    Args:
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None, which means ``'answered'``.

    Raises:
        MissingFieldError: If samples lack a score or a label.

    Example:
        >>> import torch
        >>> metric = AnsweredMetric()
        >>> metric.process(None, [
        ...     dict(pred_score=torch.tensor([0.9, 0.1]), pred_label=torch.tensor([0]), gt_label=torch.tensor([label]),
        ...          answered=torch.tensor([answered])) for label, answered in ((0, True), (1, True), (1, False))])
        >>> result = metric.evaluate(size=3)
        >>> round(result['answered/coverage'], 1), result['answered/error']
        (66.7, 50.0)
    """

    default_prefix = 'answered'
    directions: dict[str, Optional[str]] = {
        'coverage': 'greater', 'error': 'less', 'set_coverage': 'greater', 'set_size': 'less'
    }  # fmt: skip
    units = {'coverage': '%', 'error': '%', 'set_coverage': '%', 'set_size': 'classes'}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep for each image whether it is answered, whether wrongly, and whether its set is right and how large."""
        for sample in data_samples:
            label = label_of('AnsweredMetric', sample)
            answered, chosen = sample.get('answered'), sample.get('prediction_set')
            wrong = int(sample['pred_label']) != label.value
            self.results.append(
                (
                    None if answered is None else (bool(answered), wrong),
                    None if chosen is None or not label.known else (label.value in chosen.tolist(), len(chosen)),
                )
            )

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Average over the images. Runs in the main process, with each image once."""
        if not results:
            return without_result(self, NO_IMAGE)
        metrics = {}
        answers, sets = ([one for one in column if one is not None] for column in zip(*results, strict=True))
        if not answers and not sets:
            return without_result(
                self,
                "No prediction has the field 'answered' or 'prediction_set': test with a calibration that has them.",
            )
        if answers:
            wrong = [is_wrong for is_answered, is_wrong in answers if is_answered]
            metrics['coverage'] = 100 * len(wrong) / len(answers)
            if wrong:
                metrics['error'] = 100 * sum(wrong) / len(wrong)
            else:
                without_result(self, "Every image is answered with 'unknown'.", ['error'])
        if sets:
            metrics['set_coverage'] = 100 * sum(is_right for is_right, _ in sets) / len(sets)
            metrics['set_size'] = sum(size for _, size in sets) / len(sets)
        return metrics
