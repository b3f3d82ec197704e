"""Fit probability calibration, and thresholds with guarantees, on held-out images."""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor

from hybridcls.checks import check_choice, check_number, counted, listed, verb_of
from hybridcls.engine.checkpoints.calibration_file import digest_of_weights
from hybridcls.evaluation import CalibrationMetric
from hybridcls.functional.calibration import (
    SCALINGS,
    RiskThreshold,
    apply_scaling,
    conformal_threshold,
    fit_scaling,
    images_for_sets,
    risk_threshold,
)
from hybridcls.models.classifiers.calibrated_predictions import precision_of
from hybridcls.structures import Calibration

from .held_out_images import held_out_images
from .image_inputs import ImageInputs, Item
from .image_sketch import image_sketch
from .inferencer import HybridInferencer
from .skip_fit import fit_skipping, measured_speed
from .stream_vectors import recorded_vectors

__all__ = ['CalibrationReport', 'LabelledScores', 'calibrate', 'fit_calibration', 'labelled_scores']

_LEAST = 20
# What share of the images fits the scaling and orders thresholds, where the others have to test these.
_FITS = dict(temperature=0.25, none=0.25, vector=0.5, isotonic=0.5)
_UNKNOWN = -1


@dataclass
class LabelledScores:
    """Predicted probabilities of held-out images, with their labels.

    Args:
        scores (Tensor): Probabilities, float32, (N, C).
        labels (Tensor): Class numbers, int64, (N,); -1 for a class that the model does not have.
        precision (str), img_size (list[int] | None): How they were computed: see :class:`Calibration`.
        notes (list[str]): Sentences about the images.
        sketch (dict): Of the images: see :func:`image_sketch`.
        items (list[Item]): The images.
    """

    scores: Tensor
    labels: Tensor
    precision: str = 'float32'
    img_size: Optional[list[int]] = None
    notes: list[str] = field(default_factory=list)
    sketch: dict[str, Any] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)


@dataclass
class CalibrationReport:
    """The result of :func:`calibrate`.

    Args:
        calibration (Calibration): What can be saved; without thresholds that the images do not support.
        notes (list[str]): Sentences about the images, and what was measured.
        missing (list[str]): A sentence for each threshold that was asked for and is not there.
        risk (RiskThreshold, optional): Of ``--risk``.
    """

    calibration: Calibration
    notes: list[str]
    missing: list[str] = field(default_factory=list)
    risk: Optional[RiskThreshold] = None


