"""Fidelity cases of margins and heads: ArcFace, CosFace, AdaFace, combined, class-wise, sub-centers, Partial FC."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from hybridcls.functional import (
    adaptive_margin_on_target,
    angular_margin_on_target,
    combined_margin_on_target,
    margin_cross_entropy,
    moved_norm_statistics,
    norm_moments,
    norm_scaler,
)
from hybridcls.functional.margins import sample_classes
from hybridcls.registry import MODELS

from .fidelity_case import FidelityCase, Found, Official, Place, gradient_of
from .fixed_inputs import ANGLES, CLASS_WEIGHTS, LABELS, adaface_batches, waves

__all__ = ['CASES', 'CLASS_COUNTS', 'FEW_CLASSES', 'NORMS', 'SAMPLED_LABELS', 'SCALE', 'samples_of']

NORMS = np.array([0.0001, 5.0, 10.0, 20.0, 30.0, 60.0, 500.0])
CLASS_COUNTS = (1000, 200, 40, 7)
SAMPLED_LABELS = np.array([3, 11, 7, 3, 19, 0])
FEW_CLASSES = 0.2
"""Of 20 classes: fewer than the batch has, so that nothing is drawn."""
SCALE = 16.0
"""Small enough that PartialFC_V2's bound of the loss, -log(1e-30) a sample, does not act."""

_ARCFACE = 'ArcFace, arXiv 1801.07698'
_COSFACE = 'CosFace, arXiv 1801.09414'
_ADAFACE = 'AdaFace, arXiv 2204.00964'
_OLD_ARCFACE = Official('deepinsight/insightface', '2e2e8c97', 'recognition/arcface_torch/losses.py')
_INSIGHTFACE = Official('deepinsight/insightface', '7fadd420', 'recognition/arcface_torch/losses.py')
_PARTIAL_FC = Official('deepinsight/insightface', '7fadd420', 'recognition/arcface_torch/partial_fc_v2.py')


def _on_angles(function: Any) -> Any:
    def found(place: Place) -> Found:
        cosine = place.tensor(np.cos(ANGLES), gradient=True)
        logits = 64 * function(cosine)
        logits.sum().backward()
        return dict(logits=logits, slopes=gradient_of(cosine))

    return found


def samples_of(labels: Iterable[int]) -> list[DataSample]:
    """Return samples with these labels."""
    return [DataSample().set_gt_label(int(label)) for label in labels]


def _head(place: Place, weight: np.ndarray, **keys: Any) -> Any:
    head = MODELS.build(
        dict(num_classes=len(weight), in_channels=weight.shape[-1], head_precision='float32', **keys)
    ).to(place.device, place.dtype)
    with torch.no_grad():
        head.weight.copy_(place.tensor(weight))
    return head


def _of_head(weight: np.ndarray, labels: np.ndarray, embeddings: np.ndarray, **keys: Any) -> Any:
    def found(place: Place) -> Found:
        head = _head(place, weight, **keys)
        feats = place.tensor(embeddings, gradient=True)
        loss = head.loss((feats,), samples_of(labels))['loss']
        loss.backward()
        return dict(loss=loss, embedding_gradients=gradient_of(feats), weight_gradients=gradient_of(head.weight))

    return found


def _adaface(batches: int, **keys: Any) -> Any:
    def found(place: Place) -> Found:
        head = _head(place, CLASS_WEIGHTS, type='AdaFaceHead', t_alpha=0.2, **keys)
        numbers: dict[str, list[Tensor]] = dict(losses=[], means=[], stds=[], gradients=[])
        for batch in adaface_batches()[:batches]:
            feats = place.tensor(batch, gradient=True)
            losses = head.loss((feats,), samples_of(LABELS))
            losses['loss'].backward()
            for name, value in zip(
                numbers, (losses['loss'], losses['norm_mean'], losses['norm_std'], gradient_of(feats)), strict=True
            ):
                numbers[name].append(value.detach())
        return {name: torch.stack(values) for name, values in numbers.items()}

    return found


def _adaface_on_angles(place: Place) -> Found:
    norms = place.tensor(NORMS)
    start = place.tensor(np.array(20.0)), place.tensor(np.array(100.0))
    mean, std = moved_norm_statistics(norm_moments(norms).unsqueeze(0), *start, 0.2)
    cosine = place.tensor(np.cos(ANGLES), gradient=True)
    scaler = norm_scaler(norms, mean, std, 0.333)
    logits = 64 * adaptive_margin_on_target(cosine, scaler, 0.4, gradient='straight_through', clip_angle=False)
    logits.sum().backward()
    return dict(logits=logits, slopes=gradient_of(cosine), mean=mean.squeeze(), std=std.squeeze())


