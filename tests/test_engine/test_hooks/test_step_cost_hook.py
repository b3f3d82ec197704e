"""What steps cost is measured and written."""

import json
import time
import types

import pytest
from torch import nn

from hybridcls.engine.hooks import StepCostHook
from hybridcls.registry import HOOKS


def spin(seconds):
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass


def test_the_median_step_without_the_first(tmp_path):
    runner = types.SimpleNamespace(model=nn.Linear(1, 1), rank=0, work_dir=str(tmp_path))
    hook = HOOKS.build(dict(type='StepCostHook'))
    assert isinstance(hook, StepCostHook)
    hook.before_train(runner)
    for number, seconds in enumerate([0.2, 0.01, 0.03, 0.03]):
        hook.before_train_iter(runner, number)
        spin(seconds)
        hook.after_train_iter(runner, number)
        spin(0.02)  # between steps, as a loader
    hook.after_train(runner)
    cost = json.loads((tmp_path / 'step_cost.json').read_text())
    assert cost['seconds'] == pytest.approx(0.03, abs=0.01)
    assert (cost['steps'], cost['clock']) == (4, 'processor')
    assert cost['memory'] >= 0


def test_only_the_first_process_writes(tmp_path):
    runner = types.SimpleNamespace(model=nn.Linear(1, 1), rank=1, work_dir=str(tmp_path))
    hook = StepCostHook()
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    hook.after_train_iter(runner, 0)
    hook.after_train(runner)
    assert not list(tmp_path.iterdir())
