"""Calibrate a trained model's predictions, in tests and inferencers alike."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

import torch
from mmengine.logging import print_log
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hybridcls.functional.calibration import apply_scaling, match_sets
from hybridcls.functional.full_precision import to_float64
from hybridcls.structures import Calibration

from .stream_skipping import skips_of

__all__ = ['attach_calibration', 'calibrate_predictions', 'precision_of']


def attach_calibration(
    model: nn.Module, calibration: Calibration, version: int, token_merging_ratio: Optional[float] = None
) -> Callable[[], None]:
    """Calibrate all predictions of a model from now on.

    What it was made for is compared, precision and size of images with every batch: another one is an error if the
    calibration has a threshold, whose guarantee would not hold, or a stream is skipped by it; else a warning, once.

    Args:
        model (nn.Module): A classifier, called as mmengine calls it: ``model(inputs, data_samples, mode='predict')``.
        calibration (Calibration): Of its weights.
        version (int): The preprocessing version that images are read with.
        token_merging_ratio (float, optional): That of the key ``inference``. Defaults to None: as the model has it.

    Returns:
        Callable: Takes it off again.

    Raises:
        ValueError: If the preprocessing version or the ratio is another one, and something is guaranteed.
    """
    guarantees = calibration.has_guarantee or getattr(model, 'skipping', None) is not None
    if version != calibration.preprocessing_version:
        _tell(f'with preprocessing version {calibration.preprocessing_version}, and here it is {version}', guarantees)
    if token_merging_ratio != calibration.token_merging_ratio:
        ratios = [
            'as the model merges them' if one is None else f'merged by {one:g}'
            for one in (calibration.token_merging_ratio, token_merging_ratio)
        ]
        _tell(f'from tokens {ratios[0]}, and here they are {ratios[1]}', guarantees)
    main = getattr(getattr(model, 'head', None), 'main', None)
    warned: set[str] = set()

    def calibrated(module: nn.Module, args: tuple, kwargs: Mapping[str, Any], output: Any) -> Any:
        if kwargs.get('mode') != 'predict':
            return output
        _compare(calibration, args[0] if args else kwargs['inputs'], guarantees, warned)
        return calibrate_predictions(output, calibration, main)

    return model.register_forward_hook(calibrated, with_kwargs=True).remove


def calibrate_predictions(
    samples: Sequence[DataSample], calibration: Calibration, main: Any = None
) -> Sequence[DataSample]:
    """Write calibrated probabilities to samples.

    Fields: ``pred_score`` (C,) and ``pred_label`` (1,); with a threshold for the risk ``answered`` (1,), bool: whether
    the largest score is at least the threshold; with sets ``prediction_set`` (n,), int64: the classes whose score is at
    least the threshold of sets, the most probable first, and at least the predicted one. Uncertainties stay.

    Predictions of which some were made without a stream (``streams``) have a scaling of their own for these, and
    thresholds of their own for all.

    Args:
        samples (Sequence[DataSample]): B predictions, changed in place.
        calibration (Calibration): What is done.
        main (str, optional): Of a MultiHead, the head whose predictions these are, which are changed below ``heads``
            too. Defaults to None.

    Raises:
        ValueError: If predictions have other than the calibration's classes, or several labels an image.
    """
    if not samples:
        return samples
    if 'pred_score' not in samples[0] or 'thresholds' in samples[0]:
        raise ValueError(
            'calibration: expected predictions of one class an image. Leave the calibration off: --no-calibration.'
        )
    scores = torch.stack([sample.pred_score for sample in samples])
    if scores.shape[1] != len(calibration.classes):
        raise ValueError(
            f'calibration: expected {len(calibration.classes)} scores an image, as it was made for, got '
            f'{scores.shape[1]}. Type: hybridcls calibrate'
        )
    risk, sets_at, skipped = calibration.risk, calibration.sets, skips_of(samples)
    raw, scores = scores, apply_scaling(calibration.scaling, scores)
    if skipped is not None and calibration.skip_sure is not None:
        risk, sets_at = calibration.skip_sure['risk'], calibration.skip_sure['sets']
        if bool(skipped.any()):
            scores[skipped] = apply_scaling(calibration.skip_sure['scaling'], raw[skipped])
    best, labels = scores.max(1, keepdim=True)
    answered = None if risk is None else to_float64(best) >= risk['threshold']
    sets = None if sets_at is None else match_sets(scores, sets_at['threshold'], at_least=1)
    for row, sample in enumerate(samples):
        targets = [sample]
        if main is not None and 'heads' in sample and main in sample.heads:
            targets.append(sample.heads.get(main))
        for target in targets:
            target.set_pred_score(scores[row]).set_pred_label(labels[row])
            if answered is not None:
                target.set_field(answered[row], 'answered', dtype=Tensor)
            if sets is not None:
                target.set_field(sets[row], 'prediction_set', dtype=Tensor)
    return samples


def precision_of(device: torch.device) -> str:
    """Return the precision that a model presently computes with on a device: ``'float32'``, or that of autocast."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return 'float32'
    return str(torch.get_autocast_dtype(kind)).removeprefix('torch.')


def _compare(calibration: Calibration, inputs: Tensor, guarantees: bool, warned: set[str]) -> None:
    """Compare the conditions of a batch with those that a calibration was fitted under."""
    precision = precision_of(inputs.device)
    if precision != calibration.precision and 'precision' not in warned:
        warned.add('precision')
        _tell(f'in {calibration.precision}, and these are in {precision}', guarantees)
    size = calibration.img_size
    if size is not None and tuple(size) != tuple(inputs.shape[-2:]) and 'size' not in warned:
        warned.add('size')
        here = 'x'.join(map(str, inputs.shape[-2:]))
        _tell(f'from images of {"x".join(map(str, size))} pixels, and these have {here}', guarantees)


def _tell(difference: str, guarantees: bool) -> None:
    """Warn of conditions that a calibration was not fitted for, or reject them if a guarantee depends on them."""
    text = f'calibration: it was made from scores that were computed {difference}.'
    if guarantees:
        raise ValueError(
            f'{text} Its thresholds guarantee nothing here. Type hybridcls calibrate with the same options, or '
            '--no-calibration.'
        )
    print_log(f'{text} Probabilities may be a little off.', 'current', level=logging.WARNING)
