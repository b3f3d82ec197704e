"""hybridcls benchmark: what is chosen is written, runs, and mistakes are told before anything is measured."""

import json

import pytest
from tiny_artifact import write_tiny_artifact
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

from hybridcls.apis.benchmark import measuring
from hybridcls.apis.benchmark.row import Accuracy, Row, Speed
from hybridcls.apis.inference_settings import InferenceSettings
from hybridcls.cli.main import SUBCOMMANDS, parse_args


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp('work') / 'epoch_1.pth', config_of(CNN, LINEAR))[0]


def command(name, *arguments):
    return SUBCOMMANDS[name].run(parse_args([name, *map(str, arguments), '--device', 'cpu']))


def measured(chosen):
    """Stands for minutes of measuring."""

    def benchmark(source, options, model, opened, data, tell):
        speed = Speed(10.0, 100.0, None, 0.5, 3, 100.0)
        accuracy = Accuracy(9, 50.0, 1.0, 0.0, -1.0, 1.0, 9, 0, 0.01)
        rows = [Row('bf16', InferenceSettings('bfloat16'), '', {2: speed}, 1.0, accuracy, 'within', 'none lost')]
        return measuring.Benchmark(measuring.machine(model.device), rows, 1.0, chosen, [])

    return benchmark


def test_what_is_written_is_what_predict_runs(checkpoint, digit_folder, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr('hybridcls.apis.benchmark.benchmark', measured('bf16'))
    out = tmp_path / 'fast.py'
    assert command('benchmark', checkpoint, '--data', digit_folder / 'val', '--out', out) == 0
    assert f'hybridcls predict {checkpoint} IMAGES --config {out}' in capfd.readouterr().out
    assert command('predict', checkpoint, digit_folder / 'val', '--config', out, '--json') == 0
    assert json.loads(capfd.readouterr().out)['inference'] == dict(settings='bf16')


def test_nothing_good_enough_is_a_problem_that_was_found(checkpoint, digit_folder, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr('hybridcls.apis.benchmark.benchmark', measured(None))
    out = tmp_path / 'fast.py'
    assert command('benchmark', checkpoint, '--data', digit_folder / 'val', '--out', out, '--json') == 1
    found = json.loads(capfd.readouterr().out)
    assert (found['chosen'], found['out'], out.exists()) == (None, None, False)
    assert found['rows'][0]['speeds']['2']['images_per_second'] == 10


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--out', 'fast.py'], 'add --data DATA to measure the loss of accuracy'),
        (['--out', 'fast.txt'], r'expected --out to end in \.py'),
        (['--settings', 'int4'], 'expected parts out of eager'),
        (['--threads', '0'], 'expected --threads of 1 or more, got 0'),
        (['--batch-sizes', '0'], 'batch_sizes'),
        (['--data', 'nowhere'], "benchmark: --data 'nowhere' does not exist"),
    ],
)
def test_mistakes(checkpoint, arguments, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        command('benchmark', checkpoint, *arguments)


def test_there_is_no_option_that_nothing_reads(capsys):
    assert parse_args(['benchmark', 'x.pth', '--batch-size', '8']).batch_sizes == [8]  # the beginning of --batch-sizes
    for command in ('benchmark', 'audit'):
        with pytest.raises(SystemExit):
            parse_args([command, 'x.pth', '--on-unreadable', 'error'])
        assert 'unrecognized arguments: --on-unreadable error' in capsys.readouterr().err


def test_an_artifact_has_no_config(tmp_path):
    folder = write_tiny_artifact(tmp_path / 'artifact')
    with pytest.raises(ValueError, match='leave --out out for an exported model'):
        command('benchmark', folder, '--out', tmp_path / 'fast.py')


def test_fast_says_what_it_does(checkpoint, digit_folder, capfd):
    assert command('predict', checkpoint, digit_folder / 'val', '--fast', '--json') == 0
    captured = capfd.readouterr()
    assert json.loads(captured.out)['inference']['settings'] == 'eager'
    assert 'fast: ' in captured.err
