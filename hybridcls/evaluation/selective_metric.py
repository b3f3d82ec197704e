"""Measure selective prediction: the error when uncertain images are rejected."""

import math
from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from hybridcls.checks import check_choice, check_number
from hybridcls.functional.metrics import (
    ResampledRanks,
    area_under_risk_coverage,
    auroc,
    coverage_at_risk,
    least_area_under_risk_coverage,
    risk_coverage,
)
from hybridcls.registry import METRICS
from hybridcls.renames import keeps_old_spellings

from .prediction_fields import NO_IMAGE, NO_KNOWN_IMAGE, check_scores, label_of, read_scores
from .result_bounds import ResultBounds
from .result_names import without_result

__all__ = ['SelectiveMetric']


@METRICS.register_module()
@keeps_old_spellings
class SelectiveMetric(BaseMetric):
    """Risk of a classifier that rejects the most uncertain images.

    For each score, in percent, lower is better (:mod:`hybridcls.functional.metrics.selective_prediction`; images of
    equal uncertainty count with their mean error, whatever their order):

    - ``aurc_<score>``: the error averaged over all coverages; papers often give it times 1000.
    - ``eaurc_<score>``: its excess over the best possible score, which ranks all wrong predictions last; with
      ``eaurc='asymptotic'`` its excess over the formula of Geifman et al. for many images
      (:func:`hybridcls.functional.least_area_under_risk_coverage`), which may be negative for few images.
    - ``risk80_<score>``: the error of the 80 % least uncertain images, for each of ``coverages``, rounded up to whole
      images (of 5 at 0.5: 3).
    - ``auroc_<score>``, with ``failure_auroc=True``, higher is better: how often, of a wrong and a right prediction,
      the wrong one has the higher score; ties count half. No result if all predictions are right, or all wrong.
    - ``coverage_risk5_<score>``, for each of ``risks``, higher is better: the largest share of images, in percent, that
      a threshold answers with an error of at most 5 % on these images
      (:func:`hybridcls.functional.metrics.coverage_at_risk`); 0 where there is none. On other images the error may be
      larger: it promises nothing.

    An image with a ``pred_score`` that is NaN is wrong. An image of an unknown category (label -1, or one that the
    model has no class for) is left out; ``OODMetric`` evaluates it. With ``unknown_is_error=True`` it counts as wrong.

    Args:
        scores (str | Sequence[str]): As in ``OODMetric``. Defaults to ``('least_confidence', )``.
        coverages (Sequence[float]): Shares of accepted images, in (0, 1]. Defaults to (0.8, 0.9).
        unknown_is_error (bool): Whether images of unknown categories count. Defaults to False.
        eaurc (str): ``'exact'`` or ``'asymptotic'``. Defaults to ``'exact'``.
        failure_auroc (bool): Add the AUROC of errors. Defaults to False.
        risks (Sequence[float]): Errors among answered images, in [0, 1]. Defaults to ``()``.
        confidence (float, optional): Add the ends of bootstrap intervals of this confidence (``aurc_<score>_low``,
            ``..._high``). Defaults to None.
        group (str, optional): Field of the samples whose images belong together; the bootstrap draws groups. Defaults
            to None.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None, which means ``'selective'``.

    Raises:
        ValueError: If a score does not exist, a coverage is out of range, or ``eaurc`` is none of the two.
        MissingFieldError: If the predictions lack a score, or samples a label.

    Example:
        >>> metric = SelectiveMetric(coverages=(0.5, ))
        >>> scores = [[0.9, 0.1], [0.6, 0.4]]
        >>> metric.process(None, [dict(pred_score=torch.tensor(score), gt_label=torch.tensor([label]))
        ...                       for score, label in zip(scores, [0, 1])])
        >>> metric.evaluate(size=2)['selective/aurc_least_confidence']  # only the less confident image is wrong
        25.0
    """

    default_prefix = 'selective'
    units = {'*': '%'}

    def __init__(
        self,
        scores: Union[str, Sequence[str]] = ('least_confidence',),
        coverages: Sequence[float] = (0.8, 0.9),
        unknown_is_error: bool = False,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
        eaurc: str = 'exact',
        failure_auroc: bool = False,
        risks: Sequence[float] = (),
        confidence: Optional[float] = None,
        group: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        check_choice('SelectiveMetric', 'eaurc', eaurc, ('exact', 'asymptotic'))
        for coverage in coverages:
            check_number('SelectiveMetric', 'coverages', coverage, 0, 1, low_open=True)
        for risk in risks:
            check_number('SelectiveMetric', 'risks', risk, 0, 1)
        self.scores = check_scores('SelectiveMetric', scores)
        self.risks = tuple(risks)
        self.bounds = ResultBounds('SelectiveMetric', confidence, group)
        self.coverages = tuple(coverages)
        self.unknown_is_error = unknown_is_error
        self.eaurc = eaurc
        self.failure_auroc = failure_auroc
        kinds = ['aurc', 'eaurc', *(f'risk{100 * coverage:g}' for coverage in self.coverages)]
        better = {f'{kind}_{score}': 'less' for score in self.scores for kind in kinds}
        kinds = ['auroc'] * failure_auroc + [f'coverage_risk{100 * risk:g}' for risk in self.risks]
        better.update({f'{kind}_{score}': 'greater' for score in self.scores for kind in kinds})
        self.directions = self.bounds.directions(better)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the scores of each image and whether its prediction is wrong."""
        for sample in data_samples:
            label = label_of('SelectiveMetric', sample)
            if label.known or self.unknown_is_error:
                scores = sample['pred_score']
                wrong = bool(scores.isnan().any()) or int(scores.argmax()) != label.value
                uncertainty = read_scores('SelectiveMetric', sample, self.scores)
                self.results.append((wrong, uncertainty, self.bounds.group_of(sample)))
            else:
                self.results.append(())  # mmengine would drop None, and count an image that pads a batch

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Rank and average. Runs in the main process, with each image once."""
        rows = [row for row in results if row]
        if not rows:
            return without_result(self, NO_KNOWN_IMAGE if results else NO_IMAGE)
        errors = torch.tensor([wrong for wrong, *_ in rows]).double()
        values = torch.tensor([scores for _, scores, _ in rows], dtype=torch.float64)
        if self.failure_auroc and errors.min() == errors.max():
            kind = 'wrong' if errors.any() else 'right'
            why = f'Expected right and wrong predictions, got {len(rows)} {kind} ones.'
            without_result(self, why, [f'auroc_{name}' for name in self.scores])
        found = self._of(errors, values)

        def statistic(weights: Tensor) -> Tensor:
            of_all = self._of_resamples(errors, values, weights)
            return torch.stack([of_all[name] for name in found], 1)

        return self.bounds.of_resamples(self, found, statistic, [group for *_, group in rows])

    def _of(self, errors: Tensor, scores: Tensor) -> dict[str, float]:
        least = least_area_under_risk_coverage(errors, asymptotic=self.eaurc == 'asymptotic')
        metrics = {}
        for name, values in zip(self.scores, scores.unbind(1), strict=True):
            area, risks = area_under_risk_coverage(values, errors), risk_coverage(values, errors)
            metrics[f'aurc_{name}'] = 100 * area.item()
            excess = area - least
            metrics[f'eaurc_{name}'] = 100 * (excess if self.eaurc == 'asymptotic' else excess.clamp_min(0)).item()
            if self.failure_auroc and errors.min() < errors.max():
                known = values.nan_to_num(torch.inf, torch.inf, -torch.inf)  # as in risk_coverage
                metrics[f'auroc_{name}'] = 100 * auroc(known[errors == 0], known[errors == 1]).item()
            for coverage in self.coverages:
                # 0.07 * 100 is a little more than 7 in binary.
                accepted = max(1, math.ceil(coverage * len(errors) - 1e-9))
                metrics[f'risk{100 * coverage:g}_{name}'] = 100 * risks[accepted - 1].item()
            for risk in self.risks:
                metrics[f'coverage_risk{100 * risk:g}_{name}'] = 100 * coverage_at_risk(values, errors, risk).item()
        return metrics

    def _of_resamples(self, errors: Tensor, scores: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Return what :meth:`_of` returns, of each resample, (R,); NaN for an AUROC without right and wrong ones."""
        metrics = {}
        for name, values in zip(self.scores, scores.unbind(1), strict=True):
            ranks = ResampledRanks(values.nan_to_num(torch.inf, torch.inf, -torch.inf), errors > 0, weights)
            area, error = ranks.risk_area(), ranks.error()
            metrics[f'aurc_{name}'] = 100 * area
            if self.eaurc == 'asymptotic':
                metrics[f'eaurc_{name}'] = 100 * (area - error - torch.xlogy(1 - error, 1 - error))
            else:
                metrics[f'eaurc_{name}'] = 100 * (area - ranks.least_risk_area()).clamp_min(0)
            metrics[f'auroc_{name}'] = 100 * ranks.auroc()
            for coverage in self.coverages:
                metrics[f'risk{100 * coverage:g}_{name}'] = 100 * ranks.risk_at(coverage)
            for risk in self.risks:
                metrics[f'coverage_risk{100 * risk:g}_{name}'] = 100 * ranks.coverage_at_risk(risk)
        return metrics
