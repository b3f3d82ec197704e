"""The curves' file is there after a training, whole after a resume, and shows each value where it was measured."""

import contextlib

import pytest

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training
from hybridcls.engine.hooks import learning_curves_hook
from hybridcls.engine.hooks.learning_curves_hook import LearningCurvesHook
from hybridcls.engine.runner_instances import own_instances


def train(config, work_dir, *hooks, go_on=None):
    with own_instances():
        cfg = load_config(config, dict(custom_hooks=list(hooks)))
        runner = build_runner(prepare_training(cfg, TrainOptions(resume=go_on), str(work_dir)))
        runner.train()
    return runner


@pytest.fixture
def drawn(monkeypatch):
    """What the hook asked to be drawn, in order."""
    calls = []

    def draw(losses, scores, learning_rate, axis, title):
        calls.append(dict(losses=losses, scores=scores, learning_rate=learning_rate, axis=axis))
        return b'picture'

    monkeypatch.setattr(learning_curves_hook, 'draw_learning_curves', draw)
    return calls


def test_values_stand_where_they_were_measured(toy_configs, drawn, tmp_path):
    runner = train(toy_configs / 'toy.py', tmp_path / 'w', dict(type='LearningCurvesHook'))
    assert (tmp_path / 'w' / 'learning_curves.png').read_bytes() == b'picture'
    (call,) = drawn
    per_epoch = len(runner.train_dataloader)
    positions, values = call['losses']['train loss']
    assert len(values) == 3 * per_epoch
    assert positions[0] == pytest.approx(1 / per_epoch)
    assert positions[-1] == 3
    assert call['scores']['val toy/top1'][0] == [1.0, 2.0, 3.0]
    assert len(call['learning_rate'][1]) == 3 * per_epoch
    assert call['axis'] == 'epoch'


def test_after_a_resume_the_curves_are_whole(toy_configs, drawn, tmp_path):
    hook = dict(type='LearningCurvesHook')
    train(toy_configs / 'toy.py', tmp_path / 'straight', hook)
    with contextlib.suppress(Exception):  # StopHook's
        train(toy_configs / 'toy.py', tmp_path / 'w', hook, dict(type='StopHook', epoch=2))
    assert len(drawn) == 1
    train(toy_configs / 'toy.py', tmp_path / 'w', hook, go_on='auto')
    straight, resumed = drawn
    assert resumed == straight


def test_it_is_drawn_between_when_the_picture_is_old(toy_configs, drawn, tmp_path):
    train(toy_configs / 'toy.py', tmp_path / 'w', dict(type='LearningCurvesHook', seconds_between=0))
    assert len(drawn) == 3 + 1


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (dict(seconds_between=-1), 'seconds_between=-1 is outside'),
        (dict(file_name='curves.jpg'), r'must end in \.png'),
    ],
)
def test_bad_settings(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        LearningCurvesHook(**arguments)
