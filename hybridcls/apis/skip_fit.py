"""Choose, on held-out images, a stream that can be skipped for images that the other one predicts with confidence."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import torch
from torch import Tensor

from hybridcls.functional.calibration import (
    apply_scaling,
    conformal_threshold,
    fit_scaling,
    risk_threshold,
    skip_threshold,
)
from hybridcls.models.classifiers import StreamSkipping
from hybridcls.structures import Calibration

from .image_inputs import Item
from .inferencer import HybridInferencer
from .stream_cost import StreamCost, stream_costs
from .stream_vectors import StreamVectors, scores_without
from .timing import interleaved_timings

if TYPE_CHECKING:
    from .calibration_fit import LabelledScores

__all__ = ['SkipFit', 'fit_skipping', 'measured_speed']

_LEAST_SAVING = 0.05  # of the operations: below, leaving a stream out is not worth a threshold
_TIMED_IMAGES = 128
_ROUNDS = 5


class SkipFit(NamedTuple):
    """The result of :func:`fit_skipping`.

    Args:
        skip (dict, optional): ``skip_sure`` of :class:`~hybridcls.structures.Calibration`; None: nothing that holds.
        notes (list[str]): What it brings, in sentences.
        missing (list[str]): Why there is none.
    """

    skip: Optional[dict[str, Any]]
    notes: list[str]
    missing: list[str]


class _Candidate(NamedTuple):
    stream: str
    filling: list[list[float]]
    scores: Tensor
    saved: float


def fit_skipping(
    model: HybridInferencer,
    vectors: StreamVectors,
    given: 'LabelledScores',
    calibration: Calibration,
    is_test: Tensor,
    rate: float,
    confidence: float = 0.95,
    stream: Optional[str] = None,
) -> SkipFit:
    """Choose a stream to skip, the constants that replace its features, and the confidence threshold.

    What stands for the stream (the mean of its features, or zeros), the scaling of the scores without it, and, unless
    it is given, the stream itself are learned from images that test nothing. Where the calibration has a threshold for
    a risk, or sets, half of the testing images choose the threshold of skipping, and the other half test those of all
    predictions again, the skipped ones among them.

    Args:
        model (HybridInferencer): Loaded with ``calibration=False``.
        vectors (StreamVectors): Of the N images.
        given (LabelledScores): What both streams say of them.
        calibration (Calibration): Fitted with the same division.
        is_test (Tensor): bool (N,): those that fitted nothing.
        rate (float): Of all images, at most this share gets another class than from both streams.
        confidence (float): Of that statement. Defaults to 0.95.
        stream (str, optional): The one to skip. Defaults to None: the one that saves more.

    Raises:
        ValueError: If the model has no such stream.
    """
    if stream is not None and stream not in vectors.names:
        raise ValueError(f'calibrate: expected --skip-stream {" or ".join(vectors.names)}, got {stream!r}.')
    size = given.img_size or [224, 224]
    costs = stream_costs(model, (size[0], size[1]), vectors.names)
    full_scores = apply_scaling(calibration.scaling, given.scores)
    full = full_scores.argmax(1)
    fits, known = ~is_test, given.labels >= 0
    chosen = max(
        (
            _candidate(model, vectors, name, full, fits, rate, costs[name])
            for name in ([stream] if stream else vectors.names)
        ),
        key=lambda one: one.saved,
    )
    scaling = fit_scaling(calibration.scaling['kind'], chosen.scores[fits & known], given.labels[fits & known])
    scaled = apply_scaling(scaling, chosen.scores)
    changed, top = scaled.argmax(1) != full, chosen.scores.max(1).values
    again = calibration.risk is not None or calibration.sets is not None
    chooses, tests = _halves(is_test) if again else (is_test, is_test)
    found = skip_threshold(top[chooses], changed[chooses], rate, confidence)
    first = next(name for name in vectors.names if name != chosen.stream)
    if found.threshold is None:
        return SkipFit(None, [], [_nothing(found.missing, is_test, chooses, rate, confidence, first, changed)])
    skips = top.double() >= found.threshold
    scores = torch.where(skips.unsqueeze(1), scaled, full_scores)
    risk, sets, missing = _thresholds_again(scores, given.labels, calibration, fits, tests)
    if missing:
        return SkipFit(None, [], missing)
    skip: dict[str, Any] = dict(
        stream=chosen.stream,
        filling=chosen.filling,
        threshold=found.threshold,
        rate=rate,
        confidence=confidence,
        images=found.images,
        skipped=found.skipped,
        changed=found.changed,
        scaling=scaling,
        risk=risk,
        sets=sets,
    )
    own = known & is_test
    right = [100 * float((one[own] == given.labels[own]).double().mean()) for one in (full, scores.argmax(1))]
    total, share = sum(one.gflops for one in costs.values()), found.skipped / found.images
    left = total + costs['rest'].gflops - share * costs[chosen.stream].gflops
    if left > (1 - _LEAST_SAVING) * total:
        return SkipFit(
            None,
            [],
            [
                f'--skip-sure {rate:g} does not pay: the {first} alone is sure enough of {100 * share:.1f} % of '
                f'{found.images} images. If the {chosen.stream} is skipped for these, an image takes {left:.3g} '
                f'GFLOPs instead of {total:.3g}. Nothing is skipped.'
            ],
        )
    skip['measured'] = dict(accuracy=right, gflops=[total, left])
    note = (
        f'--skip-sure leaves the {chosen.stream} out where the {first} is sure: for {100 * share:.1f} % of '
        f'{found.images} images, of which {found.changed} get another class than from both streams (with a confidence '
        f'of {confidence:.3g}, at most {100 * rate:.3g} % of all later ones do). Accuracy {right[0]:.1f} -> '
        f'{right[1]:.1f} % of {int(own.sum())} images; GFLOPs an image {skip["measured"]["gflops"][0]:.3g} -> '
        f'{skip["measured"]["gflops"][1]:.3g}.'
    )
    return SkipFit(skip, [note], [])


def _candidate(
    model: HybridInferencer,
    vectors: StreamVectors,
    skipped: str,
    full: Tensor,
    fits: Tensor,
    rate: float,
    cost: StreamCost,
) -> _Candidate:
    """Choose the constants that replace a stream's features, and estimate the savings, on the fitting images."""
    best = None
    mean = vectors.mean(skipped, fits)
    for filling in (mean, [[0.0] * len(values) for values in mean]):
        scores = scores_without(model, vectors, skipped, filling)
        changed = int((scores.argmax(1) != full)[fits].sum())
        if best is None or changed < best[0]:
            best = changed, filling, scores
    _, filling, scores = best  # type: ignore[misc]
    order = scores[fits].max(1).values.argsort(descending=True)
    differ = (scores.argmax(1) != full)[fits][order].cumsum(0)
    share = int((differ <= rate * len(order)).sum()) / max(1, len(order))
    return _Candidate(skipped, filling, scores, share * cost.milliseconds)


