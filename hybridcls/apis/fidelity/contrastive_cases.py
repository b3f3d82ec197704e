"""Fidelity cases of the supervised contrastive loss and its head."""

from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from hybridcls.functional import supervised_contrast
from hybridcls.registry import MODELS

from .fidelity_case import Expected, FidelityCase, Found, Official, Place, gradient_of
from .fixed_inputs import set_parameters, waves
from .margin_cases import samples_of

__all__ = ['CASES', 'CONTRAST_LABELS', 'HEAD_TEMPERATURE', 'INSIDE', 'SETTINGS', 'Contrast', 'positive_weights']

CONTRAST_LABELS = np.array([0, 1, 0, 2, 1, 0])  # class 2 occurs once
HEAD_TEMPERATURE = 0.2


class Contrast(NamedTuple):
    """One setting of the loss."""

    views: int
    mode: str
    temperature: float
    base_temperature: float = 0.07
    mask: str = ''

    def __str__(self) -> str:
        return ' '.join(str(part) for part in self if part != '')


SETTINGS = {
    'SupConLoss': [
        Contrast(1, 'all', 0.1), Contrast(1, 'all', 0.5, 0.5), Contrast(1, 'one', 0.07), Contrast(2, 'all', 0.1),
        Contrast(2, 'all', 0.07), Contrast(2, 'one', 0.1), Contrast(2, 'one', 0.5, 0.5), Contrast(3, 'all', 0.1),
        Contrast(3, 'one', 0.07),
    ],
    'SupConLoss without labels': [
        Contrast(1, 'all', 0.1), Contrast(2, 'all', 0.1), Contrast(2, 'one', 0.07), Contrast(3, 'all', 0.5, 0.5),
        Contrast(3, 'one', 0.1),
    ],
    'SupConLoss with a mask': [
        Contrast(views, mode, 0.2, 0.07, mask)
        for views, mode, mask in [(1, 'all', 'weights'), (1, 'all', 'binary'), (2, 'all', 'weights'),
                                  (2, 'one', 'binary'), (3, 'all', 'binary'), (3, 'one', 'weights')]
    ],
}  # fmt: skip
"""By the name of the case."""

INSIDE = [Contrast(2, 'all', 0.2, 0.2), Contrast(3, 'all', 0.1, 0.1), Contrast(2, 'one', 0.07, 0.07)]
"""Of equation 3; each anchor has a positive in another view."""

_PAPER = 'SupCon, arXiv 2004.11362'
_CODE = Official('HobbitLong/SupContrast', '66a8fe53', 'losses.py')
_GOOGLE = Official('google-research/google-research', 'ccc94ce3', 'supcon/losses.py')
_INSIDE = (
    "equation 2 is the default; equation 3 is form='in'. The code multiplies by the temperature: base_temperature=1; "
    'the default is the equation'
)
_DEVIATES = (
    'the code multiplies by temperature / 0.07: base_temperature=0.07; the default is the equation. It counts anchors '
    "without positives as 0: anchor_mean='all'; by default they are left out"
)


def positive_weights(kind: str) -> np.ndarray:
    """Return an asymmetric mask, ``'weights'`` or ``'binary'``, with one image that has no positive."""
    mask = np.abs(waves(6, 6))
    mask[mask < 0.5] = 0
    mask[3] = 0
    # The code rounds a mask to float32.
    return (mask > 0).astype(np.float64) if kind == 'binary' else mask.astype(np.float32).astype(np.float64)


def _losses(name: str, streamed: Optional[bool] = None) -> Any:
    def found(place: Place) -> Found:
        labels = torch.from_numpy(CONTRAST_LABELS).to(place.device) if name == 'SupConLoss' else None
        numbers: dict[str, Tensor] = {}
        for one in SETTINGS[name]:
            embeddings = place.tensor(waves(6, one.views, 5), gradient=True)
            switches: dict[str, Any] = dict(
                contrast_mode=one.mode, base_temperature=one.base_temperature, anchor_mean='all'
            )
            if one.mask:
                mask = place.tensor(positive_weights(one.mask))
                loss = supervised_contrast(embeddings, None, one.temperature, mask=mask, **switches)
            else:
                module = MODELS.build(
                    dict(type='SupConLoss', temperature=one.temperature, streamed=streamed, **switches)
                )
                loss = module(embeddings, labels)
            loss.backward()
            numbers[f'{one} loss'], numbers[f'{one} gradient'] = loss.detach(), gradient_of(embeddings)
        return numbers

    return found


def _inside_losses(streamed: bool) -> Any:
    def found(place: Place) -> Found:
        numbers: dict[str, Tensor] = {}
        for one in INSIDE:
            embeddings = place.tensor(waves(6, one.views, 5), gradient=True)
            module = MODELS.build(
                dict(
                    type='SupConLoss', form='in', temperature=one.temperature, contrast_mode=one.mode, streamed=streamed
                )
            )
            loss = module(embeddings, torch.from_numpy(CONTRAST_LABELS).to(place.device))
            loss.backward()
            numbers[f'{one} loss'], numbers[f'{one} gradient'] = loss.detach(), gradient_of(embeddings)
        return numbers

    return found