def calibrate(
    model: HybridInferencer,
    data: str,
    scale: Optional[str] = None,
    risk: Optional[float] = None,
    confidence: float = 0.95,
    sets: Optional[float] = None,
    seed: int = 0,
    batch_size: Optional[int] = None,
    workers: Optional[int] = None,
    on_unreadable: str = 'skip',
    skip_sure: Optional[float] = None,
    skip_stream: Optional[str] = None,
) -> CalibrationReport:
    """Calibrate a trained model on held-out images.

    Args:
        model (HybridInferencer): Loaded with ``calibration=False``.
        data (str): Class folders or a table with labels; see :func:`held_out_images`.
        scale (str, optional): One of ``SCALINGS``. Defaults to None: a temperature, or none if that does not make the
            likelihood of other images better.
        risk (float, optional): The error among answered images, in (0, 1). Defaults to None: no threshold.
        confidence (float): That it is not exceeded, in (0, 1). Defaults to 0.95.
        sets (float, optional): How often a set of classes may lack the right one, in (0, 1). Defaults to None: no sets.
        seed (int): Of the division of the images. Defaults to 0.
        batch_size (int, optional), workers (int, optional), on_unreadable (str): As for a call of the model.
        skip_sure (float, optional): Of all images, the share in (0, 1) that may get another class where a stream is
            skipped because the other one is sure. Defaults to None: none is skipped.
        skip_stream (str, optional): The stream that is skipped. Defaults to None: the one that saves more.

    Raises:
        ValueError: If the model has no classes, several labels an image or members, or one stream where one shall be
            skipped; if images have no labels, those of
            one class, or of none of the model's; or if there are too few.
    """
    _check_settings(scale or 'temperature', risk, confidence, sets, skip_sure)
    _check_model(model)
    if skip_sure is None:
        given = labelled_scores(model, data, batch_size, workers, on_unreadable)
    else:
        with recorded_vectors(model) as vectors:
            given = labelled_scores(model, data, batch_size, workers, on_unreadable)
    main = getattr(model.model.head, 'main', None)
    if main is not None:
        given.notes.append(f'Only the main head, {main}, is calibrated; the others keep their scores.')
    report = fit_calibration(given, model.classes, scale, risk, confidence, sets, seed, split=skip_sure is not None)
    if skip_sure is not None:
        is_test = _testing(len(given.labels), scale or 'temperature', seed)
        found = fit_skipping(model, vectors[0], given, report.calibration, is_test, skip_sure, confidence, skip_stream)
        report.notes += found.notes
        report.missing += found.missing
        if found.skip is not None:
            full, skipping = measured_speed(model, given.items, found.skip)
            found.skip['measured']['milliseconds'] = [full, skipping]
            gain = f'{full / skipping:.2f} times as fast' if skipping < full else 'which does not pay on this machine'
            report.notes.append(f'Measured: {full:.2f} -> {skipping:.2f} ms an image, {gain}.')
            report.calibration = replace(report.calibration, skip_sure=found.skip)
    known = dict(
        checkpoint=Path(model.checkpoint_path).name,
        weights_sha256=digest_of_weights(model.checkpoint_path),
        preprocessing_version=model.preprocessing_version,
        data=dict(source=data, **given.sketch),
        token_merging_ratio=model.wanted_settings.token_merging_ratio,
    )
    report.calibration = Calibration(**{**vars(report.calibration), **known})
    return report


def _check_settings(
    scale: str, risk: Optional[float], confidence: float, sets: Optional[float], skip_sure: Optional[float] = None
) -> None:
    check_choice('calibrate', 'scale', scale, SCALINGS)
    for name, value in (('risk', risk), ('confidence', confidence), ('sets', sets), ('skip_sure', skip_sure)):
        if value is not None:
            check_number('calibrate', name, value, 0, 1, low_open=True, high_open=True)


def _check_model(model: HybridInferencer) -> None:
    if not os.path.exists(model.checkpoint_path) or hasattr(model.model, 'members'):
        raise ValueError(
            'calibrate: expected one checkpoint, got an ensemble, which has no file to save a calibration beside. '
            'Calibrate a single model.'
        )
    if not model.classes:
        raise ValueError(
            f'calibrate: expected a model with classes, got one whose head ({model.head_name}) has only embeddings.'
        )
    if model.multi_label:
        own = "Its thresholds are fitted in the training: thresholds='f1' or dict(precision=0.9)."
        if hasattr(model.model.head, 'thr'):  # mmpretrain's
            own = 'Its threshold is model.head.thr of the config; MultiLabelHead can fit one for each class.'
        raise ValueError(
            f'calibrate: expected one class an image, got {model.head_name}, which gives each class its own '
            f'probability. {own}'
        )


