"""Add confidence intervals to a metric's results: ``top1``, ``top1_low``, ``top1_high``."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Optional

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from hybridcls.checks import check_number, verb_of
from hybridcls.functional.metrics import (
    MOST_WITHOUT_VALUE,
    bootstrap_interval,
    fewest_units,
    mean_interval,
    share_interval_by_group,
)

from .prediction_fields import MissingFieldError
from .result_names import without_result

__all__ = ['ResultBounds', 'each_resample']

Groups = Optional[Sequence[Hashable]]


class ResultBounds:
    """The confidence intervals of a metric: their level, and the groups of images that are resampled.

    Args:
        caller (str): The metric, for errors.
        confidence (float, optional): In (0, 1), such as 0.95. None: no intervals.
        group (str, optional): Field of the samples that says which images belong together, such as ``'group'``, the
            column of an annotation file. None: images are independent.

    Raises:
        ValueError: If ``confidence`` is out of range, or there is a group without it.
    """

    def __init__(self, caller: str, confidence: Optional[float], group: Optional[str]) -> None:
        if confidence is not None:
            check_number(caller, 'confidence', confidence, 0, 1, low_open=True, high_open=True)
        elif group is not None:
            raise ValueError(f'{caller}: expected confidence with group={group!r}, got None. Set confidence=0.95.')
        self.caller = caller
        self.confidence = confidence
        self.group = group

    def __bool__(self) -> bool:
        """Return whether there are intervals."""
        return self.confidence is not None

    def directions(self, of: Mapping[str, Optional[str]]) -> dict[str, Optional[str]]:
        """Add the names of the interval ends; each has the direction of its result."""
        ends = {f'{name}_{end}': way for name, way in of.items() for end in ('low', 'high')} if self else {}
        return {**of, **ends}

    def group_of(self, sample: Mapping[str, Any]) -> Optional[Hashable]:
        """Return the group of an image; None without groups.

        Raises:
            MissingFieldError: If the sample lacks it.
        """
        if self.group is None:
            return None
        if sample.get(self.group) is None:
            name = sample.get('img_path') or f'sample {sample.get("sample_idx", "?")}'
            raise MissingFieldError(
                f'{self.caller}: expected group={self.group!r} in {name}, got {", ".join(sorted(sample))}. A list of '
                "images may have a column 'group'; PackInputs(meta_keys=[...]) names other fields to keep."
            )
        value = sample[self.group]
        return value.item() if isinstance(value, Tensor) else value

    def of_images(
        self, metric: BaseMetric, values: Mapping[str, Tensor], groups: Sequence, scale: float = 100.0
    ) -> dict[str, float]:
        """Return the mean of each value over the images (N,), with its interval.

        Shares of images, bool, get the exact interval of Clopper and Pearson, other numbers, and groups, a bootstrap.
        """
        results, ends, reasons = {}, {}, {}
        for name, value in values.items():
            results[name] = scale * value.double().sum().item() / len(value)
            if self.confidence is not None:
                interval = share_interval_by_group if value.dtype == torch.bool else mean_interval
                low, high = interval(value, self._units(groups), self.confidence)
                ends[name] = scale * low, scale * high
                reasons[name] = self._why_none(groups, value, 'images')
        return self._with_ends(metric, results, ends, reasons) if ends else results

    def of_resamples(
        self, metric: BaseMetric, results: Mapping[str, float], statistic: Callable[[Tensor], Tensor], groups: Sequence
    ) -> dict[str, float]:
        """Return results with their bootstrap intervals.

        Args:
            metric (BaseMetric): Notes what has too few data.
            results (Mapping[str, float]): K numbers by name.
            statistic (Callable): Takes weights (R, N), as for
                :func:`hybridcls.functional.metrics.bootstrap_interval`, and returns the same K numbers, (R, K).
            groups (Sequence): Of each image.
        """
        if self.confidence is None or not results:
            return dict(results)
        drawn: list[Tensor] = []  # the values of the resamples, which tell why there is no interval

        def kept(weights: Tensor) -> Tensor:
            drawn.append(statistic(weights))
            return drawn[-1]

        low, high = bootstrap_interval(kept, len(groups), self._units(groups), self.confidence)
        ends = dict(zip(results, zip(low.tolist(), high.tolist(), strict=True), strict=True))
        columns = zip(results, torch.cat(drawn).unbind(1), strict=True)
        reasons = {name: self._why_none(groups, values, 'bootstrap resamples') for name, values in columns}
        return self._with_ends(metric, results, ends, reasons)

    def _units(self, groups: Sequence) -> Groups:
        return None if self.group is None else groups

    def _with_ends(
        self,
        metric: BaseMetric,
        results: Mapping[str, float],
        ends: Mapping[str, tuple[float, float]],
        reasons: Mapping[str, str],
    ) -> dict[str, float]:
        """Put the ends behind each result; where they are NaN, tell for each reason of which results."""
        found: dict[str, float] = {}
        missing: dict[str, list[str]] = {}
        for name, value in results.items():
            found[name] = value
            low, high = f'{name}_low', f'{name}_high'
            if any(map(math.isnan, ends[name])):
                missing.setdefault(reasons[name], []).extend((low, high))
            else:
                found[low], found[high] = ends[name]
        for why, names in missing.items():
            without_result(metric, why, names)
        return found

    def _why_none(self, groups: Sequence, values: Tensor, what: str) -> str:
        """Return the one reason why these values, of images or of resamples (N,), would have no interval."""
        confidence = self.confidence or 0.95
        of, units = ('images', len(groups)) if self.group is None else ('groups', len({*groups}))
        fewest = fewest_units(confidence)
        if units < fewest:
            return f'An interval at confidence={confidence:g} needs at least {fewest} {of}, got {units}.'
        lacking = int((~values.isfinite()).sum())
        if values.isinf().any() or lacking > MOST_WITHOUT_VALUE * len(values):
            has = f'{lacking} of {len(values)} {what} {verb_of(lacking, "has", "have")} no finite value'
            return f'There is no interval because {has}.'
        same = f'at least {100 * confidence:.6g} % of the bootstrap resamples of {units} {of} give the same value'
        return f'There is no interval because {same}.'


def each_resample(value_of: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Convert a statistic of positions to one of weights (R, N): each resample is the list of drawn positions."""

    def statistic(weights: Tensor) -> Tensor:
        places = torch.arange(weights.shape[1])
        return torch.stack([value_of(places.repeat_interleave(row.long())) for row in weights])

    return statistic
