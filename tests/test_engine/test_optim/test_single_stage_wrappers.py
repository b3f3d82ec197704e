import copy

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from update_toys import assert_same, make_batches, make_net, sgd, train

from hybridcls.engine.optim import (
    ComposedOptimWrapper,
    FriendlySAMOptimWrapper,
    GCOptimWrapper,
    LookaheadOptimWrapper,
    MSAMOptimWrapper,
    SAMOptimWrapper,
)

CASES = [
    (SAMOptimWrapper, dict(rho=0.3, adaptive=True), dict(sam=dict(type='SAM'))),
    (MSAMOptimWrapper, dict(rho=1.0), dict(msam=dict(type='MSAM'))),
    (FriendlySAMOptimWrapper, dict(rho=0.3, lmbda=0.6), dict(friendly_sam=dict(type='FriendlySAM'))),
    (LookaheadOptimWrapper, dict(k=2, alpha=0.8), dict(lookahead=dict(type='Lookahead'))),
    (GCOptimWrapper, dict(layers='conv'), dict(gc=dict(type='GradientCentralization'))),
]


@pytest.mark.parametrize(('kind', 'settings', 'stages'), CASES)
def test_it_is_the_composed_wrapper_with_one_stage(kind, settings, stages):
    others = dict(clip_grad=dict(max_norm=1.0), accumulative_counts=2, amp='bfloat16')
    ((name, stage),) = stages.items()
    one, other = make_net(dropout=0.0), make_net(dropout=0.0)
    with DefaultScope.overwrite_default_scope('hybridcls'):
        wrapper = build_optim_wrapper(
            one, dict(type=kind.__name__, optimizer=dict(type='SGD', lr=0.05, momentum=0.9), **settings, **others)
        )
    assert type(wrapper) is kind
    composed = ComposedOptimWrapper(sgd(other), stages={name: dict(stage, **settings)}, **others)
    train(one, wrapper, make_batches(6))
    train(other, composed, make_batches(6))
    assert_same(one, other)
    composed.load_state_dict(copy.deepcopy(wrapper.state_dict()))  # and their checkpoints are the same


@pytest.mark.parametrize(
    ('kind', 'key', 'hint'),
    [
        (SAMOptimWrapper, 'roh', "Did you mean 'rho'"),
        (LookaheadOptimWrapper, 'alhpa', "Did you mean 'alpha'"),
        (GCOptimWrapper, 'clip_gard', "Did you mean 'clip_grad'"),
    ],
)
def test_unknown_keys(kind, key, hint):
    with pytest.raises(TypeError, match=f"{kind.__name__}: unknown key '{key}'.*{hint}"):
        kind(sgd(make_net()), **{key: 1})


def test_it_has_its_one_stage_only():
    with pytest.raises(TypeError, match='is a key of ComposedOptimWrapper; this wrapper has the stage SAM'):
        SAMOptimWrapper(sgd(make_net()), stages=dict())


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match=r'SAM: expected rho in \[0, inf\), got -1'):
        SAMOptimWrapper(sgd(make_net()), rho=-1)
