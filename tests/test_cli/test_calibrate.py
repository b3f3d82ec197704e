"""`hybridcls calibrate`: saved beside the checkpoint, taken by predict and test, and sentences for what cannot be."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import torch
from command_runs import run_command
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls


@pytest.fixture(scope='module')
def fitted(tmp_path_factory, digit_folder):
    """A model that is right about most images of val, and wrong about some of train."""
    cfg = config_of(CNN, LINEAR, digit_folder / 'train')
    cfg['test_evaluator'] = [dict(type='Accuracy')]
    path, model = write_checkpoint(tmp_path_factory.mktemp('w') / 'epoch_1.pth', cfg)
    embeddings = torch.from_numpy(hybridcls.load(path, 'cpu').embed(digit_folder / 'val'))
    model.head.fit(embeddings, torch.arange(4).repeat_interleave(4))
    content = torch.load(path)
    content['state_dict'].update({f'head.{name}': value for name, value in model.head.state_dict().items()})
    torch.save(content, path)
    return path


@pytest.fixture
def checkpoint(fitted, tmp_path):
    """In a work dir of its own."""
    (tmp_path / 'w').mkdir()
    return shutil.copy(fitted, tmp_path / 'w' / 'epoch_1.pth')


def calibrate(checkpoint, digit_folder, *options):
    return run_command('calibrate', checkpoint, '--data', digit_folder / 'train', '--device', 'cpu', *options)


def test_what_is_found_is_taken_by_predict_and_test(checkpoint, digit_folder, tmp_path, capfd):
    work_dir = os.path.dirname(checkpoint)
    asked = ('--scale', 'temperature', '--risk', 0.4, '--confidence', 0.8, '--sets', 0.2)
    assert calibrate(work_dir, digit_folder, *asked) == 0
    shown = capfd.readouterr()
    file = f'{checkpoint}.calibration.json'
    assert shown.err.startswith(f'Checkpoint {checkpoint}, the last of ')
    assert shown.out.splitlines()[-1].endswith(f'-> {file}')
    with open(file) as content:
        saved = json.load(content)
    assert saved['risk']['risk'] == 0.4
    images = (digit_folder / 'train', '--device', 'cpu', '--out')
    assert run_command('predict', work_dir, *images, tmp_path / 'a.csv') == 0
    said = capfd.readouterr().err
    assert f'\nCalibration {file}: temperature ' in said
    assert run_command('predict', work_dir, *images, tmp_path / 'plain.csv', '--no-calibration') == 0
    assert 'Calibration' not in capfd.readouterr().err
    rows, plain = (list(csv.DictReader((tmp_path / name).open())) for name in ('a.csv', 'plain.csv'))
    temperature = saved['scaling']['temperature']
    model = hybridcls.load(checkpoint, 'cpu', calibration=False)
    for row, own, answer in zip(rows, plain, model(digit_folder / 'train'), strict=True):
        expected = np.log(answer.scores.astype(float)) / temperature
        expected = np.exp(expected - np.logaddexp.reduce(expected))
        assert float(row['probability']) == pytest.approx(expected.max(), abs=1e-6)
        answered = float(row['probability']) >= saved['risk']['threshold']
        assert row['answered'] == str(answered)
        assert row['class'] == (own['class'] if answered else 'unknown')
        inside = {name for name, score in zip(model.classes, expected, strict=True)
                  if score >= saved['sets']['threshold']}  # fmt: skip
        assert set(row['set'].split('|')) == inside | {own['class']}
    assert list(own) == ['path', 'class', 'probability', 'label']
    unknown = sum(row['class'] == 'unknown' for row in rows)
    assert 0 < unknown < 48
    assert f"48 images answered, {unknown} of them with 'unknown'" in said

    assert run_command('test', work_dir, '--json') == 0
    shown = capfd.readouterr()
    assert f'Calibration {file}: temperature ' in shown.err.splitlines()[1]
    result = json.loads(shown.out)
    assert result['calibration'] == file
    assert result['metrics']['answered/coverage'] == 100 * (48 - unknown) / 48
    right = [row['class'] == row['label'] for row in rows if row['answered'] == 'True']
    assert result['metrics']['answered/error'] == pytest.approx(100 * (1 - np.mean(right)))
    held = [row['label'] in row['set'].split('|') for row in rows]
    assert result['metrics']['answered/set_coverage'] == pytest.approx(100 * np.mean(held))
    assert run_command('test', work_dir, '--json', '--no-calibration') == 0
    assert json.loads(capfd.readouterr().out)['calibration'] is None
    assert run_command('test', work_dir, '--tta', '--json') == 0
    shown = capfd.readouterr()
    assert f'{file} is not applied: it calibrates single views' in shown.err
    assert 'answered/error' not in json.loads(shown.out)['metrics']
    assert run_command('test', work_dir, '--amp') == 2
    assert 'these are in bfloat16. Its thresholds guarantee nothing here' in capfd.readouterr().err


def test_answers_on_the_terminal_and_as_json(checkpoint, digit_folder, capfd):
    assert calibrate(checkpoint, digit_folder, '--risk', 0.4, '--confidence', 0.8, '--sets', 0.2) == 0
    capfd.readouterr()
    assert run_command('predict', checkpoint, digit_folder / 'train', '--device', 'cpu') == 0
    lines = capfd.readouterr().out.splitlines()
    assert any(line.split()[1] == 'unknown' and '(one of ' in line for line in lines)
    assert run_command('predict', checkpoint, digit_folder / 'train', '--device', 'cpu', '--json') == 0
    report = json.loads(capfd.readouterr().out)
    assert report['unknown'] == report['accuracy']['unanswered'] == sum('unknown' in line for line in lines)
    assert report['calibration'] == f'{checkpoint}.calibration.json'
    assert all(not one['answered'] for one in report['predictions'] if one['class'] == 'unknown')


def test_the_images_that_are_missing_are_counted(checkpoint, digit_folder, capfd):
    assert calibrate(checkpoint, digit_folder, '--scale', 'temperature', '--risk', 0.01, '--json') == 1
    said = capfd.readouterr()
    report = json.loads(said.out)
    assert report['calibration']['risk'] is None
    assert report['calibration']['scaling']['temperature'] > 0  # what was computed is kept
    assert 'An error of at most 0.01 among answered images with confidence 0.95 cannot be shown' in said.err
    assert report['missing'] == [said.err.splitlines()[-1]]


def test_a_file_is_not_replaced_without_being_told(checkpoint, digit_folder, tmp_path, capfd):
    assert calibrate(checkpoint, digit_folder) == 0
    assert calibrate(checkpoint, digit_folder) == 2
    assert f"--out '{checkpoint}.calibration.json' exists. Add --force" in capfd.readouterr().err
    assert calibrate(checkpoint, digit_folder, '--force', '--scale', 'none') == 0
    assert calibrate(checkpoint, digit_folder, '--out', tmp_path / 'mine.json', '--scale', 'temperature') == 0
    os.remove(f'{checkpoint}.calibration.json')
    capfd.readouterr()
    named = ('--calibration', tmp_path / 'mine.json', '--device', 'cpu')
    assert run_command('predict', checkpoint, digit_folder / 'val', *named) == 0
    assert f'Calibration {tmp_path}/mine.json: temperature' in capfd.readouterr().err


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--risk', 1.5], r'expected --risk in (0, 1), got 1.5'),
        (['--confidence', 0.9], '--confidence needs --risk R'),
        (['--pool', 'max'], '--pool is for an index'),
        (['--confidence', 0.0], 'expected --confidence in (0, 1), got 0.0'),
        (['--sets', 1.0], 'expected --sets in (0, 1), got 1.0'),
        (['--data', 'nowhere'], "calibrate: --data 'nowhere' does not exist"),
        (['--out', 'a.csv'], 'expected --out to end in .json'),
    ],
)
def test_mistakes_are_found_before_anything_is_computed(options, said, checkpoint, digit_folder, capfd):
    assert calibrate(checkpoint, digit_folder, *options) == 2
    assert said in capfd.readouterr().err
    assert run_command('calibrate', 'no.pth', '--data', digit_folder) == 2
    assert "calibrate: checkpoint='no.pth' does not exist" in capfd.readouterr().err


def test_a_checkpoint_that_was_written_again_needs_a_new_one(checkpoint, digit_folder, capfd):
    assert calibrate(checkpoint, digit_folder) == 0
    content = torch.load(checkpoint)
    content['state_dict']['head.fc.bias'] += 1
    torch.save(content, checkpoint)
    for command in (['predict', checkpoint, digit_folder / 'val'], ['test', checkpoint]):
        assert run_command(*command) == 2
        assert 'which is for other weights' in capfd.readouterr().err
    assert run_command('test', checkpoint, '--no-calibration') == 0


def test_an_index_gets_a_threshold_that_search_takes(checkpoint, digit_folder, tmp_path, capfd):
    gallery, queries = tmp_path / 'gallery.npz', tmp_path / 'queries.npz'
    for name, out in (('train', gallery), ('val', queries)):
        assert run_command('embed', checkpoint, digit_folder / name, '--out', out, '--device', 'cpu') == 0
    asked = ('calibrate', gallery, '--data', queries)
    assert run_command(*asked, '--sets', 0.2, '--risk', 0.1) == 2
    assert 'expected --sets ALPHA alone for the index' in capfd.readouterr().err
    assert run_command(*asked, '--sets', 0.01) == 1
    assert 'need 83 more queries with a match in' in capfd.readouterr().err
    assert run_command(*asked, '--sets', 0.2, '--json') == 0
    found = json.loads(capfd.readouterr().out)
    assert (found['queries'], found['without'], found['missing']) == (16, 0, [])
    assert run_command(*asked, '--sets', 0.2) == 2
    assert 'already has the threshold ' in capfd.readouterr().err
    assert run_command('search', gallery, queries, '--k', 48, '--json') == 0
    shown = capfd.readouterr()
    assert f'Matches have a similarity of {found["threshold"]:.4f} or more' in shown.err
    held = [query['label'] in {match['label'] for match in query['matches']}
            for query in json.loads(shown.out)['queries']]  # fmt: skip
    assert sum(held) == 14  # all but floor(0.2 * 17) - 1 of 16
    assert run_command('search', gallery, queries, '--pool', 'mean', '--json') == 0
    assert 'The threshold of the index is for --pool none, and is not used.' in capfd.readouterr().err


@pytest.fixture(scope='module')
def pair(tmp_path_factory, digit_folder):
    """A model of two streams whose transformer counts for little; its test's config names the images."""
    backbone = dict(
        type='HybridBackbone', cnn=dict(model_name='test_resnet'), vit=dict(model_name='test_vit'), img_size=64
    )
    cfg = config_of(backbone, LINEAR, digit_folder / 'train')
    cfg['model']['neck'] = dict(type='ConcatFusion', fusion_dim=16)
    cfg['test_evaluator'] = [dict(type='Accuracy')]
    path, model = write_checkpoint(tmp_path_factory.mktemp('w') / 'epoch_1.pth', cfg)
    model.neck.project.weight.data[:, 96:] *= 0.01
    content = torch.load(path)
    content['state_dict'].update({f'neck.{name}': value for name, value in model.neck.state_dict().items()})
    torch.save(content, path)
    return path


