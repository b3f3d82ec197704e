"""Checkpoints of a run: which are kept, which is the best, and which is resumed."""

import os
import signal
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_local
from processes import run_process
from toy_runs import train

from hybridcls.engine.checkpoints.files import is_valid_checkpoint, latest_valid_checkpoint
from hybridcls.engine.hooks import CheckpointHook
from hybridcls.engine.hooks.checkpoint_hook import _LaterRemovals
from hybridcls.evaluation.result_names import without_result
from hybridcls.registry import HOOKS


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix == '.pth' or path.name.startswith('.'))


def test_the_bare_name_means_ours():
    assert HOOKS.get('CheckpointHook') is CheckpointHook


def test_as_many_are_kept_as_were_asked_for(toy_configs, tmp_path):
    hook = dict(_delete_=True, type='CheckpointHook', interval=1, max_keep_ckpts=2)
    train(toy_configs / 'toy.py', tmp_path / 'w', **{'default_hooks.checkpoint': hook, 'train_cfg.max_epochs': 4})
    assert files(tmp_path / 'w') == ['epoch_3.pth', 'epoch_4.pth']
    assert (tmp_path / 'w' / 'last_checkpoint').read_text() == str(tmp_path / 'w' / 'epoch_4.pth')


def test_a_training_without_schedules_has_none_to_save(toy_configs, tmp_path):
    train(toy_configs / 'toy.py', tmp_path / 'w', **{'param_scheduler': None, 'train_cfg.max_epochs': 1})
    assert 'save_param_scheduler' not in next((tmp_path / 'w').glob('2*/*.log')).read_text()  # mmengine's warning
    assert 'param_schedulers' not in torch.load(tmp_path / 'w/epoch_1.pth', weights_only=False)


def test_an_old_one_goes_only_when_the_new_one_is_whole(toy_configs, tmp_path, monkeypatch):
    seen = []
    original = CheckpointHook._remove_files

    def watch(self, names):
        seen.extend((name, latest_valid_checkpoint(tmp_path / 'w')) for name in names)
        original(self, names)

    monkeypatch.setattr(CheckpointHook, '_remove_files', watch)
    hook = dict(_delete_=True, type='CheckpointHook', interval=1, max_keep_ckpts=1)
    train(toy_configs / 'toy.py', tmp_path / 'w', **{'default_hooks.checkpoint': hook})
    last = [str(tmp_path / 'w' / f'epoch_{epoch}.pth') for epoch in (2, 3)]
    assert seen == [('epoch_1.pth', last[0]), ('epoch_2.pth', last[1])]
    assert files(tmp_path / 'w') == ['epoch_3.pth']


class Rising:
    """Scores for the toy metric: each validation is better than the one before."""

    def __init__(self, *scores):
        self.scores = list(scores)

    def __call__(self, metric, results):
        return dict(top1=self.scores.pop(0))


@pytest.mark.parametrize(
    ('scores', 'best'), [((10.0, 20.0, 30.0), 3), ((30.0, 20.0, 10.0), 1), ((10.0, 30.0, 20.0), 2)]
)
def test_the_best_one_is_kept_beside_the_last(toy_configs, tmp_path, monkeypatch, toy_plugin, scores, best):
    rising = Rising(*scores)
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: rising(self, results))
    train(toy_configs / 'toy.py', tmp_path / 'w', **{'default_hooks.checkpoint.max_keep_ckpts': 1})
    assert files(tmp_path / 'w') == [f'best_toy_top1_epoch_{best}.pth', 'epoch_3.pth']
    info = torch.load(tmp_path / 'w' / 'epoch_3.pth', weights_only=False)['message_hub']['runtime_info']
    assert info['best_score'] == max(scores)


