"""Measure how well scores separate unknown from known categories."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from mmengine.evaluator import BaseMetric

from hybridcls.registry import METRICS
from hybridcls.renames import keeps_old_spellings

from .ood_results import OODResults
from .prediction_fields import check_scores, label_of, read_scores
from .result_bounds import ResultBounds

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

    - ``aupr_known_<score>`` and ``aupr_unknown_<score>``, with ``aupr=True``: the area under the precision-recall curve
      with the known images as the positive side (AUPR-In), and with the unknown ones (AUPR-Out). Higher is better;
      chance is the share of the positive side.

    A score that is NaN counts as wrong: a diverged model scores badly, not by chance. Without images of both kinds
    there is no result, but a warning.

    Args:
        scores (str | Sequence[str]): ``'epistemic'``, ``'aleatoric'``, ``'total'``, ``'vacuity'``,
            ``'least_confidence'`` (1 - the largest probability, for every classifier) or ``'entropy'`` (the same).
            Defaults to ``('least_confidence', )``.
        recall (float): The share of the positive side to recognize, in (0, 1]; the name has it in percent
            (``fpr90_...``). Defaults to 0.95.
        positive (str): Which images are the positive side of FPR: ``'known'``, ``'unknown'`` or ``'both'``. Defaults
            to ``'known'``.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None, which means ``'ood'``.
        aupr (bool): Add the areas under the precision-recall curves. Defaults to False.
        confidence (float, optional): Add the ends of bootstrap intervals of this confidence (``auroc_<score>_low``,
            ``..._high``). Defaults to None.
        group (str, optional): Field of the samples whose images belong together; the bootstrap draws groups. Defaults
            to None.

    Raises:
        ValueError: If a score does not exist, ``recall`` is out of range, or ``positive`` is none of the three.
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
        aupr: bool = False,
        confidence: Optional[float] = None,
        group: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.scores = check_scores('OODMetric', scores)
        self.bounds = ResultBounds('OODMetric', confidence, group)
        self.of_scores = OODResults.checked('OODMetric', recall, positive, aupr, self.bounds)
        self.directions = self.of_scores.directions(self.scores)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the scores of each image, whether it is known, and its group."""
        for sample in data_samples:
            scores = read_scores('OODMetric', sample, self.scores)
            self.results.append((label_of('OODMetric', sample).known, scores, self.bounds.group_of(sample)))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Compare known and unknown images. Runs in the main process, with each image once."""
        known = torch.tensor([is_known for is_known, *_ in results], dtype=torch.bool)
        scores = torch.tensor([scores for _, scores, _ in results], dtype=torch.float64)
        return self.of_scores.compute(self, self.scores, known, scores, [group for *_, group in results])