def labelled_scores(
    model: HybridInferencer,
    data: str,
    batch_size: Optional[int] = None,
    workers: Optional[int] = None,
    on_unreadable: str = 'skip',
) -> LabelledScores:
    """Run the model on held-out images as a test does, and return scores and labels.

    Raises:
        ValueError: As :func:`calibrate`.
    """
    items, notes = held_out_images(data, model.checkpoint_path, model.config)
    items = _with_labels(model, data, items, notes)
    sizes: set[tuple[int, ...]] = set()
    precisions: set[str] = set()

    def look(module: Any, args: tuple, kwargs: Mapping[str, Any]) -> None:
        inputs = args[0] if args else kwargs['inputs']
        sizes.add(tuple(inputs.shape[-2:]))
        precisions.add(precision_of(inputs.device))

    handle = model.model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        answers = model(
            ImageInputs(items, len(items)), batch_size=batch_size, workers=workers, top_k=1, on_unreadable=on_unreadable
        )
        given = list(answers)
    finally:
        handle.remove()
    if answers.unreadable:
        first = answers.unreadable[0]
        notes.append(
            f'{counted(len(answers.unreadable), "image")} cannot be read, the first: {first.path}: {first.reason}'
        )
    number_of = {name: number for number, name in enumerate(model.classes)}
    labels = [_UNKNOWN if answer.label is None else number_of[answer.label] for answer in given]
    broken = [answer.path for answer in given if answer.scores is None or not bool((answer.scores >= 0).all())]
    if broken:
        raise ValueError(
            f'calibrate: expected a probability of each class, got NaN for {len(broken)} of {len(given)} images, the '
            f'first: {broken[0]}. Are the weights finite? Half precision can overflow: leave out --amp.'
        )
    scores = torch.stack([torch.from_numpy(answer.scores) for answer in given]) if given else torch.zeros(0, 1)
    return LabelledScores(
        scores,
        torch.tensor(labels, dtype=torch.int64),
        precisions.pop() if len(precisions) == 1 else 'float32',
        list(sizes.pop()) if len(sizes) == 1 else None,
        notes,
        image_sketch(items),
        items,
    )


def _with_labels(model: HybridInferencer, data: str, items: list, notes: list[str]) -> list:
    """Drop unlabelled images, and check that the labels are classes of the model."""
    labelled = [item for item in items if item.label]
    if not labelled:
        raise ValueError(
            f'calibrate: expected images with labels, got {len(items)} without in {data}. Put them into folders named '
            'after the classes, or write a table with the columns path and label.'
        )
    if len(labelled) < len(items):
        notes.append(
            f'Left out because they have no label: {counted(len(items) - len(labelled), "image", of=len(items))}.'
        )
    found = Counter(item.label for item in labelled)
    unknown = {name: count for name, count in found.items() if model.class_of(name) is None}
    if len(unknown) == len(found):
        raise ValueError(
            f'calibrate: expected images of the classes {listed(model.classes, 5)}, got those of '
            f'{listed(found, 5)} in {data}: none is a class of the model.'
        )
    if len({model.class_of(name) for name in found} - {None}) < 2:
        raise ValueError(
            f'calibrate: expected images of at least two classes of the model, got {listed(found, 5)} only. A '
            'calibration on one class does not hold for others.'
        )
    absent = [name for name in model.classes if name not in {model.class_of(label) for label in found}]
    if absent:
        notes.append(
            f'{counted(len(absent), "class", "classes", of=len(model.classes))} of the model '
            f'{verb_of(len(absent), "has", "have")} no image here ({listed(absent, 5)}): nothing is measured or '
            'guaranteed of images of these.'
        )
    if unknown:
        notes.append(
            f'{counted(sum(unknown.values()), "image")} of classes that the model does not have '
            f'({listed(unknown, 5)}): they count as wrong if they are answered, and are not used for scaling and sets.'
        )
    return labelled


