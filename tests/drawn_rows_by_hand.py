"""Updates of drawn rows with stages, on any device and resumed in the middle, and the same written out row by row."""

import copy

import torch
from torch import nn

from hybridcls.distributed.drawn_rows import gather_drawn, with_row_gradient
from hybridcls.engine.optim import ComposedOptimWrapper
from hybridcls.registry import OPTIMIZERS

LR, DECAY, RHO, K, ALPHA = 0.1, 0.2, 0.5, 2, 0.25
OPTIMIZERS_OF = dict(
    SGD=dict(momentum=0.9), AdamW=dict(betas=(0.9, 0.99), eps=1e-8), Lion=dict(betas=(0.9, 0.99)),
)  # fmt: skip
STAGES = dict(
    none={},
    lookahead=dict(la=dict(type='Lookahead', k=K, alpha=ALPHA)),
    msam=dict(msam=dict(type='MSAM', rho=RHO)),
    centralized=dict(gc=dict(type='GradientCentralization', include=['weight'])),
)
DRAWN = [[0, 3, 5], [3, 7], [0, 7, 9], [3, 5], [1, 9]]
NEVER = [2, 4, 6, 8]
_drawn = torch.Generator().manual_seed(0)
START, TARGET = (torch.randn(10, 3, dtype=torch.float64, generator=_drawn) for _ in range(2))


class _Rows(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = with_row_gradient(nn.Parameter(START.clone()))


def by_hand(optimizer, stage):
    """Return the weights after each update, of loops over rows that know no tensor but a row."""
    weights, slow = [row.clone() for row in START], [row.clone() for row in START]
    momenta, squares = ([torch.zeros(3, dtype=torch.float64) for _ in START] for _ in range(2))
    found = []
    for count, rows in enumerate(DRAWN, 1):
        norm = sum(float(row.square().sum()) for row in momenta) ** 0.5
        factor = RHO / norm if stage == 'msam' and norm else 0.0
        for row in rows:
            moved = weights[row] - factor * momenta[row]
            gradient = moved - TARGET[row]  # of half the squared distance
            if stage == 'centralized':
                gradient = gradient - gradient.mean()
            if optimizer == 'SGD':  # decays the weights that the gradient is of
                momenta[row] = 0.9 * momenta[row] + gradient + DECAY * moved
                weights[row] = weights[row] - LR * momenta[row]
                continue
            weights[row] = weights[row] * (1 - LR * DECAY)
            if optimizer == 'Lion':
                weights[row] = weights[row] - LR * (0.9 * momenta[row] + 0.1 * gradient).sign()
                momenta[row] = 0.99 * momenta[row] + 0.01 * gradient
            else:
                momenta[row] = 0.9 * momenta[row] + 0.1 * gradient
                squares[row] = 0.99 * squares[row] + 0.01 * gradient.square()
                size = (squares[row] / (1 - 0.99**count)).sqrt() + 1e-8
                weights[row] = weights[row] - LR * momenta[row] / (1 - 0.9**count) / size
        if stage == 'lookahead' and count % K == 0:
            slow = [one + ALPHA * (fast - one) for one, fast in zip(slow, weights, strict=True)]
            weights = [one.clone() for one in slow]
        found.append(torch.stack(weights))
    return found


def updated(optimizer, stage, device, stop=None):
    """Return the weights and the state after each update; at ``stop`` all is saved, and another one goes on."""

    def make():
        rows = _Rows().to(device)
        with_row_gradient(rows.weight)
        built = OPTIMIZERS.build(
            dict(OPTIMIZERS_OF[optimizer], type=optimizer, params=[rows.weight], lr=LR, weight_decay=DECAY)
        )
        return rows, ComposedOptimWrapper(built, copy.deepcopy(STAGES[stage]))

    (rows, wrapper), found = make(), []
    wrapper.initialize_count_status(rows, 0, len(DRAWN))
    for number, drawn in enumerate(DRAWN):
        if number == stop:
            saved = copy.deepcopy((rows.state_dict(), wrapper.state_dict()))
            rows, wrapper = make()
            rows.load_state_dict(saved[0]), wrapper.load_state_dict(saved[1])
            wrapper.initialize_count_status(rows, number, len(DRAWN))
        with wrapper.optim_context(rows):
            picked = torch.tensor(drawn, device=device)
            apart = gather_drawn(rows.weight, picked) - TARGET.to(device)[picked]
            loss = apart.square().sum() / 2
        wrapper.update_params(loss)
        state = wrapper.optimizer.state[rows.weight]
        tensors = {key: one.detach().cpu().clone() for key, one in state.items() if torch.is_tensor(one) and one.dim()}
        found.append((rows.weight.detach().cpu().clone(), tensors))
    return found


def check_drawn_rows(optimizer, stage, device):
    """Compare with the loops, look at the rows that are not drawn, and resume after each update, to the same bits."""
    straight = updated(optimizer, stage, device)
    for (weights, _), expected in zip(straight, by_hand(optimizer, stage), strict=True):
        torch.testing.assert_close(weights, expected, rtol=1e-9, atol=1e-9)
    before, old_state = START, {}
    for count, (drawn, (weights, state)) in enumerate(zip(DRAWN, straight, strict=True), 1):
        # A slow step of Lookahead takes the rows that were drawn since the last one.
        others = NEVER if stage == 'lookahead' and count % K == 0 else [row for row in range(10) if row not in drawn]
        assert torch.equal(weights[others], before[others])
        others = [row for row in range(10) if row not in drawn]
        for key, value in state.items():
            assert value.shape == START.shape
            assert torch.equal(value[others], old_state.get(key, torch.zeros_like(value))[others]), key
        before, old_state = weights, state
    for stop in range(1, len(DRAWN)):
        weights, state = updated(optimizer, stage, device, stop)[-1]
        assert torch.equal(weights, straight[-1][0]), stop
        assert state.keys() == straight[-1][1].keys()
        assert all(torch.equal(value, straight[-1][1][key]) for key, value in state.items()), stop
