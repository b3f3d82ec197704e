"""Fidelity cases of update stages and Lion: the weights after some steps on a small model."""

from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor, nn

from hybridcls.engine.optim import ComposedOptimWrapper
from hybridcls.registry import OPTIMIZERS

from .fidelity_case import Expected, FidelityCase, Found, Official, Place
from .fixed_inputs import Dimensions, SmallNet, set_parameters, waves

__all__ = ['CASES', 'STEPS', 'Training', 'TRAININGS', 'batch_of_step', 'LateDecay']

STEPS = 5


class Training(NamedTuple):
    """An optimizer, one of our stages around it (None: alone), and parameters that are not compared."""

    optimizer: str
    settings: dict[str, Any]
    stage: Optional[dict[str, Any]] = None
    steps: int = STEPS
    model: str = 'SmallNet'
    without: tuple[str, ...] = ()


_SGD = dict(lr=0.1, momentum=0.9, weight_decay=0.1)
_ADAM = dict(lr=0.1, weight_decay=0.1)


def _gc(optimizer: str, settings: dict, **keys: Any) -> Training:
    return Training(optimizer, settings, dict(type='GradientCentralization', **keys), 3, 'Dimensions')


TRAININGS = {
    'SAM': Training('SGD', _SGD, dict(type='SAM', rho=0.3)),
    'ASAM': Training('SGD', _SGD, dict(type='SAM', rho=1.0, adaptive=True)),
    'FriendlySAM': Training('SGD', _SGD, dict(type='FriendlySAM', rho=0.2, sigma=1, lmbda=0.6)),
    'FriendlySAM, sigma=0.5': Training('SGD', _SGD, dict(type='FriendlySAM', rho=0.5, sigma=0.5, lmbda=0.9)),
    'FriendlySAM, adaptive': Training(
        'SGD', _SGD, dict(type='FriendlySAM', rho=1.0, sigma=1, lmbda=0.9, adaptive=True)
    ),
    'FriendlySAM, AdamW': Training(
        'AdamW', dict(lr=0.02, weight_decay=0.1), dict(type='FriendlySAM', rho=0.2, sigma=1, lmbda=0.95)
    ),
    'MSAM': Training('SGD', _SGD, dict(type='MSAM', rho=0.3)),
    'MSAM, AdamW': Training('AdamW', dict(lr=0.02, weight_decay=0.0), dict(type='MSAM', rho=1.0)),
    'MSAM, AdamW with decay': Training('LateDecay', dict(lr=0.02, decay=0.1), dict(type='MSAM', rho=1.0)),
    'Lookahead': Training('SGD', _SGD, dict(type='Lookahead', k=2, alpha=0.5)),
    'Lookahead, reset': Training('SGD', _SGD, dict(type='Lookahead', k=2, alpha=0.5, momentum='reset')),
    'Lookahead, pullback': Training('SGD', _SGD, dict(type='Lookahead', k=3, alpha=0.5, momentum='pullback')),
    'Lion': Training('Lion', dict(lr=0.01, weight_decay=0.1)),
    'GradientCentralization': _gc('SGD', _SGD, layers='official', with_weight_decay=True),
    'GradientCentralization, convolutions': _gc('SGD', _SGD, layers='official_conv', with_weight_decay=True),
    # Gradients of a single input are 0 but for rounding, which Adam makes as large as any other.
    'GradientCentralization, Adam': _gc('Adam', _ADAM, layers='official', with_weight_decay=True)._replace(
        without=('one_input.weight',)
    ),
    'GradientCentralization on the update': _gc('Adam', _ADAM, layers='official', on='update'),
    'GradientCentralization on the update, convolutions': _gc('Adam', _ADAM, layers='official_conv', on='update'),
    'GradientCentralization on the update, AdamW': _gc(
        'AdamW', dict(lr=0.1, weight_decay=0.0), layers='official', on='update'
    ),
}
"""By the name of the case."""


