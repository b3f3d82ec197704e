"""The curves' file is there after a training, whole after a resume, and shows each value where it was measured."""

import contextlib
import json
import types

import pytest
from mmengine.logging import MessageHub

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training
from hybridcls.engine.hooks import learning_curves_hook
from hybridcls.engine.hooks.learning_curves_hook import LearningCurvesHook
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.evaluation import Accuracy, CalibrationMetric, ValLoss


def train(config, work_dir, *hooks, go_on=None):
    with isolated_globals():
        cfg = load_config(config, dict(custom_hooks=list(hooks)))
        runner = build_runner(prepare_training(cfg, TrainOptions(resume=go_on), str(work_dir)))
        runner.train()
    return runner


@pytest.fixture
def drawn(monkeypatch):
    """What the hook asked to be drawn, in order."""
    calls = []

    def draw(panels, axis, title):
        calls.append(dict(axis=axis, **{panel.name: panel for panel in panels}))
        return b'picture'

    monkeypatch.setattr(learning_curves_hook, 'draw_learning_curves', draw)
    return calls


def test_values_stand_where_they_were_measured(toy_configs, drawn, tmp_path):
    runner = train(toy_configs / 'toy.py', tmp_path / 'w', dict(type='LearningCurvesHook'))
    assert (tmp_path / 'w' / 'learning_curves.png').read_bytes() == b'picture'
    (call,) = drawn
    per_epoch = len(runner.train_dataloader)
    positions, values = call['loss (nats)'].curves['train loss']
    assert len(values) == 3 * per_epoch
    assert positions[0] == pytest.approx(1 / per_epoch)
    assert positions[-1] == 3
    assert call['other results'].curves['val toy/top1'][0] == [1.0, 2.0, 3.0]
    assert call['other results'].directions['val toy/top1'] == 'greater'  # by mmengine's words
    assert len(call['learning rate'].curves['learning rate'][1]) == 3 * per_epoch
    assert call['axis'] == 'epoch'


def test_a_validation_without_a_training_is_in_no_curve(tmp_path):
    runner = types.SimpleNamespace(iter=0, rank=0, work_dir=str(tmp_path))
    LearningCurvesHook().after_val_epoch(runner, {'toy/top1': 50.0})
    assert not list(tmp_path.iterdir())


def test_after_a_resume_the_curves_are_whole(toy_configs, drawn, tmp_path):
    hook = dict(type='LearningCurvesHook')
    train(toy_configs / 'toy.py', tmp_path / 'straight', hook)
    with contextlib.suppress(Exception):  # StopHook's
        train(toy_configs / 'toy.py', tmp_path / 'w', hook, dict(type='StopHook', epoch=2))
    assert len(drawn) == 1
    train(toy_configs / 'toy.py', tmp_path / 'w', hook, go_on='auto')
    straight, resumed = drawn
    assert resumed == straight


def test_numbers_that_version_0_1_wrote_are_one_curve_with_those_of_today(tmp_path):
    written = [dict(iter=2, metrics={'ood/auroc_max_softmax': 90.0}), dict(iter=9, metrics={})]  # old spelling
    (tmp_path / 'learning_curves.json').write_text(json.dumps(written))
    runner = types.SimpleNamespace(work_dir=tmp_path, iter=4, rank=0)
    hook = LearningCurvesHook()
    hook.before_train(runner)
    hook.after_val_epoch(runner, {'ood/auroc_least_confidence': 92.0})
    assert json.loads((tmp_path / 'learning_curves.json').read_text()) == [
        dict(iter=2, metrics={'ood/auroc_least_confidence': 90.0}),
        dict(iter=4, metrics={'ood/auroc_least_confidence': 92.0}),
    ]


def test_it_is_drawn_between_when_the_picture_is_old(toy_configs, drawn, tmp_path):
    train(toy_configs / 'toy.py', tmp_path / 'w', dict(type='LearningCurvesHook', seconds_between=0))
    assert len(drawn) == 3 + 1


def test_each_result_stands_in_the_panel_of_its_unit(drawn, tmp_path):
    """KL and running norms are no scores, and the head's own accuracy is that of Accuracy."""
    metrics = [Accuracy(), ValLoss(), CalibrationMetric()]
    hub = MessageHub.get_instance('test_learning_curves')
    runner = types.SimpleNamespace(
        iter=4,
        rank=0,
        work_dir=str(tmp_path),
        experiment_name='x',
        message_hub=hub,
        train_loop=None,
        val_loop=types.SimpleNamespace(evaluator=types.SimpleNamespace(metrics=metrics)),
    )
    hook = LearningCurvesHook()
    hook.before_train(runner)
    names = ['val/loss', 'val/kl', 'val/norm_mean', 'calibration/ece', 'calibration/nll', 'calibration/brier']
    for value in (1.0, 2.0):
        both = {'accuracy/top1': 50 + value, 'val/accuracy_top-1': 50.00001 + value, 'val/quality.accuracy_top-1': 7.0}
        hook.after_val_epoch(runner, {**both, **dict.fromkeys(names, value)})
    hook.after_train(runner)
    (call,) = drawn
    assert list(call['loss (nats)'].curves) == ['val loss', 'val kl', 'val calibration/nll']
    assert list(call['percent'].curves) == ['val accuracy/top1', 'val quality.accuracy_top-1', 'val calibration/ece']
    assert list(call['other results'].curves) == ['val norm_mean', 'val calibration/brier']
    assert call['loss (nats)'].directions == {'val loss': 'less', 'val kl': None, 'val calibration/nll': 'less'}
    assert call['percent'].directions['val accuracy/top1'] == 'greater'
    assert call['percent'].directions['val calibration/ece'] == 'less'
    assert call['other results'].directions == {'val norm_mean': None, 'val calibration/brier': 'less'}


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (dict(seconds_between=-1), 'expected seconds_between in .*, got -1'),
        (dict(file_name='curves.jpg'), r'must end in \.png'),
    ],
)
def test_bad_settings(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        LearningCurvesHook(**arguments)