def _halves(is_test: Tensor) -> tuple[Tensor, Tensor]:
    """Split the test images at random into halves."""
    rows = is_test.nonzero().flatten()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(len(rows)))
    chooses = torch.zeros_like(is_test)
    chooses[rows[order[: (len(rows) + 1) // 2]]] = True
    return chooses, is_test & ~chooses


def _thresholds_again(
    scores: Tensor, labels: Tensor, calibration: Calibration, fits: Tensor, tests: Tensor
) -> tuple[Optional[dict], Optional[dict], list[str]]:
    """Test a calibration's thresholds for predictions with a skipped stream."""
    risk = sets = None
    missing = []
    if calibration.risk is not None:
        rows = fits | tests
        top, predicted = scores[rows].max(1)
        target, confidence = calibration.risk['risk'], calibration.risk['confidence']
        found = risk_threshold(top, predicted != labels[rows], tests[rows], target, confidence)
        if found.threshold is None:
            missing.append(
                f'--skip-sure is not applied: the error of at most {target:.3g} cannot be shown for its answers with '
                'half of the images. Use more images, or leave --risk or --skip-sure out.'
            )
        risk = dict(
            risk=target, confidence=confidence, threshold=found.threshold, answered=found.answered,
            errors=found.errors, images=found.images,
        )  # fmt: skip
    if calibration.sets is not None:
        own = tests & (labels >= 0)
        right = scores[own].gather(1, labels[own].unsqueeze(1)).squeeze(1)
        threshold = conformal_threshold(right, calibration.sets['alpha'])
        if threshold is None:
            missing.append('--skip-sure is not applied: half of the images are too few for --sets. Use more images.')
        sets = dict(alpha=calibration.sets['alpha'], threshold=threshold, images=len(right))
    return risk, sets, missing


def _nothing(
    missing: Optional[int],
    is_test: Tensor,
    chooses: Tensor,
    rate: float,
    confidence: float,
    first: str,
    changed: Tensor,
) -> str:
    """Explain why no threshold was found."""
    if missing is not None:
        more = round(missing * len(is_test) / max(1, int(chooses.sum())))
        return (
            f'--skip-sure {rate:g} cannot be shown with these images (confidence {confidence:.3g}): about '
            f'{max(1, more)} more are missing.'
        )
    share = 100 * float(changed[chooses].double().mean())
    return (
        f'--skip-sure {rate:g} would skip nothing: the {first} alone gives another answer than both streams for '
        f'{share:.1f} % of {int(chooses.sum())} images, including those where it is surest. Both streams are needed.'
    )


def measured_speed(model: HybridInferencer, items: Sequence[Item], skip: dict[str, Any]) -> list[float]:
    """Return the milliseconds per decoded image with both streams, and with one skipped, in a test's batches.

    Args:
        model (HybridInferencer): On its device.
        items (Sequence[Item]): Of these, at most 128, evenly spread.
        skip (dict): Of :func:`fit_skipping`.
    """
    network: Any = model.model
    chosen = items[:: max(1, len(items) // _TIMED_IMAGES)][:_TIMED_IMAGES]
    batches = [[sample for _, sample in read] for read, _ in model.preprocess(chosen, model.batch_size) if read]
    count = max(1, sum(map(len, batches)))

    def answer(skipping: Optional[StreamSkipping]) -> None:
        network.skipping = skipping
        for batch in batches:
            model.forward(batch)

    try:
        skipping = StreamSkipping(network, skip)
        timings = interleaved_timings(
            dict(both=lambda: answer(None), skipping=lambda: answer(skipping)), rounds=_ROUNDS, warmup=1
        )
    finally:
        network.skipping = None
    return [1e3 * timings[name].seconds / count for name in ('both', 'skipping')]
