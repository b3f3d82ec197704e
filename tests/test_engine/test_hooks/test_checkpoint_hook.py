import os
import signal

import pytest
import torch
from mmengine.fileio import LocalBackend
from processes import run_process

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training
from hybridcls.engine.checkpoint_files import is_whole_checkpoint, newest_whole_checkpoint
from hybridcls.engine.dataloader_defaults import end_workers
from hybridcls.engine.hooks import CheckpointHook
from hybridcls.engine.hooks.checkpoint_hook import _LaterRemovals
from hybridcls.engine.runner_instances import own_instances
from hybridcls.registry import HOOKS


def train(config, work_dir, go_on=None, **options):
    with own_instances():
        cfg = prepare_training(load_config(config, options), TrainOptions(resume=go_on), str(work_dir))
        runner = build_runner(cfg)
        try:
            runner.train()
        finally:
            end_workers(runner)
    return runner


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix == '.pth' or path.name.startswith('.'))


def test_the_bare_name_means_ours():
    assert HOOKS.get('CheckpointHook') is CheckpointHook


def test_as_many_are_kept_as_were_asked_for(toy_configs, tmp_path):
    hook = dict(_delete_=True, type='CheckpointHook', interval=1, max_keep_ckpts=2)
    train(toy_configs / 'toy.py', tmp_path / 'w', **{'default_hooks.checkpoint': hook, 'train_cfg.max_epochs': 4})
    assert files(tmp_path / 'w') == ['epoch_3.pth', 'epoch_4.pth']
    assert (tmp_path / 'w' / 'last_checkpoint').read_text() == str(tmp_path / 'w' / 'epoch_4.pth')


def test_an_old_one_goes_only_when_the_new_one_is_whole(toy_configs, tmp_path, monkeypatch):
    seen = []
    original = CheckpointHook._remove_files

    def watch(self, names):
        seen.extend((name, newest_whole_checkpoint(tmp_path / 'w')) for name in names)
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


def test_a_resumed_run_replaces_the_best_of_the_first(toy_configs, tmp_path, monkeypatch, toy_plugin):
    rising = Rising(10.0, 20.0, 30.0, 40.0)
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: rising(self, results))
    train(toy_configs / 'toy.py', tmp_path / 'w', **{'train_cfg.max_epochs': 2})
    train(toy_configs / 'toy.py', tmp_path / 'w', go_on='auto', **{'train_cfg.max_epochs': 4})
    assert files(tmp_path / 'w') == ['best_toy_top1_epoch_4.pth', 'epoch_3.pth', 'epoch_4.pth']


def test_a_resume_in_another_work_dir_leaves_the_first_alone(toy_configs, tmp_path, monkeypatch, toy_plugin):
    """The best of A is neither removed nor claimed in B, and its score is what a new best one has to beat."""
    rising = Rising(10.0, 20.0, 15.0, 15.0, 30.0)  # the third validation is not in its checkpoint, and done again
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: rising(self, results))
    train(toy_configs / 'toy.py', tmp_path / 'a', **{'train_cfg.max_epochs': 2})
    before = files(tmp_path / 'a')
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'epoch_1.pth').write_bytes(b'of somebody else')  # the checkpoint says: 1 and 2 are kept
    runner = train(
        toy_configs / 'toy.py', tmp_path / 'b', go_on=str(tmp_path / 'a/epoch_2.pth'), **{'train_cfg.max_epochs': 3}
    )
    assert runner.message_hub.get_info('best_ckpt') is None
    assert runner.message_hub.get_info('best_score') == 20.0
    assert files(tmp_path / 'b') == ['epoch_1.pth', 'epoch_3.pth']
    train(toy_configs / 'toy.py', tmp_path / 'b', go_on='auto', **{'train_cfg.max_epochs': 4})
    assert files(tmp_path / 'a') == before
    assert files(tmp_path / 'b') == ['best_toy_top1_epoch_4.pth', 'epoch_1.pth', 'epoch_3.pth', 'epoch_4.pth']


def test_a_work_dir_that_was_moved_is_the_same(toy_configs, tmp_path, monkeypatch, toy_plugin):
    rising = Rising(10.0, 20.0, 30.0)
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: rising(self, results))
    train(toy_configs / 'toy.py', tmp_path / 'a', **{'train_cfg.max_epochs': 2})
    (tmp_path / 'a').rename(tmp_path / 'b')
    train(toy_configs / 'toy.py', tmp_path / 'b', go_on='auto', **{'train_cfg.max_epochs': 3})
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
    with pytest.raises(ValueError, match=r"save_best='toy/top5' is none of the metrics .* toy/top1\. Did you mean"):
        train(toy_configs / 'toy.py', tmp_path / 'w', **{'default_hooks.checkpoint.save_best': 'toy/top5'})


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
        runner = train(toy_configs / 'toy.py', tmp_path / 'w', go_on='auto')
    else:  # `resume = True` in a config, whoever runs it
        runner = train(toy_configs / 'toy.py', tmp_path / 'w', **{'resume': True, 'load_from': None})
    assert runner._load_from == str(tmp_path / 'w' / 'epoch_1.pth')
    assert is_whole_checkpoint(last)
    assert runner.epoch == 3


def test_a_resume_with_nothing_there_starts_anew(toy_configs, tmp_path):
    assert train(toy_configs / 'toy.py', tmp_path / 'w', go_on='auto', **{'train_cfg.max_epochs': 1}).epoch == 1


def test_what_a_kill_left_behind_is_removed_on_resume(toy_configs, tmp_path):
    hook = {'default_hooks.checkpoint.max_keep_ckpts': 1, 'train_cfg.max_epochs': 2}
    train(toy_configs / 'toy.py', tmp_path / 'w', **hook)
    path = tmp_path / 'w' / 'epoch_2.pth'
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['message_hub']['runtime_info']['outdated_ckpt_ids'] = [1]
    torch.save(checkpoint, path)
    (tmp_path / 'w' / 'epoch_1.pth').write_bytes(b'should have been removed')
    (tmp_path / 'w' / '.epoch_3.pth.unfinished').write_bytes(b'half')
    train(toy_configs / 'toy.py', tmp_path / 'w', go_on='auto', **{**hook, 'train_cfg.max_epochs': 3})
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
def test_a_kill_at_any_moment_of_a_write_leaves_a_whole_checkpoint(toy_configs, tmp_path, at):
    """Each write syncs the file and its folder, and an epoch writes checkpoint, note, best, checkpoint, note: the
    seventh sync is in the second checkpoint of that name, the eleventh in the one whose predecessor would go."""
    ended = run_process(killed_while_writing, toy_configs / 'toy.py', tmp_path / 'w', at)
    assert ended.status == -signal.SIGKILL, ended.output
    assert newest_whole_checkpoint(tmp_path / 'w') is not None
    runner = train(
        toy_configs / 'toy.py', tmp_path / 'w', go_on='auto', **{'default_hooks.checkpoint.max_keep_ckpts': 1}
    )
    assert runner.epoch == 3
    assert 'epoch_3.pth' in files(tmp_path / 'w')
    assert not [name for name in files(tmp_path / 'w') if name.startswith('.')]
