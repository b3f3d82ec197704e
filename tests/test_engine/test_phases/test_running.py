"""Chains of phases: run, interrupted, resumed, changed."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer
from processes import run_tool

from hybridcls.engine import TrainOptions, load_config, run_chain
from hybridcls.engine.config import ConfigError
from hybridcls.engine.config.facts import config_facts, differing_keys, fingerprint
from hybridcls.engine.phases.plan import read_phases
from hybridcls.engine.phases.record import PhaseRecord
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.evaluation.result_names import without_result


def run(toy_configs, tmp_path, resume=None, **options):
    return run_chain(load_config(toy_configs / 'chain.py', options), TrainOptions(resume=resume), str(tmp_path / 'w'))


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


def test_two_phases_run_and_the_second_starts_from_the_first(toy_configs, tmp_path, capsys):
    still = {'phases.1.cfg_options.optim_wrapper.optimizer.lr': 0.0, 'phases.1.load': 'last'}
    first, second = run(toy_configs, tmp_path, **still)
    one, two = weights(tmp_path / 'w/1_one/epoch_3.pth'), weights(tmp_path / 'w/2_two/epoch_2.pth')
    for name in ('backbone.0.weight', 'neck.weight', 'neck.bias'):  # by a learning rate of zero they stay
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=0)
    assert one['head.weight'].shape == (3, 6)
    assert two['head.weight'].shape == (2, 6)
    assert first.checkpoints['last'] == 'epoch_3.pth'
    assert first.checkpoints['best'].startswith('best_toy_top1')
    assert {'val/toy/top1', 'best/score'} <= set(first.metrics)
    assert 'test/toy/top1' in second.metrics
    assert 'test/toy/top1' not in first.metrics
    assert json.loads((tmp_path / 'w/2_two/phase.json').read_text())['metrics'] == second.metrics
    assert not (tmp_path / 'w/2_two/phase.running.json').exists()
    printed = capsys.readouterr().out
    assert '1 one' in printed
    assert str(tmp_path / 'w/2_two/epoch_2.pth') in printed


def test_what_was_loaded_and_left_out_stands_in_the_log(toy_configs, tmp_path):
    run(toy_configs, tmp_path, **{'cfg_options.log_level': 'INFO'})
    log = next((tmp_path / 'w/2_two').glob('2*/*.log')).read_text()
    assert '9 weights loaded (backbone 7, neck 2)' in log
    assert '2 new, with their initial values (head 2)' in log
    assert '2 of the checkpoint left out (head 2)' in log
    assert 'do not match exactly' not in log


def test_finished_phases_are_not_run_again(toy_configs, tmp_path, monkeypatch):
    before = run(toy_configs, tmp_path)
    monkeypatch.setattr('hybridcls.engine.phases.running.build_runner', None)
    assert run(toy_configs, tmp_path) == before


def test_phases_that_version_0_1_has_finished_are_not_run_again(toy_configs, tmp_path, monkeypatch):
    new = {
        'cfg_options.optim_wrapper.type': 'ComposedOptimWrapper',
        'cfg_options.optim_wrapper.nonfinite_loss': 'raise',
    }
    before = run(toy_configs, tmp_path, **new)
    for file in (tmp_path / 'w').glob('*/phase.json'):
        record = json.loads(file.read_text())
        assert record['facts'].pop('optim_wrapper.nonfinite_loss') == "'raise'"
        record['facts']['optim_wrapper.bad_loss'] = "'stop'"  # old spelling
        record['fingerprint'] = fingerprint(record['facts'])
        record['metrics']['val/ood/auroc_max_softmax'] = 90.0  # old spelling
        file.write_text(json.dumps(record))
    monkeypatch.setattr('hybridcls.engine.phases.running.build_runner', None)
    after = run(toy_configs, tmp_path, **new)
    assert [one.checkpoints for one in after] == [one.checkpoints for one in before]
    assert all(one.metrics['val/ood/auroc_least_confidence'] == 90.0 for one in after)


def test_an_interrupted_phase_goes_on_and_ends_in_the_same_bits(toy_configs, tmp_path):
    run(toy_configs, tmp_path / 'straight')
    stop = (toy_configs / 'second.py').read_text()
    (toy_configs / 'second.py').write_text(stop + "custom_hooks = [dict(type='StopHook', epoch=1)]\n")
    with pytest.raises(Exception) as caught:
        run(toy_configs, tmp_path)
    assert caught.type.__name__ == 'Stopped'
    assert PhaseRecord.read(tmp_path / 'w/2_two') is None
    assert PhaseRecord.read(tmp_path / 'w/2_two', finished=False).seconds > 0
    (toy_configs / 'second.py').write_text(stop)
    with pytest.raises(ValueError, match=r'Phase two was begun with another config.*custom_hooks.*add --resume'):
        run(toy_configs, tmp_path)
    first, _ = run(toy_configs, tmp_path, resume='auto')
    assert first == PhaseRecord.read(tmp_path / 'w/1_one')
    torch.testing.assert_close(
        weights(tmp_path / 'w/2_two/epoch_2.pth'), weights(tmp_path / 'straight/w/2_two/epoch_2.pth'), rtol=0, atol=0
    )


def test_a_phase_that_saved_nothing_starts_again_with_the_repaired_config(toy_configs, tmp_path, capsys):
    with pytest.raises(Exception, match='unknown key'):
        run(toy_configs, tmp_path, **{'phases.0.cfg_options.model.width': 7})
    assert PhaseRecord.read(tmp_path / 'w/1_one', finished=False) is not None
    capsys.readouterr()
    first, _ = run(toy_configs, tmp_path)
    assert first.checkpoints['last'] == 'epoch_3.pth'
    assert 'Phase one had saved no checkpoint: it starts again, with the config of now.' in capsys.readouterr().out


def test_no_best_checkpoint_because_its_metric_had_no_result(toy_configs, tmp_path, monkeypatch, toy_plugin):
    """The chain says that, and goes on with the last one as it advises."""

    def compute(self, results):
        return without_result(self, 'It has seen no square.')

    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', compute)
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'directions', {'top1': 'greater'}, raising=False)
    with pytest.raises(ValueError) as caught:
        run(toy_configs, tmp_path)
    assert str(caught.value) == (
        "Phase two: load='best', but phase one kept no such checkpoint. CheckpointHook: save_best='toy/top1' had no "
        "result in the validation. ToyAccuracy: It has seen no square. Set load='last' here."
    )
    first, second = run(toy_configs, tmp_path, **{'phases.1.load': 'last'})
    assert first.no_best
    assert second.checkpoints['last'] == 'epoch_2.pth'


def test_a_phase_that_was_finished_with_another_config_is_an_error(toy_configs, tmp_path):
    run(toy_configs, tmp_path)
    stamp = (tmp_path / 'w/1_one/epoch_3.pth').stat().st_mtime_ns
    for resume in (None, 'auto'):
        with pytest.raises(
            ValueError,
            match=r'Phase one was finished with another config\. What differs: '
            r'randomness\.seed \(3, now 4\)\..*remove the folder .*1_one',
        ):
            run(toy_configs, tmp_path, resume, **{'phases.0.cfg_options.randomness.seed': 4})
    assert (tmp_path / 'w/1_one/epoch_3.pth').stat().st_mtime_ns == stamp


def test_another_machine_is_no_other_config(toy_configs, tmp_path, monkeypatch):
    before = run(toy_configs, tmp_path)
    monkeypatch.setattr('hybridcls.engine.phases.running.build_runner', None)  # nothing is to be trained again
    machine = {'cfg_options.log_level': 'ERROR', 'cfg_options.val_dataloader.num_workers': 1}
    assert run(toy_configs, tmp_path, **machine) == before


def test_a_phase_after_one_that_was_trained_again_is_an_error(toy_configs, tmp_path):
    run(toy_configs, tmp_path)
    (tmp_path / 'w/1_one').rename(tmp_path / 'away')
    with pytest.raises(ValueError, match='Phase two was finished after an earlier training of the previous phase,'):
        run(toy_configs, tmp_path)


def test_checkpoints_without_a_record_are_not_overwritten(toy_configs, tmp_path):
    (tmp_path / 'w/1_one').mkdir(parents=True)
    torch.save({}, tmp_path / 'w/1_one/epoch_1.pth')
    with pytest.raises(ValueError, match='has checkpoints but no record of phase one'):
        run(toy_configs, tmp_path)


def test_a_child_of_a_chain_in_another_folder_keeps_its_phases(toy_configs, tmp_path):
    child = tmp_path / 'elsewhere/mine.py'
    child.parent.mkdir()
    child.write_text(f'_base_ = {str(toy_configs / "chain.py")!r}\nseed = 4\n')
    phases = read_phases(load_config(child))
    assert [Path(phase.config).resolve().parent for phase in phases] == [toy_configs.resolve()] * 2
    child.write_text("phases = [dict(name='own', config='own.py')]\n")
    assert Path(read_phases(load_config(child))[0].config) == child.parent / 'own.py'
    options = {'phases': [dict(name='own', config='own.py')]}
    assert Path(read_phases(load_config(child, options))[0].config) == child.parent / 'own.py'


def test_options_reach_their_phases_and_win_in_order(toy_configs):
    chain = load_config(
        toy_configs / 'chain.py',
        {
            'model.head.num_classes': 9,
            'cfg_options.randomness.seed': 1,
            'cfg_options.train_cfg.max_epochs': 7,
            'phases.1.cfg_options.train_cfg.max_epochs': 8,
            'phases.1.cfg_options.model.head.num_classes': 4,
        },
    )
    one, two = [load_config(phase.config, phase.options) for phase in read_phases(chain)]
    assert (one.randomness.seed, one.train_cfg.max_epochs, one.model.head.num_classes) == (1, 7, 9)
    assert (two.randomness.seed, two.train_cfg.max_epochs, two.model.head.num_classes) == (1, 8, 4)


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (
            {'trian_cfg': dict(max_epochs=1)},
            r"nothing reads the key 'trian_cfg' of a chain.*mean 'train_cfg'.*phases\.0\.cfg_options\.trian_cfg",
        ),
        ({'phases.0.lod': 'x'}, r"phases\.0: unknown key 'lod'\. Did you mean 'load'"),
        ({'phases': []}, 'phases is '),
        ({'phases': [dict(config='toy.py')]}, r"phases\.0: the key 'name' is missing"),
        ({'phases': [dict(name='a/b', config='toy.py')]}, "name='a/b' names a folder"),
        ({'phases.1.name': 'one'}, 'two phases have the same name'),
        ({'phases.1.load': 'bst'}, r"expected load to be one of .*, got 'bst'.* Did you mean 'best'"),
        ({'phases.0.load': 'last'}, 'this is the first phase'),
        ({'phases.0.config': 'ty.py'}, r"ty\.py' does not exist.*Did you mean '.*toy\.py'"),
        ({'phases.1.load': 'no.pth'}, r"The checkpoint 'no\.pth' does not exist"),
    ],
)
def test_mistakes_in_a_chain_are_told_before_anything_runs(toy_configs, tmp_path, options, sentence):
    with pytest.raises((ConfigError, TypeError, ValueError, FileNotFoundError), match=sentence):
        run(toy_configs, tmp_path, **options)
    assert not (tmp_path / 'w').exists()


def test_a_chain_takes_no_checkpoint_to_resume_from(toy_configs, tmp_path):
    with pytest.raises(ValueError, match='a chain always continues'):
        run(toy_configs, tmp_path, resume='some.pth')


def test_the_best_checkpoint_of_a_phase_that_kept_none(toy_configs, tmp_path):
    with pytest.raises(ValueError, match=r"load='best', but phase one kept no such checkpoint\. Set .*save_best"):
        run(toy_configs, tmp_path, **{'phases.0.cfg_options.default_hooks.checkpoint.save_best': None})


def test_a_phase_can_start_from_a_checkpoint_of_elsewhere(toy_configs, tmp_path):
    run(toy_configs, tmp_path / 'other')
    path = str(tmp_path / 'other/w/1_one/epoch_1.pth')
    path = path if os.path.exists(path) else str(tmp_path / 'other/w/1_one/epoch_3.pth')
    still = {'phases.0.load': path, 'phases.0.transfer': None, 'cfg_options.optim_wrapper.optimizer.lr': 0.0}
    run(toy_configs, tmp_path, **still)
    torch.testing.assert_close(
        weights(tmp_path / 'w/1_one/epoch_3.pth')['head.weight'], weights(path)['head.weight'], rtol=0, atol=0
    )


def test_the_first_phase_starts_from_the_load_from_of_its_config(toy_configs, tmp_path, capsys):
    run(toy_configs, tmp_path / 'other')
    path = str(tmp_path / 'other/w/1_one/epoch_3.pth')
    still = {'phases.0.cfg_options.load_from': path, 'cfg_options.optim_wrapper.optimizer.lr': 0.0}
    run(toy_configs, tmp_path, **still)
    torch.testing.assert_close(
        weights(tmp_path / 'w/1_one/epoch_3.pth')['head.weight'], weights(path)['head.weight'], rtol=0, atol=0
    )
    assert f'Phase 1 of 2, one: starts from {path};' in capsys.readouterr().out


def test_the_start_of_a_later_phase_replaces_the_load_from_of_its_config(toy_configs, tmp_path, capsys):
    still = {
        'phases.1.cfg_options.load_from': 'elsewhere.pth',
        'phases.1.load': 'last',
        'cfg_options.log_level': 'INFO',
    }
    run(toy_configs, tmp_path, **still, **{'phases.1.cfg_options.optim_wrapper.optimizer.lr': 0.0})
    one, two = weights(tmp_path / 'w/1_one/epoch_3.pth'), weights(tmp_path / 'w/2_two/epoch_2.pth')
    torch.testing.assert_close(two['neck.weight'], one['neck.weight'], rtol=0, atol=0)
    said = capsys.readouterr().out
    assert re.search(r"load_from +'elsewhere\.pth' -> .* start of phase two", said)


def test_a_phase_is_tested_with_all_of_its_weights(toy_configs, tmp_path, toy_plugin, monkeypatch):
    """In training its head starts from random weights; in the test it is the one that was trained."""
    heads, forward = [], toy_plugin.ToyModel.forward

    def watch(self, *args, mode='loss', **kwargs):
        if mode == 'predict':
            heads.append(self.head.weight.detach().clone())
        return forward(self, *args, mode=mode, **kwargs)

    monkeypatch.setattr(toy_plugin.ToyModel, 'forward', watch)
    run(toy_configs, tmp_path)
    (best,) = (tmp_path / 'w/2_two').glob('best_*.pth')
    assert torch.equal(heads[-1], weights(best)['head.weight'])


def test_phases_with_an_average_hand_on_the_average(toy_configs, tmp_path):
    (toy_configs / 'toy.py').write_text(
        (toy_configs / 'toy.py').read_text() + "custom_hooks = [dict(type='EMAHook', momentum=0.1)]\n"
    )
    still = {'phases.1.cfg_options.optim_wrapper.optimizer.lr': 0.0, 'phases.1.load': 'last'}
    run(toy_configs, tmp_path, **still)
    one, two = weights(tmp_path / 'w/1_one/epoch_3.pth'), weights(tmp_path / 'w/2_two/epoch_2.pth')
    torch.testing.assert_close(two['neck.weight'], one['neck.weight'])


def test_nothing_global_leaks_from_phase_to_phase(toy_configs, tmp_path):
    kinds = (MessageHub, MMLogger, Visualizer)
    before = [set(kind._instance_dict) for kind in kinds]
    run(toy_configs, tmp_path)
    assert [set(kind._instance_dict) for kind in kinds] == before
    # Each phase's scalars are in its own folder, although both configs give their visualizer the same name.
    assert list((tmp_path / 'w/1_one').rglob('scalars.json'))
    assert list((tmp_path / 'w/2_two').rglob('scalars.json'))


def test_a_visualizer_of_the_caller_is_restored():
    mine = Visualizer.get_instance('test_phases_mine')
    with isolated_globals():
        assert Visualizer.get_instance('test_phases_mine') is not mine
    assert Visualizer.get_instance('test_phases_mine') is mine
    Visualizer._instance_dict.pop('test_phases_mine')


def test_the_number_of_classes_is_counted_where_it_is_not_set(toy_configs, tmp_path):
    run(toy_configs, tmp_path, **{'phases.1.cfg_options.model.head.num_classes': None})
    assert weights(tmp_path / 'w/2_two/epoch_2.pth')['head.weight'].shape == (3, 6)


def test_a_record_that_is_none(tmp_path):
    (tmp_path / 'phase.json').write_text('{')
    with pytest.raises(ValueError, match=r'phase\.json is not a record of a phase'):
        PhaseRecord.read(tmp_path)


def test_facts_leave_out_the_machine(toy_configs):
    plain = config_facts(load_config(toy_configs / 'toy.py'))
    moved = config_facts(
        load_config(
            toy_configs / 'toy.py', {'work_dir': '/elsewhere', 'train_dataloader.num_workers': 3, 'launcher': 'pytorch'}
        )
    )
    assert plain == moved
    assert plain['optim_wrapper.optimizer.lr'] == '0.05'


def test_many_differences_are_counted():
    text = differing_keys({str(n): 'a' for n in range(9)}, {})
    assert text.endswith('and 3 more')
    assert '0 (a, now not there)' in text


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes(toy_configs, tmp_path):
    command = ['train.py', toy_configs / 'chain.py', '--work-dir', tmp_path / 'w']
    assert run_tool(*command, count=2).count('1 one') == 1, 'one process prints the table'
    record = PhaseRecord.read(tmp_path / 'w/2_two')
    states = torch.load(tmp_path / 'w/2_two' / record.checkpoints['last'], weights_only=False)['random_state']
    assert states['world_size'] == len(states['states']) == 2
    assert run_tool(*command, count=2).count('already finished,') == 2