@pytest.mark.parametrize(
    ('tolerance', 'scores', 'best'),
    [
        (None, [50.0, 50.0, 40.0], 1),
        (0, [50.0, 50.0, 40.0], 2),
        (5, [50.0, 46.0, 42.0], 2),  # 42 is 8 below the best of all, not 4 below the one that is kept
        (10, [40.0, 50.0, 40.0], 3),
        ('standard_error', [50.0, 45.0, 39.0], 2),  # 100 sqrt(0.25 / 24) = 10.2
        ('standard_error', [0.0, 50.0, 40.0], 3),
    ],
)
def test_the_latest_one_that_is_about_as_good(toy_configs, tmp_path, monkeypatch, toy_plugin, tolerance, scores, best):
    seen = iter(scores)
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: dict(top1=next(seen)))
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'directions', {'top1': 'greater'}, raising=False)
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'units', {'top1': '%'}, raising=False)
    options = {'default_hooks.checkpoint.best_tolerance': tolerance}
    train(toy_configs / 'toy.py', tmp_path / 'w', **options)
    assert [file.name for file in (tmp_path / 'w').glob('best_*.pth')] == [f'best_toy_top1_epoch_{best}.pth']


def test_the_best_of_all_survives_a_resume(toy_configs, tmp_path, monkeypatch, toy_plugin):
    """From the checkpoint of epoch 2, whose score 46 is kept within 5 of 50: 42 is not."""
    options = {'default_hooks.checkpoint.best_tolerance': 5}
    for work, scores, resume in (('whole', [50.0, 46.0, 42.0], None), ('part', [42.0], 'whole/epoch_2.pth')):
        seen = iter(scores)
        monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results, s=seen: dict(top1=next(s)))
        train(toy_configs / 'toy.py', tmp_path / work, resume=resume and str(tmp_path / resume), **options)
    assert list((tmp_path / 'part').glob('best_*.pth')) == []


def test_a_standard_error_needs_a_share_in_percent(toy_configs, tmp_path):
    with pytest.raises(ValueError, match='whose unit is not declared'):
        train(toy_configs / 'toy.py', tmp_path / 'w', **{'default_hooks.checkpoint.best_tolerance': 'standard_error'})


def test_a_resumed_run_replaces_the_best_of_the_first(toy_configs, tmp_path, monkeypatch, toy_plugin):
    rising = Rising(10.0, 20.0, 30.0, 40.0)
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: rising(self, results))
    train(toy_configs / 'toy.py', tmp_path / 'w', **{'train_cfg.max_epochs': 2})
    train(toy_configs / 'toy.py', tmp_path / 'w', resume='auto', **{'train_cfg.max_epochs': 4})
    assert files(tmp_path / 'w') == ['best_toy_top1_epoch_4.pth', 'epoch_3.pth', 'epoch_4.pth']


def test_a_resume_in_another_work_dir_leaves_the_first_alone(toy_configs, tmp_path, monkeypatch, toy_plugin):
    """The best of A is neither removed nor claimed in B, and its score is what a new best one has to beat."""
    rising = Rising(10.0, 20.0, 15.0, 15.0, 30.0)  # the third validation is not in its checkpoint, and done again
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: rising(self, results))
    train(toy_configs / 'toy.py', tmp_path / 'a', **{'train_cfg.max_epochs': 2})
    before = files(tmp_path / 'a')
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'epoch_1.pth').write_bytes(b'of another run')  # the checkpoint says: 1 and 2 are kept
    runner = train(
        toy_configs / 'toy.py', tmp_path / 'b', resume=str(tmp_path / 'a/epoch_2.pth'), **{'train_cfg.max_epochs': 3}
    )
    assert runner.message_hub.get_info('best_ckpt') is None
    assert runner.message_hub.get_info('best_score') == 20.0
    assert files(tmp_path / 'b') == ['epoch_1.pth', 'epoch_3.pth']
    train(toy_configs / 'toy.py', tmp_path / 'b', resume='auto', **{'train_cfg.max_epochs': 4})
    assert files(tmp_path / 'a') == before
    assert files(tmp_path / 'b') == ['best_toy_top1_epoch_4.pth', 'epoch_1.pth', 'epoch_3.pth', 'epoch_4.pth']


def test_a_work_dir_that_was_moved_is_the_same(toy_configs, tmp_path, monkeypatch, toy_plugin):
    rising = Rising(10.0, 20.0, 30.0)
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: rising(self, results))
    train(toy_configs / 'toy.py', tmp_path / 'a', **{'train_cfg.max_epochs': 2})
    (tmp_path / 'a').rename(tmp_path / 'b')
    train(toy_configs / 'toy.py', tmp_path / 'b', resume='auto', **{'train_cfg.max_epochs': 3})
    assert files(tmp_path / 'b') == ['best_toy_top1_epoch_3.pth', 'epoch_2.pth', 'epoch_3.pth']


