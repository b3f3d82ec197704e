"""Fused optimizers by default: where they are filled in, and that an older run resumes as it was."""

import pytest
import torch
from config_helpers import applied
from mmengine.config import Config
from toy_runs import train

from hybridcls.engine import training
from hybridcls.engine.config.change import RECORD
from hybridcls.engine.config.fused_optimizer import fused_by_default, fused_optimizer
from hybridcls.engine.optim import ComposedOptimWrapper

ADAM = dict(type='AdamW', lr=0.05, weight_decay=0.1)


@pytest.mark.parametrize(
    ('optimizer', 'fused'),
    [
        (ADAM, True),
        (dict(type='SGD', lr=0.1, fused=None), True),
        (dict(type=torch.optim.Adam), True),
        (dict(ADAM, fused=False), False),
        (dict(ADAM, foreach=True), None),
        (dict(ADAM, differentiable=True), None),
        (dict(type='Lion', lr=1e-4), None),
        (dict(type='NAdam', lr=0.1), None),
    ],
)
def test_what_is_open_is_filled_where_torch_has_it(optimizer, fused):
    cfg = applied(Config(dict(optim_wrapper=dict(optimizer=optimizer))), fused_optimizer)
    assert cfg.optim_wrapper.optimizer.get('fused') == fused
    if 'type' in optimizer and not callable(optimizer['type']):
        from hybridcls.registry import OPTIMIZERS

        OPTIMIZERS.build(dict(cfg.optim_wrapper.optimizer, params=[torch.nn.Parameter(torch.ones(2))]))


@pytest.mark.parametrize(
    ('wrapper', 'more', 'fused'),
    [
        ('ComposedOptimWrapper', {}, True),
        ('OptimWrapper', {}, None),
        ('ComposedOptimWrapper', dict(dampening=0.1), None),
    ],
)
def test_momentum_needs_the_wrapper_that_helps_late_parameters(wrapper, more, fused):
    optimizer = dict(type='SGD', lr=0.1, momentum=0.9, **more)
    cfg = applied(Config(dict(optim_wrapper=dict(type=wrapper, optimizer=optimizer))), fused_optimizer)
    assert cfg.optim_wrapper.optimizer.get('fused') == fused


def test_a_parameter_that_is_thawed_late_steps_as_without():
    ends = []
    for fused in (False, True):
        first, late = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
        optimizer = torch.optim.SGD([first, late], lr=0.1, momentum=0.9, weight_decay=0.1, fused=fused)
        wrapper = ComposedOptimWrapper(optimizer=optimizer)
        for step in range(4):
            wrapper.update_params((first * 2).sum() + ((late * 3).sum() if step else 0))
        ends.append(torch.stack([first, late]))
    torch.testing.assert_close(*ends)


def test_each_of_several_optimizers_and_neither_other_devices_nor_strategies(monkeypatch):
    wrapper = dict(constructor='Mine', one=dict(optimizer=ADAM), two=dict(optimizer=ADAM))
    cfg = applied(Config(dict(optim_wrapper=wrapper)), fused_optimizer)
    assert cfg.optim_wrapper.one.optimizer.fused
    assert cfg.optim_wrapper.two.optimizer.fused
    plain = dict(optim_wrapper=dict(optimizer=ADAM))
    assert 'fused' not in applied(Config({**plain, 'strategy': dict(type='FSDPStrategy')}), fused_optimizer).pretty_text
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'mps')
    assert 'fused' not in applied(Config(plain), fused_optimizer).pretty_text


@pytest.mark.parametrize('change', [{}, {'optim_wrapper.optimizer.weight_decay': 0.2}])
def test_a_run_from_before_goes_on_unfused_to_the_same_bits(toy_configs, tmp_path, monkeypatch, change):
    options = {'optim_wrapper.optimizer': dict(_delete_=True, **ADAM)}
    longer = {**options, **change, 'train_cfg.max_epochs': 5}
    with monkeypatch.context() as patch:  # a version that does not fill it in
        patch.setattr(training, 'STEPS', [step for step in training.STEPS if step[0] is not fused_optimizer])
        train(toy_configs / 'toy.py', tmp_path / 'old', **options)
        (tmp_path / 'new').mkdir()
        (tmp_path / 'new' / 'epoch_3.pth').write_bytes((tmp_path / 'old' / 'epoch_3.pth').read_bytes())
        before = train(toy_configs / 'toy.py', tmp_path / 'old', resume='auto', **longer)
    now = train(toy_configs / 'toy.py', tmp_path / 'new', resume='auto', **longer)
    assert fused_by_default(now.cfg) == ['optim_wrapper.optimizer.fused']
    assert {group['fused'] for group in now.optim_wrapper.param_groups} == {None}
    assert not now.optim_wrapper.optimizer._step_supports_amp_scaling
    for one, other in zip(before.model.parameters(), now.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    log = '\n'.join(path.read_text() for path in (tmp_path / 'new').glob('2*/*.log'))
    assert 'optimizer.fused not set -> True' not in log
    told = 'weight_decay 0.1 -> 0.2 (config changed since the checkpoint)' in log
    assert told == bool(change)
    # What the user writes is applied, as any other change.
    written = train(toy_configs / 'toy.py', tmp_path / 'old', resume='auto',
                    **{**longer, 'train_cfg.max_epochs': 6, 'optim_wrapper.optimizer.fused': True})  # fmt: skip
    assert {group['fused'] for group in written.optim_wrapper.param_groups} == {True}
    assert RECORD in now.cfg
