"""Fidelity cases of CBAM, TokenLearner, TokenFuser and the fusion of the streams."""

from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from hybridcls.registry import MODELS

from .fidelity_case import Expected, FidelityCase, Found, Official, Place
from .fixed_inputs import set_parameters, waves

__all__ = ['CASES', 'CBAM_FORMS', 'LEARNERS', 'Learner']

CBAM_FORMS: list[dict[str, Any]] = [
    dict(), dict(use_spatial=False), dict(pool_types=['lp'], use_spatial=False), dict(pool_types=['lse']),
    dict(pool_types=['max', 'lse', 'lp', 'avg']), dict(pool_types=['avg']), dict(use_channel=False),
]  # fmt: skip


class Learner(NamedTuple):
    """A variant of TokenLearner, and the class of the authors' code with its keys."""

    keys: dict[str, Any]
    cls: str
    settings: dict[str, Any]


LEARNERS = {
    'TokenLearner': Learner(dict(hidden=7), 'TokenLearnerModuleV11', dict(bottleneck_dim=7)),
    'TokenLearner v1': Learner(dict(form='v1', output_norm=False), 'TokenLearnerModule', {}),
    'TokenLearner v1, mean': Learner(
        dict(form='v1', pooling='mean'), 'TokenLearnerModule', dict(use_sum_pooling=False)
    ),
    'TokenFuser': Learner(dict(hidden=7), 'TokenFuser', dict(bottleneck_dim=7)),
    'TokenFuser without norms': Learner(
        dict(hidden=7, use_norm=False), 'TokenFuser', dict(bottleneck_dim=7, use_normalization=False)
    ),
}
"""By the name of the case; 3 tokens of 5 channels from a 4 x 4 map."""


def _built(place: Place, scale: float = 1.0, **cfg: Any) -> nn.Module:
    return set_parameters(MODELS.build(cfg).to(place.device, place.dtype).eval(), scale)


def _cbam(place: Place) -> Found:
    numbers: dict[str, Tensor] = {}
    for keys in CBAM_FORMS:
        module = _built(place, type='CBAM', channels=4, reduction=2, identity_init=False, **keys)
        numbers[str(keys)] = module(place.tensor(waves(2, 4, 3, 5)))
    return numbers


def _learner(name: str) -> Any:
    def found(place: Place) -> Found:
        kind = name.partition(' ')[0]
        module = _built(place, 0.5, type=kind, channels=5, num_tokens=3, **LEARNERS[name].keys)
        positions = place.tensor(waves(2, 16, 5, phase=0.6))
        if kind == 'TokenFuser':
            return dict(out=module(place.tensor(waves(2, 3, 5, phase=1.6)), positions))
        return dict(out=module(positions))

    return found


_STREAMS = waves(2, 4, 3, 3, phase=0.1), waves(2, 6, phase=0.9)


def _fusion(kind: str, **keys: Any) -> Any:
    def found(place: Place) -> Found:
        module = _built(place, type=kind, in_channels=(4, 6), fusion_dim=5, **keys)
        return dict(embedding=module(tuple(place.tensor(part) for part in _STREAMS))[0])

    return found


def _parameters(kind: str, **keys: Any) -> list[np.ndarray]:
    module = MODELS.build(dict(type=kind, in_channels=(4, 6), fusion_dim=5, **keys))
    return [waves(*param.shape, start=10 * place) for place, param in enumerate(module.parameters())]


def _gate_by_hand() -> Expected:
    w1, b1, w2, b2, w, b = _parameters('DHAFusion', reduction=2)
    joined = np.concatenate([_STREAMS[0].mean((2, 3)), _STREAMS[1]], axis=1)
    gate = 1 / (1 + np.exp(-(np.maximum(joined @ w1.T + b1, 0) @ w2.T + b2)))
    return dict(embedding=(joined * gate) @ w.T + b)


def _concatenated_by_hand() -> Expected:
    w, b = _parameters('ConcatFusion')
    return dict(embedding=np.concatenate([_STREAMS[0].mean((2, 3)), _STREAMS[1]], axis=1) @ w.T + b)


def _added_by_hand() -> Expected:
    w1, b1, w2, b2 = _parameters('SumFusion')
    return dict(embedding=_STREAMS[0].mean((2, 3)) @ w1.T + b1 + _STREAMS[1] @ w2.T + b2)


_TOKENS = 'TokenLearner, arXiv 2106.11297'
_SCENIC = Official('google-research/scenic', '4a38d475', 'scenic/projects/token_learner/model.py')


def _token_case(name: str, deviates: str = '') -> FidelityCase:
    learner = LEARNERS[name]
    settings = ', '.join(f'{key}={value!r}' for key, value in learner.settings.items())
    keys = ', '.join(f'{key}={value!r}' for key, value in learner.keys.items())
    return FidelityCase(
        name, (name.partition(' ')[0].rstrip(','),), 'module', _TOKENS, _SCENIC, f'{keys}: {learner.cls}({settings})',
        _learner(name), deviates=deviates,
    )  # fmt: skip


CASES = [
    FidelityCase(
        'CBAM', ('CBAM',), 'module', 'CBAM, arXiv 1807.06521',
        Official('Jongchan/attention-module', '459efad0', 'MODELS/cbam.py'),
        '7 forms: pools, without the channel or the spatial gate; identity_init=False', _cbam,
        deviates='started as the code does, it scales a pretrained map by a quarter: identity_init=False; by default '
        'it starts as the identity',
    ),
    _token_case('TokenLearner'),
    _token_case('TokenLearner v1', 'the sums are normalized by default: output_norm=False is the code, and the default '
                "form is 'v1.1'"),
    _token_case('TokenLearner v1, mean'),
    _token_case('TokenFuser'),
    _token_case('TokenFuser without norms'),
    FidelityCase(
        'DHAFusion', ('DHAFusion', 'DynamicHeadAttention'), 'module', 'Squeeze-and-excitation, arXiv 1709.01507',
        'equation 3 over both streams, in float64', 'reduction=2', _fusion('DHAFusion', reduction=2), _gate_by_hand,
    ),
    FidelityCase(
        'ConcatFusion', ('ConcatFusion',), 'module', 'no paper', 'concatenation and a matrix, in float64',
        'fusion_dim=5', _fusion('ConcatFusion'), _concatenated_by_hand,
    ),
    FidelityCase(
        'SumFusion', ('SumFusion',), 'module', 'no paper', 'two matrices and a sum, in float64', 'fusion_dim=5',
        _fusion('SumFusion'), _added_by_hand,
    ),
]  # fmt: skip