def _combined(place: Place) -> Found:
    cosine = place.tensor(np.cos(ANGLES), gradient=True)
    logits = combined_margin_on_target(cosine, 1.2, 0.3, 0.1, beyond_pi='wrap')
    logits.sum().backward()
    return dict(logits=logits, slopes=gradient_of(cosine))


def _subcenters(place: Place) -> Found:
    margin = dict(type='ArcFace', margin=0.5, beyond_pi='wrap')
    keys = dict(type='MarginHead', scale=SCALE, margin=margin, num_subcenters=3)
    return _of_head(waves(4, 3, 5, phase=0.3), LABELS, waves(6, 5, phase=1.0), **keys)(place)


def _sampled(place: Place) -> Found:
    """Compute the loss of a process for its sampled classes, which here are those of the batch."""
    feats = place.tensor(waves(6, 5, phase=1.0), gradient=True)
    weight = place.tensor(waves(20, 5, phase=0.3), gradient=True)
    classes, labels = sample_classes(torch.from_numpy(SAMPLED_LABELS).to(place.device), 20, FEW_CLASSES)

    def margin(cosine: Tensor, norms: Tensor) -> Tensor:
        return angular_margin_on_target(cosine, 0.5, 'wrap', 'straight_through')

    loss, _ = margin_cross_entropy(feats, weight[classes], labels, margin, scale=SCALE)
    loss.backward()
    return dict(
        loss=loss, classes=classes, embedding_gradients=gradient_of(feats), weight_gradients=gradient_of(weight)
    )


_STREAMED: dict[str, Any] = dict(softmax='streamed', softmax_memory=1)
_OF_BATCH = (CLASS_WEIGHTS, LABELS, waves(6, 5, phase=1.0))