def test_nothing_outside_the_folder_is_removed(tmp_path):
    backend = _LaterRemovals(LocalBackend(), str(tmp_path / 'own'))
    for folder in ('own', 'other', 'own/deeper'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'a.pth').touch()
        backend.remove(str(tmp_path / folder / 'a.pth'))
    backend.remove_now(set())
    assert sorted(path.parent.name for path in tmp_path.rglob('a.pth')) == ['deeper', 'other']


def test_several_best_ones(toy_configs, tmp_path, monkeypatch, toy_plugin):
    rising = iter([dict(a=1.0, b=3.0), dict(a=2.0, b=2.0), dict(a=3.0, b=1.0)])
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: next(rising))
    hook = {'default_hooks.checkpoint.save_best': ['toy/a', 'toy/b'], 'default_hooks.checkpoint.max_keep_ckpts': 1}
    train(toy_configs / 'toy.py', tmp_path / 'w', **hook)
    assert files(tmp_path / 'w') == ['best_toy_a_epoch_3.pth', 'best_toy_b_epoch_1.pth', 'epoch_3.pth']


def test_a_best_score_that_no_metric_reports(toy_configs, tmp_path):
    with pytest.raises(ValueError, match=r"save_best='toy/top5' is not a metric .* toy/top1\. Did you mean"):
        train(toy_configs / 'toy.py', tmp_path / 'w', **{'default_hooks.checkpoint.save_best': 'toy/top5'})


OPEN = {'default_hooks.checkpoint.rule': None, 'default_hooks.checkpoint.max_keep_ckpts': 1}


@pytest.mark.parametrize('save_best', ['toy/top1', ['toy/top1'], 'auto'])
@pytest.mark.parametrize(('rule', 'best'), [('less', 2), ('greater', 1)])
def test_the_metric_says_which_way_is_better(toy_configs, tmp_path, monkeypatch, toy_plugin, save_best, rule, best):
    """mmengine takes ``top`` in a name for greater."""
    falling = Rising(30.0, 10.0, 20.0)
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: falling(self, results))
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'directions', {'top1': rule}, raising=False)
    train(toy_configs / 'toy.py', tmp_path / 'w', **OPEN, **{'default_hooks.checkpoint.save_best': save_best})
    assert files(tmp_path / 'w') == [f'best_toy_top1_epoch_{best}.pth', 'epoch_3.pth']


def test_a_written_rule_wins_over_the_metrics(toy_configs, tmp_path, monkeypatch, toy_plugin):
    falling = Rising(30.0, 10.0, 20.0)
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: falling(self, results))
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'directions', {'top1': 'less'}, raising=False)
    train(toy_configs / 'toy.py', tmp_path / 'w')
    assert 'best_toy_top1_epoch_1.pth' in files(tmp_path / 'w')


def test_a_wrong_name_is_answered_before_the_first_step(toy_configs, tmp_path, monkeypatch, toy_plugin):
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'directions', {'top1': 'less'}, raising=False)
    with pytest.raises(ValueError, match=r"save_best='toy/top5' is not a metric .* toy/top1\. Did you mean"):
        train(toy_configs / 'toy.py', tmp_path / 'w', **{'default_hooks.checkpoint.save_best': 'toy/top5'})
    assert files(tmp_path / 'w') == []


@pytest.mark.parametrize('other', [{}, {'a': 1.0}])
@pytest.mark.parametrize('save_best', ['toy/top1', ['toy/top1', 'toy/a']])
def test_a_metric_with_nothing_to_compute(toy_configs, tmp_path, monkeypatch, toy_plugin, other, save_best):
    """There is no best checkpoint by it, and the last one is there."""

    def compute(self, results):
        without_result(self, 'It has seen no square.', ['top1'])
        return other

    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', compute)
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'directions', {'top1': 'greater', 'a': 'less'}, raising=False)
    runner = train(toy_configs / 'toy.py', tmp_path / 'w', **OPEN, **{'default_hooks.checkpoint.save_best': save_best})
    best = ['best_toy_a_epoch_1.pth'] if other and 'toy/a' in save_best else []
    assert files(tmp_path / 'w') == [*best, 'epoch_3.pth']
    assert runner.message_hub.get_info('no_best_checkpoint').startswith(
        "CheckpointHook: save_best='toy/top1' had no result in the validation. ToyAccuracy: It has seen no square."
    )


