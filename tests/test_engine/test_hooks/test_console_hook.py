"""What a run is, how far it is, what came out."""

import re
from types import SimpleNamespace

import pytest
import torch

from hybridcls.engine import TrainOptions, load_config, run_chain
from hybridcls.engine.config.change import Change, apply, table_of
from hybridcls.engine.config.tree import ABSENT
from hybridcls.engine.hooks.checkpoint_hook import CheckpointHook
from hybridcls.engine.hooks.console_hook import _OF_TRAINING, _workers, ending_of, results_of
from hybridcls.evaluation.class_report import Rows


def test_a_few_results_are_one_line_and_more_a_table():
    assert results_of(dict(a=1.5, b=2)) == 'a 1.5000, b 2'
    many = results_of({'accuracy/top1': 99.5, 'nll': 0.25, 'long/name/of/a/metric': 3.0, 'n': 7, 'matrix': [1, 2]})
    rows = many.strip('\n').split('\n')
    assert [row.split() for row in rows] == [
        ['accuracy/top1', '99.5000'], ['nll', '0.2500'], ['long/name/of/a/metric', '3.0000'], ['n', '7'],
    ]  # fmt: skip
    assert len({len(row) for row in rows}) == 1, 'columns'
    matrix = torch.tensor([[3, 1], [0, 2]])
    shown = results_of({'accuracy/top1': 99.5, 'confusion_matrix/result': matrix})
    assert shown == 'accuracy/top1 99.5000\n  confusion_matrix/result\n  tensor([[3, 1],\n          [0, 2]])'
    assert len(results_of(dict(matrix=torch.zeros(1302, 1302))).splitlines()) < 12


def test_the_ends_of_an_interval_stand_behind_its_result():
    assert results_of({'top1': 93.5, 'top1_low': 91.0, 'top1_high': 95.25}) == 'top1 93.5000 [91.0000, 95.2500]'
    assert results_of({'table': Rows([dict(name='cat', images=3)])}).endswith('name  images\n   cat       3')


def test_the_phases_of_a_chain_tell_the_time_that_all_of_them_take(toy_configs, tmp_path, capsys):
    run_chain(load_config(toy_configs / 'chain.py', {'cfg_options.log_level': 'INFO'}), TrainOptions(), str(tmp_path))
    said = capsys.readouterr().out
    assert 'Phase 1 of 2, one. Training:' in said
    first, second = said.split('Phase 2 of 2, two. Training:')
    assert re.search(r'Epoch\(train\).* left, about \d:\d\d:\d\d of all phases', first)
    assert 'of all phases' not in second


def test_a_test_tells_no_changes_of_the_training(toy_configs):
    cfg = load_config(toy_configs / 'toy.py')
    changes = [Change((loader, 'timeout'), ABSENT, 5, 'why') for loader in ('train_dataloader', 'test_dataloader')]
    apply(cfg, lambda _: [*changes, Change(('load_from',), ABSENT, 'x.pth', 'why')])
    table = table_of(cfg, left_out=_OF_TRAINING)
    assert 'test_dataloader.timeout' in table
    assert 'train_dataloader.timeout and 1 more place ' in table_of(cfg)
    assert 'train_dataloader' not in table
    assert 'load_from' not in table


def test_more_workers_than_cpus_are_told(monkeypatch):
    monkeypatch.setattr('os.sched_getaffinity', lambda _: {0, 1}, raising=False)
    assert [_workers(number) for number in (0, 2, 8)] == [
        'no workers', '2 workers', '8 workers on 2 CPUs (num_workers=2 may be faster)',
    ]  # fmt: skip


def test_what_is_said_for_all_phases_reaches_them(toy_configs, tmp_path):
    from hybridcls.engine.phases.plan import read_phases

    (toy_configs / 'all.py').write_text(
        "phases = [dict(name='one', config='toy.py'), dict(name='two', config='second.py', cfg_options=dict(seed=5))]\n"
        'model = dict(backbone=dict(width=16))\ntrain_dataloader = dict(batch_size=4)\nseed = 4\n'
        'cfg_options = dict(max_epochs=2)\n'
    )
    phases = read_phases(load_config(toy_configs / 'all.py'))
    assert [phase.options for phase in phases] == [
        {'seed': seed, 'model.backbone.width': 16, 'train_dataloader.batch_size': 4, 'max_epochs': 2} for seed in (4, 5)
    ]


@pytest.mark.parametrize(
    ('phase', 'first'), [('', 'The training has finished.'), ('1 of 2, one', 'Phase 1 of 2, one, has finished.')]
)
def test_the_end_names_each_checkpoint_once(phase, first):
    info = dict(best_ckpt='w/best.pth', last_ckpt='w/epoch_3.pth', best_score=91.25)
    hook = CheckpointHook(interval=1)
    hook.key_indicators = ['accuracy/top1']
    runner = SimpleNamespace(message_hub=SimpleNamespace(runtime_info=info), hooks=[hook])
    assert ending_of(runner, phase).splitlines() == [
        first,
        '  best checkpoint: w/best.pth (accuracy/top1 91.2500)',
        '  last checkpoint: w/epoch_3.pth',
    ]
