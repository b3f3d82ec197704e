"""`hybridcls train`: results as JSON, earlier trainings are not mixed in, Ctrl-C loses nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import processes
import pytest
import torch
from command_runs import run_command

from hybridcls.apis.trained_model import _written_config
from hybridcls.cli import train

ENDED_EARLY = "_base_ = 'toy.py'\ncustom_hooks = [dict(type='SignalHook', iteration=4, name='SIGINT')]\n"


def read_json(capsys):
    return json.loads(capsys.readouterr().out)


def weights(path):
    return torch.load(path, weights_only=True)['state_dict']


@pytest.fixture
def work_dir(tmp_path):
    return tmp_path / 'w'


def run_toy(toy_configs, work_dir, *options, config='toy.py'):
    return run_command('train', toy_configs / config, '--work-dir', work_dir, *options)


def test_the_result_as_one_object(toy_configs, work_dir, capsys):
    assert run_toy(toy_configs, work_dir, '--json') == 0
    result = read_json(capsys)
    assert set(result) == {'command', 'config', 'work_dir', 'checkpoint', 'checkpoints', 'metrics', 'seconds'}
    assert (result['command'], result['config']) == ('train', str(toy_configs / 'toy.py'))
    assert result['work_dir'] == str(work_dir)
    assert result['seconds'] > 0
    assert result['checkpoints']['last'] == str(work_dir / 'epoch_3.pth')
    assert result['checkpoint'] == result['checkpoints']['best']
    (best,) = work_dir.glob('best_toy_top1_epoch_*.pth')
    assert result['checkpoint'] == str(best)
    saved = torch.load(work_dir / 'epoch_3.pth', weights_only=False)['message_hub']
    assert result['metrics']['best'] == {'toy/top1': saved['runtime_info']['best_score']}
    assert result['metrics']['test'] == {}
    assert result['metrics']['val']['toy/top1'] <= result['metrics']['best']['toy/top1']


def test_a_chain_reports_its_phases(toy_configs, work_dir, capsys):
    assert run_toy(toy_configs, work_dir, '--json', config='chain.py') == 0
    result = read_json(capsys)
    assert [phase['name'] for phase in result['phases']] == ['one', 'two']
    assert result['work_dir'] == str(work_dir)
    last = result['phases'][-1]
    assert last['work_dir'] == str(work_dir / '2_two')
    assert result['checkpoint'] == last['checkpoint']
    assert os.path.isfile(result['checkpoint'])
    assert set(result['metrics']['test']) == {'toy/top1'}
    assert run_toy(toy_configs, work_dir, '--json', config='chain.py') == 0  # finished before
    assert read_json(capsys)['phases'] == result['phases']


@pytest.mark.parametrize(('config', 'dumped'), [('toy.py', 'toy.py'), ('chain.py', '2_two/second.py')])
def test_what_to_do_next_is_said(toy_configs, work_dir, capsys, config, dumped):
    assert 'custom_imports' in (toy_configs / 'toy.py').read_text()  # which a checkpoint does not follow
    assert run_toy(toy_configs, work_dir, config=config) == 0
    assert (work_dir / dumped).is_file()
    said = capsys.readouterr()
    assert said.out.splitlines()[-2:] == [
        f'Next: hybridcls predict {work_dir} IMAGES --config {work_dir / dumped}',
        f'      hybridcls test {work_dir} --config {work_dir / dumped}',
    ]
    assert (said.out + said.err).count('Next: ') == 1


def test_what_to_do_next_needs_no_config_without_imports(tmp_path):
    assert train._config_option(tmp_path / 'absent.py') == ''
    (tmp_path / 'a b.py').write_text('model = dict(custom_imports=1)\n')
    assert train._config_option(tmp_path / 'a b.py') == ''
    (tmp_path / 'a b.py').write_text("custom_imports = dict(imports=['mine'])\n")
    assert train._config_option(tmp_path / 'a b.py') == f" --config '{tmp_path / 'a b.py'}'"


def test_the_config_of_a_chain_names_those_of_its_phases(toy_configs):
    with pytest.raises(ValueError, match=r'got .*chain\.py\. Pass the config of a phase: toy\.py, second\.py\.$'):
        _written_config(toy_configs / 'chain.py', None)


def test_a_used_work_dir_is_refused(toy_configs, work_dir, capsys):
    assert run_toy(toy_configs, work_dir) == 0
    before = {path.name: path.stat().st_mtime_ns for path in work_dir.glob('*.pth')}
    assert run_toy(toy_configs, work_dir) == 2
    said = capsys.readouterr().err
    assert f'expected a work dir without a training, got {work_dir}' in said
    assert '--resume' in said
    assert '--force' in said
    assert {path.name: path.stat().st_mtime_ns for path in work_dir.glob('*.pth')} == before
    assert run_toy(toy_configs, work_dir, '--resume', '--cfg-options', 'train_cfg.max_epochs=4') == 0
    assert (work_dir / 'epoch_4.pth').is_file()


def test_force_sets_the_earlier_training_aside(toy_configs, work_dir, capsys):
    assert run_toy(toy_configs, work_dir) == 0
    (work_dir / 'teacher.pth').touch()  # of no training here
    earlier = {path.name: path.read_bytes() for path in work_dir.glob('*_*.pth')}
    options = ['--cfg-options', 'default_hooks.checkpoint.save_best=None', 'train_cfg.max_epochs=1']
    assert run_toy(toy_configs, work_dir, '--force', *options) == 0
    assert sorted(path.name for path in work_dir.glob('*.pth')) == ['epoch_1.pth', 'teacher.pth']
    assert {path.name: path.read_bytes() for path in (work_dir / 'previous').glob('*.pth')} == earlier
    assert f'The earlier training in {work_dir} was moved to {work_dir / "previous"}.' in capsys.readouterr().out
    assert run_toy(toy_configs, work_dir, '--force', *options) == 0
    assert [path.name for path in (work_dir / 'previous').glob('*.pth')] == ['epoch_1.pth']


def test_a_checkpoint_that_the_training_starts_from_stays(toy_configs, work_dir):
    assert run_toy(toy_configs, work_dir) == 0
    start = work_dir / 'epoch_3.pth'
    assert (
        run_toy(toy_configs, work_dir, '--force', '--cfg-options', f'load_from={start}', 'train_cfg.max_epochs=1') == 0
    )
    assert start.is_file()
    assert not (work_dir / 'epoch_2.pth').exists()


def test_force_trains_a_chain_again(toy_configs, work_dir, capsys):
    assert run_toy(toy_configs, work_dir, config='chain.py') == 0
    changed = 'phases.0.cfg_options.train_cfg.max_epochs=2'
    assert run_toy(toy_configs, work_dir, '--cfg-options', changed, config='chain.py') == 2
    assert run_toy(toy_configs, work_dir, '--cfg-options', changed, '--force', config='chain.py') == 0
    assert not (work_dir / '1_one' / 'epoch_3.pth').exists()
    assert (work_dir / 'previous' / '1_one' / 'epoch_3.pth').is_file()


def test_resume_from_a_work_dir(toy_configs, work_dir, tmp_path, capsys):
    assert run_toy(toy_configs, work_dir) == 0
    longer = ['--cfg-options', 'train_cfg.max_epochs=4', '--resume', work_dir]
    assert run_toy(toy_configs, tmp_path / 'other', *longer) == 0
    assert f'Resuming from {work_dir / "epoch_3.pth"}' in capsys.readouterr().out
    assert [path.name for path in (tmp_path / 'other').glob('epoch_*.pth')] == ['epoch_4.pth']
    assert run_toy(toy_configs, tmp_path / 'other', *longer) == 2, 'a training of another work dir is not mixed in'
    assert run_toy(toy_configs, tmp_path / 'third', '--resume', tmp_path / 'configs') == 2


def test_ctrl_c_loses_nothing(toy_configs, work_dir, tmp_path, capsys):
    (toy_configs / 'stopped.py').write_text(ENDED_EARLY)
    assert run_toy(toy_configs, work_dir, config='stopped.py') == 130
    said = capsys.readouterr()
    assert 'To continue, type the same command with --resume.' in said.err
    assert [path.name for path in work_dir.glob('iter_*.pth')] == ['iter_5.pth']
    assert run_toy(toy_configs, work_dir, '--resume') == 0
    assert run_toy(toy_configs, tmp_path / 'whole') == 0
    whole, resumed = weights(tmp_path / 'whole' / 'epoch_3.pth'), weights(work_dir / 'epoch_3.pth')
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['none'], "config='none' does not exist"),
        (['toy.py', '--data', 'none'], "--data 'none' does not exist"),
        (['toy.py', '--device', 'cuda:99'], 'expected a device of this machine, got cuda:99'),
        (['toy.py', '--epochs', '5'], '--epochs 5: does not reach'),
    ],
)
def test_mistakes_are_one_line(toy_configs, monkeypatch, options, said, capsys):
    monkeypatch.chdir(toy_configs)
    assert run_command('train', *options) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert 'Traceback' not in printed
    assert not (Path('work_dirs')).exists()


def test_mistakes_in_names_are_found_before_the_slow_imports():
    code = (
        'import sys\nfrom argparse import Namespace\nfrom hybridcls.cli.main import parse_args\n'
        'from hybridcls.cli import train\n'
        'try:\n    train.run(parse_args(["train", *sys.argv[1:]]))\n'
        'except FileNotFoundError:\n    sys.exit(40 + ("torch" in sys.modules))\n'
    )
    for options in (['finetune/fulll'], ['digits/ce_hybrid', '--data', 'none']):
        assert subprocess.run([sys.executable, '-c', code, *options]).returncode == 40


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_set_an_earlier_training_aside_once(toy_configs, work_dir):
    assert run_toy(toy_configs, work_dir) == 0
    said = processes.run_tool('train.py', 'toy.py', '--work-dir', work_dir, count=2, folder=toy_configs)
    assert said.count('was moved to') == 1
    assert (work_dir / 'previous' / 'epoch_3.pth').is_file()
    assert (work_dir / 'epoch_3.pth').is_file()