def test_by_iterations(toy_configs, tmp_path):
    loop = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=7, val_interval=100)
    hook = dict(_delete_=True, type='CheckpointHook', interval=2, by_epoch=False, max_keep_ckpts=1)
    options = {
        'train_cfg': loop,
        'default_hooks.checkpoint': hook,
        'param_scheduler': [],
        'train_dataloader.sampler.type': 'InfiniteSampler',
    }
    train(toy_configs / 'toy.py', tmp_path / 'w', **options)
    assert files(tmp_path / 'w') == ['iter_7.pth']


@pytest.mark.parametrize('through_the_tool', [True, False])
def test_a_resume_passes_over_a_damaged_one(toy_configs, tmp_path, through_the_tool):
    train(toy_configs / 'toy.py', tmp_path / 'w', **{'train_cfg.max_epochs': 2})
    last = tmp_path / 'w' / 'epoch_2.pth'
    last.write_bytes(last.read_bytes()[:-100])
    if through_the_tool:
        runner = train(toy_configs / 'toy.py', tmp_path / 'w', resume='auto')
    else:  # `resume = True` in a config, whoever runs it
        (toy_configs / 'resumed.py').write_text("_base_ = 'toy.py'\nresume = True\n")
        runner = train(toy_configs / 'resumed.py', tmp_path / 'w')
    assert runner._load_from == str(tmp_path / 'w' / 'epoch_1.pth')
    assert is_valid_checkpoint(last)
    assert runner.epoch == 3


def test_a_resume_with_nothing_there_starts_again(toy_configs, tmp_path):
    assert train(toy_configs / 'toy.py', tmp_path / 'w', resume='auto', **{'train_cfg.max_epochs': 1}).epoch == 1


def test_what_a_kill_left_behind_is_removed_on_resume(toy_configs, tmp_path):
    hook = {'default_hooks.checkpoint.max_keep_ckpts': 1, 'train_cfg.max_epochs': 2}
    train(toy_configs / 'toy.py', tmp_path / 'w', **hook)
    path = tmp_path / 'w' / 'epoch_2.pth'
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['message_hub']['runtime_info']['outdated_ckpt_ids'] = [1]
    torch.save(checkpoint, path)
    (tmp_path / 'w' / 'epoch_1.pth').write_bytes(b'should have been removed')
    (tmp_path / 'w' / '.epoch_3.pth.unfinished').write_bytes(b'half')
    train(toy_configs / 'toy.py', tmp_path / 'w', resume='auto', **{**hook, 'train_cfg.max_epochs': 3})
    assert files(tmp_path / 'w') == [f'best_toy_top1_epoch_{best_epoch(tmp_path / "w")}.pth', 'epoch_3.pth']


def best_epoch(folder):
    return next(path for path in folder.glob('best_*')).stem.rsplit('_', 1)[-1]


def killed_while_writing(config, work_dir, at):
    count, fsync = [0], os.fsync

    def kill(handle):  # some bytes are on the disk, and the name is not taken yet
        count[0] += 1
        if count[0] == at:
            if os.path.isfile(f'/proc/self/fd/{handle}'):
                os.truncate(handle, 1000)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    os.fsync = kill
    train(config, work_dir, **{'default_hooks.checkpoint.max_keep_ckpts': 1})


@pytest.mark.slow
@pytest.mark.parametrize('at', [7, 11])
def test_a_kill_at_any_moment_of_a_write_leaves_a_valid_checkpoint(toy_configs, tmp_path, at):
    """Each write syncs the file and its folder, and an epoch writes checkpoint, note, best, checkpoint, note: the
    seventh sync is in the second checkpoint of that name, the eleventh in the one whose predecessor would go."""
    ended = run_process(killed_while_writing, toy_configs / 'toy.py', tmp_path / 'w', at)
    assert ended.status == -signal.SIGKILL, ended.output
    assert latest_valid_checkpoint(tmp_path / 'w') is not None
    runner = train(
        toy_configs / 'toy.py', tmp_path / 'w', resume='auto', **{'default_hooks.checkpoint.max_keep_ckpts': 1}
    )
    assert runner.epoch == 3
    assert 'epoch_3.pth' in files(tmp_path / 'w')
    assert not [name for name in files(tmp_path / 'w') if name.startswith('.')]