def test_a_stream_is_left_out_where_the_other_is_sure(pair, digit_folder, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr('hybridcls.apis.skip_fit._ROUNDS', 1)
    monkeypatch.setattr('hybridcls.apis.stream_cost._ROUNDS', 1)
    images, cpu = digit_folder / 'train', ('--device', 'cpu')
    assert run_command('predict', pair, images, '--skip-sure', *cpu) == 2
    assert (
        'expected a calibration that says which images are sure, got none. Type: hybridcls calibrate'
        in capfd.readouterr().err
    )
    assert calibrate(pair, digit_folder, '--skip-sure', 0.01) == 1  # 299 images
    assert 'more are missing' in capfd.readouterr().err
    options = ('--skip-sure', 0.3, '--skip-stream', 'vit', '--scale', 'none', '--force')
    assert calibrate(pair, digit_folder, *options) == 0
    assert 'leaves the vit out where the cnn is sure: for 100.0 % of 36 images' in capfd.readouterr().out
    with open(f'{pair}.calibration.json') as content:
        written = json.load(content)
    assert written['skip_sure']['measured']['milliseconds'][0] > 0
    probabilities = [one.probability for one in hybridcls.load(pair, 'cpu')(images)]
    written['skip_sure']['threshold'] = float(np.median(probabilities))  # so that some images need both
    with open(f'{pair}.calibration.json', 'w') as content:
        json.dump(written, content)
    assert run_command('predict', pair, images, '--skip-sure', '--json', *cpu) == 0
    told = json.loads(capfd.readouterr().out)
    streams = [row['streams'] for row in told['predictions']]
    assert {*streams} == {'cnn', 'cnn|vit'}
    assert told['by_one_stream'] == streams.count('cnn')
    answers = hybridcls.load(pair, 'cpu', skip_sure=True)(images)
    both = hybridcls.load(pair, 'cpu')(images)
    for answer, full, said in zip(answers, both, streams, strict=True):
        assert '|'.join(answer.streams) == said
        assert full.streams is None
        if said == 'cnn|vit':
            np.testing.assert_allclose(answer.scores, full.scores, atol=1e-5)
    assert run_command('test', pair, '--skip-sure', '--work-dir', tmp_path / 't', '--json', *cpu) == 0
    tested = json.loads(capfd.readouterr().out)['metrics']
    assert tested['accuracy/top1'] == pytest.approx(100 * answers.accuracy.top1)
    assert run_command('predict', pair, images, '--skip-sure', '--embeddings', '--out', tmp_path / 'e.csv', *cpu) == 2
    assert 'embeddings need both streams' in capfd.readouterr().err
    assert run_command('predict', pair, images, '--skip-sure', '--amp', *cpu) == 2
    assert 'computed in float32, and these are in bfloat16' in capfd.readouterr().err
    assert run_command('predict', pair, images, '--skip-sure', '--fast', *cpu) == 2
    assert 'expected fast or skip_sure, got both: a compiled stream takes batches of one' in capfd.readouterr().err
    config = tmp_path / 'compiled.py'
    config.write_text(f'{hybridcls.load(pair, "cpu").config.pretty_text}\ninference = dict(compile="eager")\n')
    assert run_command('predict', pair, images, '--skip-sure', '--config', config, *cpu) == 2
    assert 'expected compile=False in the key inference beside skip_sure' in capfd.readouterr().err


def test_of_one_stream_there_is_nothing_to_skip(checkpoint, digit_folder, capfd):
    assert calibrate(checkpoint, digit_folder, '--skip-sure', 0.3) == 2
    assert (
        'expected a model of two streams, got the stream cnn alone: there is nothing to skip' in capfd.readouterr().err
    )
    assert run_command('predict', checkpoint, digit_folder / 'val', '--skip-sure', '--device', 'cpu') == 2
    assert 'there is nothing to skip' in capfd.readouterr().err


def test_thresholds_of_the_fast_settings_hold_for_them(checkpoint, digit_folder, tmp_path, monkeypatch, capfd):
    config = tmp_path / 'fast.py'
    text = hybridcls.load(checkpoint, 'cpu').config.pretty_text
    config.write_text(f"{text}\ninference = dict(precision='bfloat16', compile='eager')\n")
    settings = ('--config', config, '--risk', 0.4, '--confidence', 0.8)
    assert calibrate(checkpoint, digit_folder, *settings, '--json') == 0
    assert json.loads(capfd.readouterr().out)['calibration']['precision'] == 'bfloat16'
    images = ('predict', checkpoint, digit_folder / 'train', '--device', 'cpu', '--json')
    assert run_command(*images, '--config', config) == 0
    assert json.loads(capfd.readouterr().out)['inference']['settings'] == 'bf16'  # too few images to compile
    monkeypatch.setattr('hybridcls.apis.inferencer.cpu_flags', lambda: ('avx512_bf16',))
    assert run_command(*images, '--fast') == 0  # in bfloat16 from the first batch on
    shown = capfd.readouterr()
    assert json.loads(shown.out)['inference']['settings'] == 'bf16'
    assert 'guarantee' not in shown.err
    assert run_command(*images) == 2
    assert 'computed in bfloat16, and these are in float32' in capfd.readouterr().err

    assert run_command('test', checkpoint, '--config', config, '--json') == 0
    shown = capfd.readouterr()
    assert 'the test computes in bfloat16 and ignores compile' in shown.err
    assert 'answered/coverage' in json.loads(shown.out)['metrics']
