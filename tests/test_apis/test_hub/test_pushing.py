"""A checkpoint that is pushed to a folder and pulled from it is the same checkpoint, for everything that takes one."""

import json
import shutil

import numpy as np
import pytest
import torch
from trained_checkpoints import CNN, LINEAR, config_of, scores_of_a_test, write_checkpoint

import hybridcls
from hybridcls.apis.hub.pulling import pull
from hybridcls.apis.hub.pushing import push
from hybridcls.checkpoint_reading import read_checkpoint
from hybridcls.cli.main import SUBCOMMANDS, parse_args
from hybridcls.engine.checkpoints.find_checkpoint import find_checkpoint

NAMES = ('Mäuse|groß', '猫_ねこ', 'зебра', '<b>zero</b> `x`')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, digit_folder):
    cfg = config_of(CNN, LINEAR, digit_folder / 'val')
    return write_checkpoint(tmp_path_factory.mktemp('work') / 'epoch_1.pth', cfg)[0]


@pytest.fixture(scope='module')
def pulled(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp('pulled')
    push(checkpoint, str(folder / 'pushed'))
    pull(str(folder / 'pushed'), str(folder / 'model'))
    return folder / 'model'


def run(*arguments):
    args = parse_args([*map(str, arguments)])
    return SUBCOMMANDS[args.command].run(args)


def test_scores_are_equal_to_the_bit(checkpoint, pulled, digit_folder):
    first, second = (hybridcls.load(path, 'cpu') for path in (checkpoint, pulled))
    assert second.classes == first.classes
    assert second.preprocessing_version == first.preprocessing_version
    pairs = zip(first(digit_folder / 'val'), second(digit_folder / 'val'), strict=True)
    assert all(np.array_equal(one.scores, other.scores) for one, other in pairs)
    assert np.array_equal(first.embed(digit_folder / 'val'), second.embed(digit_folder / 'val'))


def test_a_test_and_a_training_take_the_folder(checkpoint, pulled, digit_folder, tmp_path):
    cfg = config_of(CNN, LINEAR, digit_folder / 'val')
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
    paths, scores = scores_of_a_test(cfg, checkpoint, tmp_path / 'a')
    assert scores_of_a_test(cfg, str(pulled), tmp_path / 'b')[0] == paths
    assert np.array_equal(scores_of_a_test(cfg, str(pulled), tmp_path / 'b')[1], scores)  # load_from = folder
    with_start = dict(type='HybridBackbone', cnn=dict(model_name='test_resnet', checkpoint_path=str(pulled)))
    from hybridcls.registry import MODELS

    backbone = MODELS.build(with_start).cnn.model.state_dict()
    weights = read_checkpoint(checkpoint)['state_dict']
    assert all(torch.equal(value, weights[f'backbone.cnn.model.{name}']) for name, value in backbone.items())


def test_a_calibration_travels_and_is_found(checkpoint, digit_folder, tmp_path, capfd):
    work = tmp_path / 'work'
    work.mkdir()
    own = shutil.copy(checkpoint, work)
    assert (
        run('calibrate', own, '--data', digit_folder / 'train', '--device', 'cpu', '--scale', 'none', '--sets', '0.2')
        == 0
    )
    pushed = push(own, str(tmp_path / 'pushed'))
    assert 'model.safetensors.calibration.json' in pushed.files
    pull(str(tmp_path / 'pushed'), str(tmp_path / 'model'))
    expected = list(hybridcls.load(own, 'cpu')(digit_folder / 'val'))
    got = list(hybridcls.load(tmp_path / 'model', 'cpu')(digit_folder / 'val'))
    assert [one.prediction_set for one in got] == [one.prediction_set for one in expected]
    assert all(np.array_equal(one.scores, other.scores) for one, other in zip(got, expected, strict=True))
    assert '## Calibration' in (tmp_path / 'model' / 'README.md').read_text()
    again = push(tmp_path / 'model', str(tmp_path / 'again'))  # what was pulled can be pushed
    assert 'model.safetensors.calibration.json' in again.files
    assert (
        run(
            'calibrate',
            tmp_path / 'model',
            '--data',
            digit_folder / 'train',
            '--device',
            'cpu',
            '--scale',
            'none',
            '--force',
        )
        == 0
    )


def test_names_of_any_script(tmp_path):
    path = write_checkpoint(tmp_path / 'a.pth', config_of(CNN, LINEAR), classes=NAMES)[0]
    push(path, str(tmp_path / 'Модель'))
    assert hybridcls.load(tmp_path / 'Модель', 'cpu').classes == NAMES
    card = (tmp_path / 'Модель' / 'README.md').read_text(encoding='utf8')
    assert 'Mäuse\\|groß, 猫_ねこ, зебра, \\<b\\>zero\\</b\\> \\`x\\`' in card


def test_which_weights_are_pushed_is_said(checkpoint, tmp_path):
    content = read_checkpoint(checkpoint)
    content['ema_state_dict'] = {'steps': torch.zeros(())}
    torch.save(content, tmp_path / 'ema.pth')
    pushed = push(tmp_path / 'ema.pth', str(tmp_path / 'pushed'))
    assert 'with the EMA weights' in pushed.why
    assert 'with the EMA weights' in find_checkpoint(tmp_path / 'pushed').why
    assert 'exponential moving average' in (tmp_path / 'pushed' / 'README.md').read_text()


def test_results_of_a_test_are_in_the_card(checkpoint, tmp_path):
    results = dict(
        metrics={'accuracy/top1': 58.0, 'accuracy/top1_low': 52.64, 'accuracy/top1_high': 63.23, 'x_low': 1.0},
        declared={'accuracy/top1': dict(unit='%', better='greater')},
    )
    (tmp_path / 'r.json').write_text(json.dumps(results))
    push(checkpoint, str(tmp_path / 'pushed'), results=tmp_path / 'r.json', license='mit')
    card = (tmp_path / 'pushed' / 'README.md').read_text()
    assert '| accuracy/top1 | 58 % | 52.64 to 63.23 |' in card
    assert '| x_low | 1 |' in card
    assert 'license: "mit"' in card
    (tmp_path / 'r.json').write_text('[]')
    with pytest.raises(ValueError, match='expected the JSON of hybridcls test'):
        push(checkpoint, str(tmp_path / 'other'), results=tmp_path / 'r.json')
    assert not (tmp_path / 'other').exists()


def test_what_is_there_is_not_replaced_unasked(checkpoint, tmp_path):
    push(checkpoint, str(tmp_path / 'pushed'))
    with pytest.raises(FileExistsError, match='Add --force'):
        push(checkpoint, str(tmp_path / 'pushed'))
    push(checkpoint, str(tmp_path / 'pushed'), force=True)
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'a.jpg').touch()
    with pytest.raises(FileExistsError):
        push(checkpoint, str(tmp_path / 'photos'), force=True)
    assert (tmp_path / 'photos' / 'a.jpg').exists()
    with pytest.raises(ValueError, match='another folder than the source'):
        push(tmp_path / 'pushed', str(tmp_path / 'pushed'), force=True)


def test_paths_of_this_machine_are_told(tmp_path):
    path = write_checkpoint(tmp_path / 'a.pth', config_of(CNN, LINEAR, '/home/me/secret'))[0]
    assert any('/home/me/secret' in note for note in push(path, str(tmp_path / 'pushed')).notes)
    path = write_checkpoint(tmp_path / 'b.pth', config_of(CNN, LINEAR))[0]
    assert not push(path, str(tmp_path / 'other')).notes
