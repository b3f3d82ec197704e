"""What a run is, how far it is, what came out."""

import re

from hybridcls.engine import TrainOptions, load_config, run_chain
from hybridcls.engine.hooks.console_hook import results_of


def test_a_few_results_are_one_line_and_more_a_table():
    assert results_of(dict(a=1.5, b=2)) == 'a 1.5000, b 2'
    many = results_of({'accuracy/top1': 99.5, 'nll': 0.25, 'long/name/of/a/metric': 3.0, 'n': 7, 'matrix': [1, 2]})
    rows = many.strip('\n').split('\n')
    assert [row.split() for row in rows] == [
        ['accuracy/top1', '99.5000'], ['nll', '0.2500'], ['long/name/of/a/metric', '3.0000'], ['n', '7'],
    ]  # fmt: skip
    assert len({len(row) for row in rows}) == 1, 'columns'


def test_the_phases_of_a_chain_tell_the_time_that_all_of_them_take(toy_configs, tmp_path, capsys):
    run_chain(load_config(toy_configs / 'chain.py', {'cfg_options.log_level': 'INFO'}), TrainOptions(), str(tmp_path))
    said = capsys.readouterr().out
    assert 'Phase 1 of 2, one. Training:' in said
    first, second = said.split('Phase 2 of 2, two. Training:')
    assert re.search(r'Epoch\(train\).* left, about \d:\d\d:\d\d of all phases', first)
    assert 'of all phases' not in second


def test_what_is_said_for_all_phases_reaches_them(toy_configs, tmp_path):
    from hybridcls.engine.phase_plan import read_phases

    (toy_configs / 'all.py').write_text(
        "phases = [dict(name='one', config='toy.py'), dict(name='two', config='second.py', cfg_options=dict(seed=5))]\n"
        'model = dict(backbone=dict(width=16))\ntrain_dataloader = dict(batch_size=4)\nseed = 4\n'
        'cfg_options = dict(max_epochs=2)\n'
    )
    phases = read_phases(load_config(toy_configs / 'all.py'))
    assert [phase.options for phase in phases] == [
        {'seed': seed, 'model.backbone.width': 16, 'train_dataloader.batch_size': 4, 'max_epochs': 2} for seed in (4, 5)
    ]