def fit_calibration(
    given: LabelledScores,
    classes: Sequence[str],
    scale: Optional[str] = None,
    risk: Optional[float] = None,
    confidence: float = 0.95,
    sets: Optional[float] = None,
    seed: int = 0,
    measure: bool = True,
    split: bool = False,
) -> CalibrationReport:
    """Fit the scaling and the thresholds.

    What a threshold is tested with must not have fitted anything. With ``risk``, ``sets`` or ``split`` a random quarter
    of the images fits the scaling (a half for ``'vector'`` and ``'isotonic'``), and the others test.

    Args:
        given (LabelledScores): Of held-out images.
        classes (Sequence[str]): The names of the C classes.
        scale, risk, confidence, sets, seed: As for :func:`calibrate`. Where images test a threshold, a temperature of
            ``scale=None`` is judged by those that fit it: those that test must choose nothing.
        measure (bool): Measure what the scaling brings on images that did not fit it. Defaults to True.
        split (bool): Keep images that fit nothing, for thresholds that are found elsewhere. Defaults to False.

    Raises:
        ValueError: If there are too few images, or the scaling has no best numbers.
    """
    is_asked, scale = scale is not None, scale or 'temperature'
    _check_settings(scale, risk, confidence, sets)
    scores, labels = given.scores, given.labels
    known = labels != _UNKNOWN
    if int(known.sum()) < _LEAST:
        raise ValueError(
            f'calibrate: expected at least {_LEAST} images of classes of the model, got {int(known.sum())}.'
        )
    split = split or risk is not None or sets is not None
    is_test = _testing(len(labels), scale if split else None, seed)
    fits = known & ~is_test if split else known
    _check_classes(scale, labels[fits], classes, split)
    scaling = fit_scaling(scale, scores[fits], labels[fits])
    report = CalibrationReport(
        Calibration(
            '', '', list(classes), scaling, precision=given.precision, img_size=given.img_size, images=len(labels)
        ),
        list(given.notes),
    )
    if scale != 'none' and measure:
        _measure(report, scores, labels, known, is_test, split, is_asked)
    if not is_asked and measure:
        _keep_if_better(report, scores[fits], labels[fits], split)
    calibrated = apply_scaling(report.calibration.scaling, scores)
    changes: dict[str, Any] = {}
    if risk is not None:
        top, predicted = calibrated.max(1)
        report.risk = risk_threshold(top, predicted != labels, is_test, risk, confidence)
        if report.risk.threshold is None:
            report.missing.append(_risk_is_missing(report.risk, risk, confidence))
        else:
            changes['risk'] = dict(
                risk=risk,
                confidence=confidence,
                threshold=report.risk.threshold,
                answered=report.risk.answered,
                errors=report.risk.errors,
                images=report.risk.images,
            )
    if sets is not None:
        tests = known & is_test
        right = calibrated[tests].gather(1, labels[tests].unsqueeze(1)).squeeze(1)
        threshold = conformal_threshold(right, sets)
        if threshold is None:
            missing = math.ceil(images_for_sets(sets) / (1 - _FITS[scale])) - len(labels)
            report.missing.append(
                f'Sets that lack the right class with at most {sets:.3g} need about {max(1, missing)} more images.'
            )
        else:
            changes['sets'] = dict(alpha=sets, threshold=threshold, images=len(right))
    report.calibration = Calibration(**{**vars(report.calibration), **changes})
    return report


