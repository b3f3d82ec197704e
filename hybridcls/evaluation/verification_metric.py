"""Measure verification: whether two images show the same identity."""

from collections.abc import Iterable, Sequence
from typing import Any, Optional, Union

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.evaluator import BaseMetric
from torch import Tensor

from hybridcls.checks import check_choice, check_number
from hybridcls.functional import (
    ROC_POINTS,
    accept_rates_of_all_pairs,
    fold_accuracies,
    l2_normalize,
    roc_on_grid,
    true_accept_rates,
)
from hybridcls.functional.full_precision import to_float64
from hybridcls.registry import METRICS
from hybridcls.structures import UNKNOWN_LABEL

from .class_report import Rows
from .prediction_fields import NO_IMAGE, MissingFieldError, class_label, embeddings_of
from .result_bounds import ResultBounds, each_resample
from .result_names import without_result
from .verification_pairs import VerificationPairs, positions_of, read_pairs

__all__ = ['VerificationMetric']

_BLOCK_PAIRS = 2**16


@METRICS.register_module()
class VerificationMetric(BaseMetric):
    """TAR at FAR, and for a list of pairs the accuracy over folds, by cosine similarity of ``embedding``.

    Results are percentages, higher is better:

    - ``tar@0.001`` (TAR at FAR 1e-3): the largest share of genuine pairs that a threshold accepts while it accepts
      at most this share of the impostor pairs (:func:`hybridcls.functional.true_accept_rates`).
    - ``accuracy`` and ``accuracy_std``, only with ``pairs``: mean and (population) standard deviation over ten folds,
      the threshold of each chosen on the nine others (:func:`hybridcls.functional.fold_accuracies`).
    - ``roc``, with ``pairs`` and ``roc=True``: a table of 400 thresholds on the squared distance, 0, 0.01, ..., 3.99,
      with the true and false accept rates in percent, averaged over the folds
      (:func:`hybridcls.functional.roc_on_grid`).

    Without ``pairs``, all pairs of the evaluated images are compared; equal labels are genuine. The classes may differ
    from those of the training. An image that is marked as unknown (label -1) is left out: its identity may equal that
    of another. The pairs are streamed twice: exact, with memory that does not grow with their number
    (:func:`hybridcls.functional.accept_rates_of_all_pairs`). With ``pairs`` the labels are not read.

    A false accept rate that allows no impostor pair (1e-4 of fewer than 10,000) has no result, but one warning. An
    image whose embedding is not finite is wrong in each of its pairs.

    Official codes embed the image and its mirror image, and add the two, as ``python tools/test.py ... --tta``. IJB's
    templates, sets of images that are compared as one, are not supported.

    Args:
        far (float | Sequence[float]): False accept rates, in (0, 1). Defaults to (1e-4, 1e-3, 1e-2, 1e-1).
        pairs (str, optional): A file of pairs, see :func:`hybridcls.evaluation.verification_pairs.read_pairs`. Defaults
            to None: all pairs.
        folds (int): Number of folds, in the order of the file. Defaults to 10.
        thresholds (str): ``'exact'``, or ``'grid'``, the official codes' steps of 0.01 of the squared distance.
            Defaults to ``'exact'``.
        point (str): With ``pairs``, ``'below'``, or ``'nearest'``, the point of the curve that InsightFace's scores on
            IJB take (:func:`hybridcls.functional.true_accept_rates`). Defaults to ``'below'``.
        device (str, optional): Where to compute. Defaults to None: the GPU if there is one.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None, which means ``'verification'``.
        roc (bool): With ``pairs``, add the table of the ROC. Defaults to False.
        confidence (float, optional): With ``pairs``, add the ends of bootstrap intervals of TAR over the pairs, the
            threshold chosen again in each resample. Defaults to None.

    Raises:
        ValueError: If a number is out of range, or a pair names an image that was not evaluated.
        MissingFieldError: If samples lack ``embedding``, or a single ``gt_label``; for pairs ``img_path`` or
            ``sample_idx``.

    Example:
        >>> metric = VerificationMetric(far=0.5)
        >>> rows = torch.tensor([[1., 0.], [1., 0.1], [0., 1.], [0.1, 1.]])
        >>> metric.process(None, [dict(embedding=row, gt_label=torch.tensor([label]))
        ...                       for row, label in zip(rows, [5, 5, 7, 7])])
        >>> metric.evaluate(size=4)
        {'verification/tar@0.5': 100.0}
    """

    default_prefix = 'verification'
    units = {'*': '%'}

    def __init__(
        self,
        far: Union[float, Sequence[float]] = (1e-4, 1e-3, 1e-2, 1e-1),
        pairs: Optional[str] = None,
        folds: int = 10,
        thresholds: str = 'exact',
        device: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
        point: str = 'below',
        roc: bool = False,
        confidence: Optional[float] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.far = (far,) if isinstance(far, (int, float)) else tuple(far)
        for rate in self.far:
            check_number('VerificationMetric', 'far', rate, 0, 1, low_open=True, high_open=True)
        check_choice('VerificationMetric', 'thresholds', thresholds, ('exact', 'grid'))
        check_choice('VerificationMetric', 'point', point, ROC_POINTS)
        if point == 'nearest' and pairs is None:
            raise ValueError(
                "VerificationMetric: expected pairs='FILE' with point='nearest', got none: all pairs are streamed, not "
                'sorted. Set pairs, or remove point.'
            )
        if pairs is None and (roc or confidence is not None):
            raise ValueError(
                "VerificationMetric: expected pairs='FILE' with roc and confidence, got none: all pairs are streamed, "
                'and they are not independent. Set pairs, or leave roc and confidence out.'
            )
        self.point = point
        self.roc = roc
        self.bounds = ResultBounds('VerificationMetric', confidence, None)
        self.pairs = None if pairs is None else read_pairs('VerificationMetric', pairs)
        check_number('VerificationMetric', 'folds', folds, 2, integer=True)
        if self.pairs is not None and len(self.pairs.same) < folds:
            raise ValueError(
                f'VerificationMetric: expected at least folds={folds} pairs in {pairs!r}, got '
                f'{len(self.pairs.same)}. Set folds to at most {len(self.pairs.same)}.'
            )
        self.folds = folds
        self.thresholds = thresholds
        self.directions = self.bounds.directions({f'tar@{rate:g}': 'greater' for rate in self.far})
        if self.pairs is not None:
            self.directions.update(accuracy='greater', accuracy_std=None, **({'roc': None} if roc else {}))
        self.device = device

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the embedding of each sample, and its label or its name."""
        if self.pairs is None:
            keys: list = [class_label('VerificationMetric', sample) for sample in data_samples]
        else:
            keys = [_name_of(sample) for sample in data_samples]
        self.results += zip(embeddings_of('VerificationMetric', data_samples), keys, strict=True)

    def compute_metrics(self, results: list[tuple[np.ndarray, Union[int, str]]]) -> dict[str, Any]:
        """Compare the pairs. Runs in the main process, with each image once."""
        if self.pairs is None:
            results = [(row, label) for row, label in results if label != UNKNOWN_LABEL]
        if not results:
            return without_result(self, NO_IMAGE)
        embeddings = torch.from_numpy(np.stack([row for row, _ in results]))
        device = torch.device(self.device or get_device())
        if self.pairs is None:
            labels = torch.tensor([label for _, label in results])
            rates, genuine, impostors = accept_rates_of_all_pairs(embeddings, labels, self.far, device)
            return self._named(rates, genuine, impostors)
        same = self.pairs.same
        similarity = _of_pairs(self.pairs, embeddings, [str(name) for _, name in results], device)
        rates = true_accept_rates(similarity[same], similarity[~same], self.far, self.point)
        named = self._named(rates, int(same.sum()), int((~same).sum()))
        chosen = [place for place, rate in enumerate(self.far) if f'tar@{rate:g}' in named]

        def again(places: Tensor) -> Tensor:
            drawn, are_same = similarity[places], same[places]
            return 100 * true_accept_rates(drawn[are_same], drawn[~are_same], self.far, self.point)[chosen]

        scores: dict[str, Any] = self.bounds.of_resamples(self, named, each_resample(again), [None] * len(same))
        accuracies = 100 * fold_accuracies(similarity, same, self.folds, self.thresholds)
        scores.update(accuracy=accuracies.mean().item(), accuracy_std=accuracies.std(unbiased=False).item())
        if self.roc:
            scores['roc'] = Rows(_roc_rows(similarity, same, self.folds))
        return scores

    def _named(self, rates: Tensor, genuine: int, impostors: int) -> dict[str, float]:
        """Return the rates that this number of pairs can resolve, by name."""
        enough = [bool(genuine) and rate * impostors + 1e-9 >= 1 for rate in self.far]
        missing = [rate for rate, fits in zip(self.far, enough, strict=True) if not fits]
        if missing:
            without_result(
                self,
                f'Insufficient data. Expected at least 1 genuine pair and {int(np.ceil(1 / min(missing) - 1e-6))} '
                f'impostor pairs, got {genuine} and {impostors}.',
                [f'tar@{rate:g}' for rate in missing],
            )
        return {
            f'tar@{rate:g}': 100 * value
            for rate, value, fits in zip(self.far, rates.tolist(), enough, strict=True)
            if fits
        }


def _roc_rows(similarity: Tensor, same: Tensor, folds: int) -> Iterable[dict[str, float]]:
    true_rates, false_rates = roc_on_grid(similarity, same, folds)
    for number, (true, false) in enumerate(zip(true_rates.tolist(), false_rates.tolist(), strict=True)):
        yield dict(squared_distance=number / 100, true_accepts_percent=100 * true, false_accepts_percent=100 * false)


def _name_of(sample: dict) -> str:
    name = sample.get('img_path') or sample.get('sample_idx')
    if name is None:
        raise MissingFieldError(
            'VerificationMetric: expected an img_path or a sample_idx to match the pairs, got '
            f'{", ".join(sorted(sample))}.'
        )
    return str(name)


def _of_pairs(pairs: VerificationPairs, embeddings: Tensor, names: list[str], device: torch.device) -> Tensor:
    """Return the similarity of each pair, float64; a non-finite embedding gives a wrong decision, beyond +-1."""
    first, second = positions_of('VerificationMetric', [*pairs.first, *pairs.second], names).chunk(2)
    normalized = l2_normalize(embeddings.to(device))[0]
    similarity = torch.cat(
        [
            (to_float64(normalized[one.to(device)]) * to_float64(normalized[other.to(device)])).sum(1).cpu()
            for one, other in zip(first.split(_BLOCK_PAIRS), second.split(_BLOCK_PAIRS), strict=True)
        ]
    )
    wrong = torch.where(pairs.same, -2.0, 2.0).double()
    finite = embeddings.isfinite().all(1)
    return torch.where(finite[first] & finite[second], similarity, wrong)