class LateDecay(torch.optim.AdamW):
    """AdamW that decays after its step, as in the code of the authors of MSAM."""

    def __init__(self, params: Any, lr: float, decay: float) -> None:
        super().__init__(params, lr=lr, weight_decay=0)
        self.decay = decay

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step, then decay."""
        super().step(closure)
        for group in self.param_groups:
            for param in group['params']:
                param.mul_(1 - group['lr'] * self.decay)


def batch_of_step(step: int) -> np.ndarray:
    """Return the five images of a step."""
    return waves(5, 2, 3, 3, start=7 * step)


def _optimizer(name: str, params: Any, settings: dict[str, Any]) -> Any:
    made = LateDecay if name == 'LateDecay' else OPTIMIZERS.get(name)
    return made(params, **settings)


def _trained(training: Training) -> Any:
    def found(place: Place) -> Found:
        model: nn.Module = SmallNet() if training.model == 'SmallNet' else Dimensions()
        model.to(place.device, place.dtype)
        set_parameters(model, 0.5 if training.model == 'SmallNet' else 1.0)
        optimizer = _optimizer(training.optimizer, model.parameters(), training.settings)
        wrapper = ComposedOptimWrapper(optimizer, stages={} if training.stage is None else dict(one=training.stage))
        wrapper.initialize_count_status(model, 0, training.steps)
        for step in range(training.steps):
            if isinstance(model, SmallNet):
                model.train_step(dict(inputs=place.tensor(batch_of_step(step))), wrapper)
            else:
                wrapper.update_params(model.linear_loss(step))  # type: ignore[operator]
        return {name: param for name, param in model.named_parameters() if name not in training.without}

    return found


_LOOK = Training('SGD', dict(lr=0.1), dict(type='SAM', rho=0.3, every=3, reuse=0.7))


def _look_by_loops() -> Expected:
    """Run algorithm 1 of LookSAM, with all parameters in one vector."""
    model = set_parameters(SmallNet().double(), 0.5)
    params = list(model.parameters())

    def gradient(step: int) -> Tensor:
        loss = model(torch.from_numpy(batch_of_step(step)))['loss']
        return torch.cat([one.flatten() for one in torch.autograd.grad(loss, params)])

    weights = nn.utils.parameters_to_vector(params).detach()
    kept = torch.zeros_like(weights)
    for step in range(STEPS):
        nn.utils.vector_to_parameters(weights, params)
        first = gradient(step)
        if step % 3 == 0:
            nn.utils.vector_to_parameters(weights + 0.3 * first / first.norm(), params)
            used = gradient(step)
            kept = used - (used @ first) / (first @ first) * first
        else:
            used = first + 0.7 * first.norm() / kept.norm() * kept
        weights = weights - 0.1 * used
    nn.utils.vector_to_parameters(weights, params)
    return {name: param.detach().numpy() for name, param in model.named_parameters()}


_SAM = 'SAM, arXiv 2010.01412'
_GC_PAPER = 'Gradient centralization, arXiv 2004.01461'
_SAM_CODE = Official('davda54/sam', '3c3afdbd', 'sam.py')
_FRIENDLY = Official('nblt/F-SAM', '2e2f9899', 'utils.py')
_LOOKAHEAD = Official('michaelrzhang/lookahead', 'c4fd85f7', 'lookahead_pytorch.py')
_GC_DEVIATES = (
    "the code goes by the number of dimensions: layers='official' or 'official_conv'; by default layers decide, and "
    'embeddings, LoRA, class weights and rows of one number are left out'
)
_GC_DECAY = f'{_GC_DEVIATES}. It adds the weight decay first: with_weight_decay=True; the default does not'


def _centralization(file: str) -> Official:
    return Official('Yonghongwei/Gradient-Centralization', 'ed2a608c', f'algorithm-GC/algorithm/{file}.py')


def _msam(file: str) -> Official:
    return Official('MarlonBecker/MSAM', '780fa4f6', f'optimizer/{file}.py')


def _settings(training: Training) -> str:
    stage = {key: value for key, value in (training.stage or {}).items() if key != 'type'}
    keys = ', '.join(f'{key}={value!r}' for key, value in stage.items())
    optimizer = ', '.join(f'{key}={value!r}' for key, value in training.settings.items())
    return f'{keys}{"; " if keys else ""}{training.optimizer}({optimizer}), {training.steps} steps'


def _case(name: str, piece: str, paper: str, official: Official, deviates: str = '') -> FidelityCase:
    training = TRAININGS[name]
    kind = 'optimizer' if training.stage is None else 'stage'
    return FidelityCase(
        name, (piece,), kind, paper, official, _settings(training), _trained(training), deviates=deviates
    )


CASES = [
    _case('SAM', 'SAM', _SAM, _SAM_CODE),
    _case('ASAM', 'SAM', 'ASAM, arXiv 2102.11600', _SAM_CODE,
          "the authors' code adds 0.01 to |w|, on weights only: adaptive='weights', eta=0.01; this code and "
          'adaptive=True are the equation'),
    FidelityCase(
        'LookSAM', ('SAM',), 'stage', 'LookSAM, arXiv 2203.02714', 'algorithm 1 in float64, by hand', _settings(_LOOK),
        _trained(_LOOK), _look_by_loops,
    ),
    *(_case(name, 'FriendlySAM', 'Friendly SAM, arXiv 2403.12350', _FRIENDLY)
      for name in TRAININGS if name.startswith('FriendlySAM')),
    _case('MSAM', 'MSAM', 'Momentum-SAM, arXiv 2401.12033', _msam('msam'),
          'the code takes no heed of nesterov, which is that of torch here, refuses several groups of parameters, and '
          'where rho changes restores by the new one, here by the old one (no switches)'),
    _case('MSAM, AdamW', 'MSAM', 'Momentum-SAM, arXiv 2401.12033', _msam('adamW_msam')),
    _case('MSAM, AdamW with decay', 'MSAM', 'Momentum-SAM, arXiv 2401.12033', _msam('adamW_msam'),
          "the code's AdamW decays after its step, that of torch before it (no switch; this case has an "
          'optimizer of its own)'),
    _case('Lookahead', 'Lookahead', 'Lookahead, arXiv 1907.08610', _LOOKAHEAD),
    _case('Lookahead, reset', 'Lookahead', 'Lookahead, arXiv 1907.08610', _LOOKAHEAD),
    _case('Lookahead, pullback', 'Lookahead', 'Lookahead, arXiv 1907.08610', _LOOKAHEAD,
          'from the second slow step on the code averages the momentum with itself, as its copy is the momentum; here '
          'the copy is one, as in the paper (no switch)'),
    _case('GradientCentralization', 'GradientCentralization', _GC_PAPER, _centralization('SGD'), _GC_DECAY),
    _case('GradientCentralization, convolutions', 'GradientCentralization', _GC_PAPER, _centralization('SGD'),
          _GC_DECAY),
    _case('GradientCentralization, Adam', 'GradientCentralization', _GC_PAPER, _centralization('Adam'), _GC_DECAY),
    _case('GradientCentralization on the update', 'GradientCentralization', _GC_PAPER, _centralization('Adam'),
          _GC_DEVIATES),
    _case('GradientCentralization on the update, convolutions', 'GradientCentralization', _GC_PAPER,
          _centralization('Adam'), _GC_DEVIATES),
    _case('GradientCentralization on the update, AdamW', 'GradientCentralization', _GC_PAPER, _centralization('Adam'),
          _GC_DEVIATES),
    _case('Lion', 'Lion', 'Lion, arXiv 2302.06675', Official('google/automl', '6a54c874', 'lion/lion_pytorch.py')),
]  # fmt: skip
