"""Measure how well scores separate unknown from known categories."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from mmengine.evaluator import BaseMetric

from hybridcls.checks import check_choice, check_number
from hybridcls.functional import auroc, fpr_at_tpr
from hybridcls.registry import METRICS
from hybridcls.renames import keeps_old_spellings

from .prediction_fields import check_scores, label_of, read_scores
from .result_names import without_result

__all__ = ['OODMetric']


@METRICS.register_module()
@keeps_old_spellings
class OODMetric(BaseMetric):
    """AUROC and FPR95 of scores that should be high for images of unknown categories.

    Unknown images are those with the label -1 (transform ``MarkUnknown``), or with a label that the model has no class
    for. *Every score is high where an image looks unknown.* The results of each score, in percent:

    - ``auroc_<score>``: how often an unknown image has the higher score of a random pair; ties count half, 50 is
      chance. Higher is better.
    - ``fpr95_<score>``: the share of unknown images that are accepted at the threshold that accepts 95 % of the known
      ones. Lower is better. (See :func:`hybridcls.functional.fpr_at_tpr` for the convention.)
    - ``fpr95_ood_positive_<score>``, with ``positive='unknown'``, instead of it: the share of *known* images that are
      rejected at the threshold that rejects 95 % of the unknown ones, as in codes with the unknown as the positive
      side. Lower is better. The smallest share from 95 % on is used; the code of outlier exposure
      (hendrycks/outlier-exposure) uses the one nearest to 95 % on either side.

    A score that is NaN counts as wrong: a diverged model scores badly, not by chance. Without images of both kinds
    there is no result, but a warning.

    Args:
        scores (str | Sequence[str]): ``'epistemic'``, ``'aleatoric'``, ``'total'``, ``'vacuity'``,
            ``'least_confidence'`` (1 - the largest probability, for every classifier) or ``'entropy'`` (the same).
            Defaults to ``('least_confidence', )``.
        recall (float): The share of the positive side to recognize, in (0, 1]; the name has it in percent
            (``fpr90_...``). Defaults to 0.95.
        positive (str): Which images are the positive side of FPR: ``'known'`` or ``'unknown'``. Defaults to
            ``'known'``.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None, which means ``'ood'``.

    Raises:
        ValueError: If a score does not exist, ``recall`` is out of range, or ``positive`` is none of the two.
        MissingFieldError: If the predictions lack a score, or samples a label.

    Example:
        >>> metric = OODMetric()
        >>> scores = [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]
        >>> metric.process(None, [dict(pred_score=torch.tensor(score), gt_label=torch.tensor([label]))
        ...                       for score, label in zip(scores, [0, 1, -1])])
        >>> metric.evaluate(size=3)
        {'ood/auroc_least_confidence': 100.0, 'ood/fpr95_least_confidence': 0.0}
    """

    default_prefix = 'ood'
    units = {'*': '%'}

    def __init__(
        self,
        scores: Union[str, Sequence[str]] = ('least_confidence',),
        recall: float = 0.95,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
        positive: str = 'known',
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        check_number('OODMetric', 'recall', recall, 0, 1, low_open=True)
        check_choice('OODMetric', 'positive', positive, ('known', 'unknown'))
        self.positive = positive
        self.scores = check_scores('OODMetric', scores)
        self.recall = recall
        self.directions = {
            name: direction
            for score in self.scores
            for name, direction in ((f'auroc_{score}', 'greater'), (f'{self._fpr}_{score}', 'less'))
        }

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the scores of each image, and whether it is known."""
        for sample in data_samples:
            scores = read_scores('OODMetric', sample, self.scores)
            self.results.append((label_of('OODMetric', sample).known, scores))

    def compute_metrics(self, results: list[tuple[bool, list[float]]]) -> dict[str, float]:
        """Compare known and unknown images. Runs in the main process, with each image once."""
        known = torch.tensor([is_known for is_known, _ in results], dtype=torch.bool)
        if not known.any() or known.all():
            known_images, unknown_images = int(known.sum()), int((~known).sum())
            return without_result(
                self,
                f'Expected images of known and of unknown categories, got {known_images} known and {unknown_images} '
                'unknown. Unknown ones have the label -1: add the transform MarkUnknown to their data set, and '
                'concatenate it with the known ones by ConcatDataset.',
            )
        metrics = {}
        for name, values in zip(self.scores, torch.tensor([row for _, row in results]).double().unbind(1), strict=True):
            inside = values[known].nan_to_num(torch.inf, torch.inf, -torch.inf)
            outside = values[~known].nan_to_num(-torch.inf, torch.inf, -torch.inf)
            metrics[f'auroc_{name}'] = 100 * auroc(inside, outside).item()
            sides = (inside, outside) if self.positive == 'known' else (-outside, -inside)
            metrics[f'{self._fpr}_{name}'] = 100 * fpr_at_tpr(*sides, self.recall).item()
        return metrics

    @property
    def _fpr(self) -> str:
        return f'fpr{100 * self.recall:g}' + ('_ood_positive' if self.positive == 'unknown' else '')
