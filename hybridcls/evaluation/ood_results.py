"""Results of scores that should be high for images of unknown categories."""

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple, Optional

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from hybridcls.checks import check_choice, check_number
from hybridcls.functional.metrics import ResampledRanks, aupr, auroc, fpr_at_tpr

from .result_bounds import ResultBounds
from .result_names import without_result

__all__ = ['OODResults']

_SIDES = {'known': ('known',), 'unknown': ('unknown',), 'both': ('known', 'unknown')}


class OODResults(NamedTuple):
    """The results of a metric for each score: AUROC, and FPR and AUPR for the requested positive sides.

    Args:
        recall (float): The share of the positive side to recognize, in (0, 1].
        positive (str): Which images are the positive side of FPR: ``'known'``, ``'unknown'`` or ``'both'``.
        aupr (bool): Whether to add the area under the precision-recall curve, either way round.
        bounds (ResultBounds): Intervals.
    """

    recall: float
    positive: str
    aupr: bool
    bounds: ResultBounds

    @classmethod
    def checked(cls, caller: str, recall: float, positive: str, with_aupr: bool, bounds: ResultBounds) -> 'OODResults':
        """Check the settings of a metric, and return its results.

        Raises:
            ValueError: If ``recall`` is out of range, or ``positive`` is none of the three.
        """
        check_number(caller, 'recall', recall, 0, 1, low_open=True)
        check_choice(caller, 'positive', positive, _SIDES)
        return cls(recall, positive, with_aupr, bounds)

    def directions(self, scores: Sequence[str]) -> dict[str, Optional[str]]:
        """Return the direction of each result, by name."""
        return self.bounds.directions(
            {
                f'{kind}_{score}': 'less' if kind.startswith('fpr') else 'greater'
                for score in scores
                for kind in self._kinds()
            }
        )

    def compute(
        self, metric: BaseMetric, names: Sequence[str], known: Tensor, scores: Tensor, groups: Sequence[Hashable]
    ) -> dict[str, float]:
        """Compare known and unknown images.

        Args:
            metric (BaseMetric): Notes why there is no result.
            names (Sequence[str]): Of the K scores.
            known (Tensor): Which images are of known categories, bool (N,).
            scores (Tensor): Higher means more unknown, (N, K); NaN counts as wrong.
            groups (Sequence): Of each image, for intervals.

        Returns:
            dict[str, float]: Percentages; empty, with a warning, without images of both kinds.
        """
        if not known.any() or known.all():
            return without_result(
                metric,
                f'Expected images of known and of unknown categories, got {int(known.sum())} known and '
                f'{int((~known).sum())} unknown. Unknown ones have the label -1: add the transform MarkUnknown to '
                'their dataset, and concatenate it with the known ones by ConcatDataset.',
            )
        scores = scores.double()
        wrong_end = torch.where(known, torch.inf, -torch.inf).unsqueeze(1)
        scores = torch.where(scores.isnan(), wrong_end, scores)
        found = self._of(names, known, scores)

        def statistic(weights: Tensor) -> Tensor:
            return torch.stack(
                [row for values in scores.unbind(1) for row in self._of_resamples(known, values, weights)], 1
            )

        return self.bounds.of_resamples(metric, found, statistic, groups)

    def _kinds(self) -> list[str]:
        sides = _SIDES[self.positive]
        name = f'fpr{100 * self.recall:g}'
        fprs = [name if side == 'known' else f'{name}_ood_positive' for side in sides]
        return ['auroc', *fprs, *(['aupr_known', 'aupr_unknown'] if self.aupr else [])]

    def _of(self, names: Sequence[str], known: Tensor, scores: Tensor) -> dict[str, float]:
        results = {}
        for name, values in zip(names, scores.unbind(1), strict=True):
            inside, outside = values[known], values[~known]
            has_both = len(inside) and len(outside)
            of_kind = [auroc(inside, outside)]
            for side in _SIDES[self.positive]:
                of_kind.append(
                    fpr_at_tpr(*((inside, outside) if side == 'known' else (-outside, -inside)), self.recall)
                )
            if self.aupr:
                of_kind += [aupr(inside, outside, side) for side in ('known', 'unknown')]
            for kind, value in zip(self._kinds(), of_kind, strict=True):
                results[f'{kind}_{name}'] = 100 * value.item() if has_both else math.nan
        return results

    def _of_resamples(self, known: Tensor, values: Tensor, weights: Tensor) -> Iterator[Tensor]:
        """Yield what :meth:`_of` has for a score, in its order, of each resample (R,); NaN where a side is empty."""
        ranks = ResampledRanks(values, ~known, weights)
        yield 100 * ranks.auroc()
        for side in _SIDES[self.positive]:
            yield 100 * ranks.fpr_at_tpr(self.recall, side)
        if self.aupr:
            for side in ('known', 'unknown'):
                yield 100 * ranks.aupr(side)
