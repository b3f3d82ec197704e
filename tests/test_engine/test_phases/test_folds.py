"""A cross-validation is one job: a training a fold, which goes on where it was interrupted, and a summary."""

import re

import pytest

from hybridcls.engine import TrainOptions, in_folds, is_chain, load_config, run_chain
from hybridcls.engine.phases.folds import fold_summary
from hybridcls.engine.phases.plan import read_phases
from hybridcls.engine.phases.record import PhaseRecord


def test_a_config_without_folds_stays(toy_configs):
    for options in ({}, {'data_split.seed': 3}, {'data_split.folds': 3, 'data_split.fold': 2}):
        cfg = load_config(toy_configs / 'toy.py', options)
        assert in_folds(cfg) is cfg


def test_a_phase_a_fold_with_the_options(toy_configs):
    options = {'data_split.folds': 3, 'max_epochs': 2, 'model.head.num_classes': 4}
    cfg = load_config(toy_configs / 'toy.py', options)
    chain = in_folds(cfg)
    assert is_chain(chain)
    assert chain.filename == cfg.filename
    phases = read_phases(chain)
    assert [(phase.name, phase.load, phase.test) for phase in phases] == [
        ('fold1', None, False), ('fold2', None, False), ('fold3', None, False),
    ]  # fmt: skip
    for number, phase in enumerate(phases, 1):
        own = load_config(phase.config, phase.options)
        assert own.data_split == dict(folds=3, fold=number)
        assert own.model.head.num_classes == 4
        assert own.train_cfg.max_epochs == cfg.train_cfg.max_epochs


def test_folds_that_the_file_asks_for(toy_configs):
    (toy_configs / 'mine.py').write_text("_base_ = 'toy.py'\nwork_dir = 'mine'\ndata_split = dict(folds=2, seed=4)\n")
    chain = in_folds(load_config(toy_configs / 'mine.py'))
    assert chain.work_dir == 'mine'
    phases = read_phases(chain)
    assert [load_config(phase.config, phase.options).data_split for phase in phases] == [
        dict(folds=2, seed=4, fold=1), dict(folds=2, seed=4, fold=2),
    ]  # fmt: skip


@pytest.mark.parametrize('is_option', [True, False])
def test_a_chain_trains_all_its_phases_for_each_fold(toy_configs, is_option):
    text = "cfg_options = dict(log_level='ERROR')\n" + ('' if is_option else 'data_split = dict(folds=2)\n')
    (toy_configs / 'chain.py').write_text((toy_configs / 'chain.py').read_text() + text)
    options = {f'phases.{number}.cfg_options.data_split.folds': 2 for number in (0, 1) if is_option}  # as --folds 2
    phases = read_phases(in_folds(load_config(toy_configs / 'chain.py', options)))
    assert {phase.options['data_split.folds'] for phase in phases} == {2}
    assert [(phase.folder_name, phase.load, phase.options['data_split.fold']) for phase in phases] == [
        ('1_fold1_one', None, 1), ('2_fold1_two', 'best', 1), ('3_fold2_one', None, 2), ('4_fold2_two', 'best', 2),
    ]  # fmt: skip
    assert {load_config(phase.config, phase.options).log_level for phase in phases} == {'ERROR'}


def test_an_interrupted_job_goes_on_and_ends_with_a_summary(toy_configs, tmp_path, capsys):
    def run():
        cfg = load_config(toy_configs / 'toy.py', {'data_split.folds': 3})
        return run_chain(in_folds(cfg), TrainOptions(), str(tmp_path / 'w'))

    records = run()
    printed = capsys.readouterr().out
    values = [record.metrics['val/toy/top1'] for record in records]
    mean = sum(values) / 3
    spread = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    assert printed.splitlines()[-1].startswith(f'mean ± sd of 3 folds: toy/top1 {mean:.2f} ± {spread:.2f}')
    second = tmp_path / 'w/2_fold2'
    before = (tmp_path / 'w/1_fold1/phase.json').read_bytes(), (tmp_path / 'w/3_fold3/phase.json').read_bytes()
    (second / 'phase.json').rename(second / 'phase.running.json')  # as if it had been interrupted at its end
    again = run()
    printed = capsys.readouterr().out
    assert re.search(r'Phase 1 of 3, fold1: already finished', printed)
    assert re.search(r'Phase 2 of 3, fold2: goes on from .*epoch_3\.pth', printed)
    assert re.search(r'Phase 3 of 3, fold3: already finished', printed)  # it does not follow from the second
    assert (
        (tmp_path / 'w/1_fold1/phase.json').read_bytes(),
        (tmp_path / 'w/3_fold3/phase.json').read_bytes(),
    ) == before
    assert [record.name for record in again] == ['fold1', 'fold2', 'fold3']


@pytest.mark.parametrize(
    ('names', 'lines'),
    [
        (['one', 'two'], []),
        (['fold1', 'two'], []),
        (['fold1', 'fold2'], ['mean ± sd of 2 folds: top1 1.50 ± 0.71, loss 1.0000 ± 0.0000 (validation)']),
        (
            ['fold1_a', 'fold1_b', 'fold2_a', 'fold2_b'],
            [
                'a, mean ± sd of 2 folds: top1 2.00 ± 1.41, loss 1.0000 ± 0.0000 (validation)',
                'b, mean ± sd of 2 folds: top1 3.00 ± 1.41, loss 1.0000 ± 0.0000 (validation)',
            ],
        ),
    ],
)
def test_summary(names, lines):
    records = [
        PhaseRecord(name, '', {}, metrics={'val/loss': 1.0, 'val/top1': float(number), f'val/{number}': 0.0})
        for number, name in enumerate(names, 1)
    ]
    assert fold_summary(records).splitlines() == lines