def _inside(place: Place) -> Found:
    numbers: dict[str, Tensor] = {}
    for streamed in (False, True):
        embeddings = place.tensor(waves(6, 2, 5), gradient=True)
        module = MODELS.build(dict(type='SupConLoss', form='in', temperature=0.2, streamed=streamed))
        loss = module(embeddings, torch.from_numpy(CONTRAST_LABELS).to(place.device))
        loss.backward()
        numbers[f'streamed={streamed} loss'] = loss.detach()
        numbers[f'streamed={streamed} gradient'] = gradient_of(embeddings)
    return numbers


def _inside_by_loops() -> Expected:
    """Compute equation 3 one anchor at a time, with the mean over positives inside the logarithm."""
    embeddings = torch.from_numpy(waves(6, 2, 5)).requires_grad_()
    rows = (embeddings / embeddings.square().sum(-1, keepdim=True).sqrt()).flatten(0, 1)
    labels = CONTRAST_LABELS.repeat(2)
    losses = []
    for anchor in range(12):
        others = [other for other in range(12) if other != anchor]
        positives = [other for other in others if labels[other] == labels[anchor]]
        similarity = {other: (rows[anchor] @ rows[other] / 0.2).exp() for other in others}
        total = torch.stack(list(similarity.values())).sum()
        losses.append(-(torch.stack([similarity[other] for other in positives]).sum() / total / len(positives)).log())
    loss = torch.stack(losses).mean()
    loss.backward()
    numbers = dict(loss=loss.detach().numpy(), gradient=gradient_of(embeddings).numpy())
    return {f'streamed={streamed} {name}': value for streamed in (False, True) for name, value in numbers.items()}


def _head(place: Place) -> Found:
    head = MODELS.build(
        dict(
            type='SupConHead', in_channels=4, projection=dict(hid_channels=5, out_channels=3),
            loss=dict(type='SupConLoss', temperature=HEAD_TEMPERATURE, base_temperature=0.07, anchor_mean='all'),
        )
    )  # fmt: skip
    set_parameters(head.to(place.device, place.dtype))
    feats = place.tensor(waves(12, 4, phase=1.0), gradient=True)
    loss = head.loss((feats,), samples_of(CONTRAST_LABELS))['loss']
    loss.backward()
    return dict(loss=loss, gradient=gradient_of(feats), weight_gradient=gradient_of(next(head.parameters())))


CASES = [
    FidelityCase(
        'SupConLoss', ('SupConLoss',), 'loss', _PAPER, _CODE, 'labels; 9 settings of views, contrast_mode, temperature',
        _losses('SupConLoss'), deviates=_DEVIATES,
    ),
    FidelityCase(
        'SupConLoss, streamed', ('SupConLoss',), 'loss', _PAPER, _CODE, 'the same, without a matrix of similarities',
        _losses('SupConLoss', streamed=True), deviates=_DEVIATES, numbers_of='SupConLoss',
    ),
    FidelityCase(
        'SupConLoss without labels', ('SupConLoss',), 'loss', 'SimCLR, arXiv 2002.05709', _CODE,
        'no labels; 5 settings', _losses('SupConLoss without labels'), deviates=_DEVIATES,
    ),
    FidelityCase(
        'SupConLoss without labels, streamed', ('SupConLoss',), 'loss', 'SimCLR, arXiv 2002.05709', _CODE,
        'the same, without a matrix of similarities', _losses('SupConLoss without labels', streamed=True),
        deviates=_DEVIATES, numbers_of='SupConLoss without labels',
    ),
    FidelityCase(
        'SupConLoss with a mask', ('supervised_contrast',), 'loss', _PAPER, _CODE,
        'an asymmetric mask, weights or binary; 6 settings', _losses('SupConLoss with a mask'), deviates=_DEVIATES,
        tolerance=1e-6,  # the code adds up the mask in float32
    ),
    FidelityCase(
        'SupConLoss, form in', ('SupConLoss',), 'loss', _PAPER, _GOOGLE,
        "form='in'; 3 settings of views, contrast_mode, temperature: contrastive_loss(summation_location=INSIDE, "
        'scale_by_temperature=False)', _inside_losses(False),
        tolerance=1e-6,  # the code computes in float32
        deviates=_INSIDE,
    ),
    FidelityCase(
        'SupConLoss, form in, streamed', ('SupConLoss',), 'loss', _PAPER, _GOOGLE,
        'the same, without a matrix of similarities', _inside_losses(True), tolerance=1e-6, deviates=_INSIDE,
        numbers_of='SupConLoss, form in',
    ),
    FidelityCase(
        'SupConLoss, form in by equation 3', ('SupConLoss',), 'loss', _PAPER, 'equation 3 in float64, by loops',
        "form='in', temperature=0.2, two views; also streamed", _inside, _inside_by_loops,
        deviates="equation 2 is the default; equation 3 is form='in'",
    ),
    FidelityCase(
        'SupConHead', ('SupConHead', 'ProjectionMLP'), 'head', _PAPER, _CODE,
        'two layers with ReLU, two views, labels; the code of the loss behind the same projection', _head,
        deviates=_DEVIATES,
    ),
]  # fmt: skip