def contents(value):
    """Every value in a checkpoint."""
    yield value
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        for entry in value:
            yield from contents(entry)


def test_every_checkpoint_is_plain(toy_configs, tmp_path):
    """Read by torch's strictest reader, and then by mmengine's Runner without our reader."""
    changes = {
        'optim_wrapper': dict(
            type='ComposedOptimWrapper',
            optimizer=dict(type='AdamW', lr=1e-3),
            stages=dict(sam=dict(type='SAM'), lookahead=dict(type='Lookahead', k=2)),
            amp='bfloat16',
            _delete_=True,
        ),
        'custom_hooks': [dict(type='EMAHook')],
    }
    train(toy_configs / 'toy.py', tmp_path / 'w', **changes)
    files = sorted((tmp_path / 'w').glob('*.pth'))
    assert len(files) == 3  # two last ones, and the best
    for file in files:
        checkpoint = torch.load(file, weights_only=True)
        kinds = {type(value) for value in contents(checkpoint)}
        assert kinds <= {dict, OrderedDict, list, tuple, str, int, float, bool, type(None), torch.Tensor}, kinds
        assert {'message_hub', 'ema_state_dict', 'meta'} <= checkpoint.keys()
    loaders = dict(CheckpointLoader._schemes, **{'': load_from_local})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointLoader, '_schemes', loaders)
        resume = str(tmp_path / 'w' / 'epoch_2.pth')
        train(toy_configs / 'toy.py', tmp_path / 'mmengine', resume, **changes)
    train(toy_configs / 'toy.py', tmp_path / 'ours', resume, **changes)
    for name in ('mmengine', 'ours'):
        again = torch.load(tmp_path / name / 'epoch_3.pth', weights_only=True)
        for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
            assert same(again[key], checkpoint_of(tmp_path / 'w')[key]), key
    again, straight = checkpoint_of(tmp_path / 'ours'), checkpoint_of(tmp_path / 'w')
    for name, history in straight['message_hub']['log_scalars'].items():
        if name in ('train/loss', 'train/lr'):  # no times, and epoch 2 is not validated again
            assert same(again['message_hub']['log_scalars'][name], history), name


def same(one, other):
    """Whether two contents are equal to the bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def checkpoint_of(work_dir):
    return torch.load(work_dir / 'epoch_3.pth', weights_only=True)


def test_a_checkpoint_with_pickled_histories_is_resumed_to_the_same_bits(toy_configs, tmp_path):
    """mmengine's own hook writes what ours wrote before: its histories hold functions, by ``getattr``."""
    old = {'default_hooks.checkpoint.type': 'mmengine.CheckpointHook'}
    train(toy_configs / 'toy.py', tmp_path / 'straight', **old)
    file = tmp_path / 'straight' / 'epoch_2.pth'
    assert 'builtins.getattr' in torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
    train(toy_configs / 'toy.py', tmp_path / 'resumed', str(file))
    straight = torch.load(tmp_path / 'straight' / 'epoch_3.pth', weights_only=False)
    resumed = checkpoint_of(tmp_path / 'resumed')
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(resumed[key], straight[key]), key
    histories = resumed['message_hub']['log_scalars']
    for name, history in straight['message_hub']['log_scalars'].items():
        if name in ('train/loss', 'train/lr'):  # no times, and epoch 2 is not validated again
            np.testing.assert_array_equal(histories[name]['logs']['value'].numpy(), history.data[0])


def test_what_cannot_be_plain_is_named(toy_configs, tmp_path):
    train(toy_configs / 'toy.py', tmp_path / 'w', **{'custom_hooks': [dict(type='KeepsAnObject')]})
    info = torch.load(tmp_path / 'w' / 'epoch_3.pth', weights_only=True)['message_hub']['runtime_info']
    assert 'toy_object' not in info
    log = '\n'.join(path.read_text() for path in (tmp_path / 'w').rglob('*.log'))
    assert 'message_hub.runtime_info.toy_object is a object and is not in the checkpoint' in log


@HOOKS.register_module(force=True)
class KeepsAnObject(Hook):
    """Puts into the message hub what has no plain form."""

    def before_train(self, runner):
        runner.message_hub.update_info('toy_object', object())