CASES = [
    FidelityCase(
        'ArcFace on angles', ('ArcFace',), 'margin', _ARCFACE, _OLD_ARCFACE, 'margin=0.5, scale=64: class ArcFace',
        _on_angles(lambda cosine: angular_margin_on_target(cosine, 0.5)), tolerance32=1e-4,
    ),
    FidelityCase(
        'ArcFace, easy margin', ('ArcFace',), 'margin', _ARCFACE, _OLD_ARCFACE,
        "margin=0.5, scale=64, beyond_pi='easy': class ArcFace, easy_margin=True",
        _on_angles(lambda cosine: angular_margin_on_target(cosine, 0.5, 'easy')), tolerance32=1e-4,
    ),
    FidelityCase(
        'ArcFaceHead', ('ArcFaceHead', 'ArcFace', 'MarginHead'), 'head', _ARCFACE, _PARTIAL_FC,
        "margin=0.5, scale=16, beyond_pi='wrap', gradient='straight_through': PartialFC_V2, "
        'CombinedMarginLoss(16, 1, 0.5, 0)',
        _of_head(
            *_OF_BATCH, type='ArcFaceHead', scale=SCALE, margin=0.5, beyond_pi='wrap', gradient='straight_through'
        ),
        deviates="the code takes angles under no_grad: gradient='straight_through'; the default is the derivative. "
        "It lets the cosine rise again past pi: beyond_pi='wrap'; the default falls, as in the older class ArcFace. "
        'It reports at most 69.08 nats a sample, with the right gradient; here there is no bound',
    ),
    FidelityCase(
        'CosFaceHead', ('CosFaceHead', 'CosFace', 'MarginHead'), 'head', _COSFACE, _PARTIAL_FC,
        'margin=0.35, scale=16: PartialFC_V2, CombinedMarginLoss(16, 1, 0, 0.35)',
        _of_head(*_OF_BATCH, type='CosFaceHead', scale=SCALE, margin=0.35),
    ),
    FidelityCase(
        'Partial FC', ('sample_classes', 'margin_cross_entropy'), 'head', 'Partial FC, arXiv 2203.15565', _PARTIAL_FC,
        f'sample_rate={FEW_CLASSES} of 20 classes, the batch has more: PartialFC_V2, CombinedMarginLoss(16, 1, 0.5, 0)',
        _sampled,
    ),
    FidelityCase(
        'CombinedMargin', ('CombinedMargin',), 'margin', _ARCFACE,
        Official('deepinsight/insightface', '7fadd420', 'recognition/arcface_mxnet/train_parall.py'),
        "m1=1.2, m2=0.3, m3=0.1, beyond_pi='wrap': get_symbol_arcface, with torch for mxnet", _combined,
        deviates="past pi the default is a line: beyond_pi='linear'; the code is beyond_pi='wrap'",
        tolerance=1e-6,  # mxnet adds 1e-10 to squared norms, and slopes are steep beside 0 and pi
        tolerance32=1e-4,
    ),
    FidelityCase(
        'AdaFaceHead', ('AdaFaceHead', 'AdaFace', 'MarginHead'), 'head', _ADAFACE,
        Official('mk-minchul/AdaFace', 'c60eaa78', 'head.py'),
        'm=0.4, h=0.333, s=64, t_alpha=0.2, cosine_clip=0.001; three batches', _adaface(3, cosine_clip=1e-3),
        tolerance32=2e-4,
        deviates='the code keeps all cosines 0.001 from +-1: cosine_clip=0.001; the default is None',
    ),
    FidelityCase(
        'AdaFaceHead, CVLFace', ('AdaFaceHead', 'AdaFace', 'MarginHead'), 'head', _ADAFACE,
        Official('mk-minchul/CVLface', 'd3d09c93', 'cvlface/research/recognition/code/run_v1/losses/adaface.py'),
        "m=0.4, h=0.333, s=64, t_alpha=0.2, gradient='straight_through', clip_angle=False; four batches",
        _adaface(4, gradient='straight_through', clip_angle=False), tolerance32=2e-4,
        deviates="the newer code takes angles under no_grad and lets them pass 0 and pi: gradient='straight_through', "
        'clip_angle=False; the defaults are the paper\'s code',
    ),
    FidelityCase(
        'AdaFaceHead, streamed', ('AdaFaceHead',), 'head', _ADAFACE,
        Official('mk-minchul/AdaFace', 'c60eaa78', 'head.py'), "the same as AdaFaceHead, softmax='streamed'",
        _adaface(3, cosine_clip=1e-3, **_STREAMED), tolerance32=2e-4, numbers_of='AdaFaceHead',
    ),
    FidelityCase(
        'AdaFaceHead, CVLFace, streamed', ('AdaFaceHead',), 'head', _ADAFACE,
        Official('mk-minchul/CVLface', 'd3d09c93', 'cvlface/research/recognition/code/run_v1/losses/adaface.py'),
        "the same as AdaFaceHead, CVLFace, softmax='streamed'",
        _adaface(4, gradient='straight_through', clip_angle=False, **_STREAMED), tolerance32=2e-4,
        numbers_of='AdaFaceHead, CVLFace',
    ),
    FidelityCase(
        'AdaFace on angles', ('AdaFace',), 'margin', _ADAFACE,
        Official('mk-minchul/CVLface', 'd3d09c93', 'cvlface/research/recognition/code/run_v1/losses/adaface.py'),
        "m=0.4, h=0.333, s=64, t_alpha=0.2, gradient='straight_through', clip_angle=False", _adaface_on_angles,
    ),
    FidelityCase(
        'LDAM margins', ('ClassWise', 'MarginHead'), 'margin', 'LDAM, arXiv 1906.07413',
        Official('kaidic/LDAM-DRW', '2536330f', 'losses.py'),
        "ClassWise(base=CosFace, rule='proportional', high=0.5), scale=30: LDAMLoss(max_m=0.5, s=30)",
        _of_head(*_OF_BATCH, type='MarginHead', scale=30.0, margin=dict(
            type='ClassWise', base=dict(type='CosFace'), counts=CLASS_COUNTS, rule='proportional', high=0.5)),
        tolerance=1e-6,  # the margins are kept in float32
        deviates="the default rule is that of mmpretrain, 'range'",
    ),
    FidelityCase(
        'Sub-center ArcFace', ('MarginHead',), 'head', 'Sub-center ArcFace, doi 10.1007/978-3-030-58621-8_43',
        Official('deepinsight/insightface', '7fadd420', 'recognition/subcenter_arcface/train_parall.py'),
        "num_subcenters=3, ArcFace 0.5, scale=16, beyond_pi='wrap': get_symbol_arcface, with torch for mxnet",
        _subcenters, deviates="past pi the cosine of the code rises again: beyond_pi='wrap'; the default falls",
    ),
]  # fmt: skip
