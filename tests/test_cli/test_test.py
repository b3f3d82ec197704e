"""`hybridcls test`: a work dir is enough, the config travels in the checkpoint."""

import csv
import json
import pickle

import pytest
import torch
from command_runs import run_command
from toy_runs import train


@pytest.fixture
def work_dir(toy_configs, tmp_path):
    """Of a training of the toy."""
    train(toy_configs / 'toy.py', tmp_path / 'w')
    return tmp_path / 'w'


def test_a_work_dir_is_enough(work_dir, toy_configs, tmp_path, monkeypatch, capsys):
    for file in toy_configs.iterdir():
        file.unlink()
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    assert run_command('test', work_dir, '--json') == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    (best,) = work_dir.glob('best_*.pth')
    assert said.err.startswith(f'Checkpoint {best}, the best of {work_dir} by toy_top1.\n')
    assert (result['command'], result['checkpoint'], result['config']) == ('test', str(best), None)
    assert 0 <= result['metrics']['toy/top1'] <= 100
    assert set(result['declared']) <= set(result['metrics'])
    assert result['work_dir'] == str(work_dir / 'test')
    assert not list((tmp_path / 'elsewhere').iterdir())


def test_the_metrics_are_those_of_the_tool(work_dir, toy_configs, monkeypatch, capsys):
    """The same checkpoint by its own config and by the file of it."""
    last = work_dir / 'epoch_3.pth'
    results = []
    for options in ([], ['--config', toy_configs / 'toy.py']):
        assert run_command('test', last, '--json', *options) == 0
        results.append(json.loads(capsys.readouterr().out)['metrics'])
    assert results[0] == results[1]


def test_metrics_are_a_table(work_dir, capsys):
    assert run_command('test', work_dir, '--cfg-options', 'log_level=INFO') == 0
    assert '\n  toy/top1  ' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['m.json', 'm.yml', 'm.csv', 'p.pkl'])
def test_out_by_its_suffix(work_dir, tmp_path, monkeypatch, name, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command('test', work_dir, '--out', name, '--json') == 0
    metrics = json.loads(capsys.readouterr().out)['metrics']
    content = (tmp_path / name).read_bytes()
    if name == 'm.json':
        assert json.loads(content) == metrics
    elif name == 'm.csv':
        rows = dict(csv.reader(content.decode().splitlines()))
        assert float(rows['toy/top1']) == metrics['toy/top1']
    elif name == 'p.pkl':
        rows = pickle.loads(content)
        assert len(rows) == 24
        assert 100 * sum(row['right'] for row in rows) / 24 == pytest.approx(metrics['toy/top1'])
    assert run_command('test', work_dir, '--out', name) == 2
    assert f"--out '{name}' exists" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == content
    assert run_command('test', work_dir, '--out', name, '--force') == 0


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        ([], 'expected a checkpoint or a work dir, got none'),
        (['digits/ce_hybrid'], "got the config 'digits/ce_hybrid'. Write hybridcls test CHECKPOINT --config"),
        (['none.pth'], "checkpoint='none.pth' does not exist"),
        (['configs'], "expected a checkpoint or a work dir with one, got 'configs'"),
        (['w', '--config', 'none'], "config='none' does not exist"),
        (['w', '--config', 'configs/chain.py'], 'got the chain configs/chain.py'),
        (['w', '--out-item', 'pred'], '--out-item needs --out FILE'),
        (['w', '--out', 'x.json', '--out-item', 'pred'], 'expected --out to end in .pkl'),
        (['w', '--corruptions', '--show-dir', 'x'], '--corruptions repeats the test'),
        (['w', '--out', 'x.pkl', '--corruptions'], '--corruptions writes metrics only'),
        (
            ['w', '--corruptions', 'fog'],
            "to be one of ['blur', 'noise', 'jpeg', 'brightness', 'resolution'], got 'fog'",
        ),
        (['w', '--data', 'none'], "--data 'none' does not exist"),
        (['bare.pth'], 'contains no config'),
        (['evil.pth'], "got type='os.system'"),
        (['plugin.pth'], "got type='NotImported'"),
    ],
)
def test_mistakes_are_one_line(work_dir, tmp_path, monkeypatch, options, said, capsys):
    monkeypatch.chdir(tmp_path)
    good = torch.load(work_dir / 'epoch_3.pth', weights_only=False)
    torch.save(good['state_dict'], 'bare.pth')
    for name, kind in (('evil', 'os.system'), ('plugin', 'NotImported')):
        cfg = (
            f"model = dict(type='{kind}', command='touch {tmp_path}/ran')\ncustom_imports = dict(imports=['planted'])\n"
        )
        torch.save(dict(good, meta=dict(good['meta'], cfg=cfg)), f'{name}.pth')
    assert run_command('test', *options) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert 'Traceback' not in printed
    assert not (tmp_path / 'ran').exists()


def test_a_trusted_checkpoint_imports_its_plugin(work_dir, monkeypatch, tmp_path):
    monkeypatch.setattr('hybridcls.checkpoint_reading._trusted', False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / 'planted_plugin.py').write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    content = torch.load(work_dir / 'epoch_3.pth', weights_only=False)
    content['meta']['cfg'] = content['meta']['cfg'].replace("'toy_plugin'", "'planted_plugin'")
    torch.save(content, tmp_path / 'c.pth')
    assert run_command('test', tmp_path / 'c.pth') == 0
    assert not (tmp_path / 'ran').exists()
    assert run_command('test', tmp_path / 'c.pth', '--trust-checkpoint') == 0
    assert (tmp_path / 'ran').exists()