def _testing(count: int, scale: Optional[str], seed: int) -> Tensor:
    """Return which images are used to test: those not used to fit a scaling or, without one, half of them."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    is_test = torch.ones(count, dtype=torch.bool)
    is_test[order[: round(count * (0.5 if scale is None else _FITS[scale]))]] = False
    return is_test


def _check_classes(scale: str, labels: Tensor, classes: Sequence[str], split: bool) -> None:
    """Raise if a scaling with parameters per class lacks images of some class."""
    if scale not in ('vector', 'isotonic'):
        return
    counts = torch.bincount(labels, minlength=len(classes))
    absent = [name for name, count in zip(classes, counts.tolist(), strict=True) if not count]
    if absent:
        where = ' among those that fit the scaling' if split else ''
        raise ValueError(
            f'calibrate: expected images of each class for --scale {scale}, got none{where} of {listed(absent, 5)}. '
            'Add some, or use --scale temperature.'
        )


def _measure(
    report: CalibrationReport,
    scores: Tensor,
    labels: Tensor,
    known: Tensor,
    is_test: Tensor,
    split: bool,
    is_asked: bool,
) -> None:
    """Compare the metrics before and after calibration, on images that the scaling was not fitted on."""
    scaling = report.calibration.scaling
    rows, after = [], []
    try:
        for tests in [known & is_test] if split else [known & is_test, known & ~is_test]:
            own = scaling if split else fit_scaling(scaling['kind'], scores[known & ~tests], labels[known & ~tests])
            rows.append(tests)
            after.append(apply_scaling(own, scores[tests]))
    except (ValueError, IndexError) as error:
        report.notes.append(f'Its effect on other images was not measured: {error}')
        return
    truth = torch.cat([labels[tests] for tests in rows])
    before, now = (_quality(of, truth) for of in (torch.cat([scores[tests] for tests in rows]), torch.cat(after)))
    measured = {name: [before[name], now[name]] for name in ('nll', 'ece')}
    report.calibration = Calibration(**{**vars(report.calibration), 'measured': measured})
    how = 'not used to fit it' if split else 'each half scaled by the fit to the other'
    worse = ''
    if now['nll'] >= before['nll'] and is_asked:
        worse = (
            f' The likelihood is not better. The scaling is kept because --scale {scaling["kind"]} asks for it: use '
            'more images, another --scale, or --scale none.'
        )
    elif now['nll'] >= before['nll'] and split:
        worse = (
            ' The likelihood is not better, but these images test thresholds and may not choose the scaling: use more '
            'images, or --scale none.'
        )
    report.notes.append(
        f'On held-out images ({len(truth)}, {how}): NLL {before["nll"]:.4f} -> {now["nll"]:.4f} nats, ECE '
        f'{before["ece"]:.2f} -> {now["ece"]:.2f} %.{worse}'
    )


def _keep_if_better(report: CalibrationReport, scores: Tensor, labels: Tensor, split: bool) -> None:
    """Take a temperature that was not asked for back, unless it makes the likelihood of other images better.

    Args:
        report (CalibrationReport): With the temperature, and what :func:`_measure` found if nothing is tested.
        scores (Tensor), labels (Tensor): Of the images that fitted it.
        split (bool): Whether other images test thresholds: then these alone judge, each fifth by the other four.
    """
    found, how = report.calibration.measured.get('nll'), 'on held-out images'
    if split:
        folds = torch.arange(len(labels)) % 5
        try:
            after = torch.cat([
                apply_scaling(fit_scaling('temperature', scores[folds != fold], labels[folds != fold]),
                              scores[folds == fold])
                for fold in range(5)
            ])  # fmt: skip
        except (ValueError, IndexError):  # too few to tell
            return
        truth = torch.cat([labels[folds == fold] for fold in range(5)])
        found = [_quality(scores, labels)['nll'], _quality(after, truth)['nll']]
        how = 'on the images that fit it, each fifth scaled by the fit to the others'
    if found is None or found[1] < found[0]:
        return
    none = dict(scaling=fit_scaling('none', scores, labels), measured={})
    report.calibration = Calibration(**{**vars(report.calibration), **none})
    report.notes.append(
        f'No scaling: a temperature does not make the likelihood better ({how}: NLL {found[0]:.4f} -> {found[1]:.4f}), '
        'so the probabilities stay as the model says them. --scale temperature keeps it anyway.'
    )


def _quality(scores: Tensor, labels: Tensor) -> dict[str, float]:
    metric = CalibrationMetric()
    metric.process(
        None, [dict(pred_score=score, gt_label=label) for score, label in zip(scores, labels.view(-1, 1), strict=True)]
    )
    return metric.compute_metrics(metric.results)


def _risk_is_missing(found: RiskThreshold, risk: float, confidence: float) -> str:
    asked = f'An error of at most {risk:.3g} among answered images with confidence {confidence:.3g}'
    if found.missing is None:
        return (
            f'{asked} is not reached at any threshold: a larger share is wrong even among the surest images. More '
            'images will not help; use a better model or a larger --risk.'
        )
    return f'{asked} cannot be shown with these images: about {found.missing} more of the same kind are needed.'
