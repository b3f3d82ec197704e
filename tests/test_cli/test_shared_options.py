"""Short names of keys: they reach the config, and every phase of a chain, or are an error."""

from argparse import ArgumentParser

import pytest

from hybridcls.cli.shared_options import SHARED_OPTIONS, add_shared_options, check_shared_paths, load_with_options
from hybridcls.engine import ConfigError, in_folds, load_config
from hybridcls.engine.phases.plan import read_phases


def read(config, *arguments, cfg_options=None):
    parser = ArgumentParser()
    add_shared_options(parser)
    args = parser.parse_args(list(map(str, arguments)))
    args.config, args.cfg_options = str(config), cfg_options
    return args


@pytest.fixture
def open_config(toy_configs):
    """A config that leaves open what the options fill."""
    (toy_configs / 'open.py').write_text(
        "_base_ = 'toy.py'\nmodel = dict(_delete_=True, type='HybridClassifier', backbone=dict(type='HybridBackbone', "
        "cnn=dict(), vit=dict()), neck=dict(type='ConcatFusion'), head=dict(type='LinearHead', num_classes=3))\n"
        'for_all = dict(batch_size=None)\n'
        "train_dataloader = dict(batch_size=None, dataset=dict(_delete_=True, type='ImageFolder'))\n"
        'train_cfg = dict(max_epochs=None)\nparam_scheduler = []\n'
        'optim_wrapper = dict(optimizer=dict(lr=None))\nrandomness = dict(seed=None)\n'
        "teacher = 'none'\nbackward_compat = 'none'\ncustom_hooks = [dict(type='ToyTeacher', checkpoint=teacher), "
        "dict(type='ToyTeacher', checkpoint=backward_compat)]\n"
    )
    return toy_configs / 'open.py'


@pytest.mark.parametrize(
    ('option', 'value', 'place', 'expected'),
    [
        ('data', '.', 'train_dataloader.dataset.data_root', '.'),
        ('model', 'resnet10t', 'model.backbone.cnn.model_name', 'resnet10t'),
        ('cnn', 'resnet10t', 'model.backbone.cnn.model_name', 'resnet10t'),
        ('vit', 'vit_tiny_patch16_224', 'model.backbone.vit.model_name', 'vit_tiny_patch16_224'),
        ('checkpoint', __file__, 'model.backbone.cnn.checkpoint_path', __file__),
        ('teacher', __file__, 'custom_hooks.0.checkpoint', __file__),
        ('backward-compat', __file__, 'custom_hooks.1.checkpoint', __file__),
        ('drop', __file__, 'train_dataloader.dataset.drop', __file__),
        ('relabel', __file__, 'train_dataloader.dataset.relabel', __file__),
        ('epochs', 5, 'train_cfg.max_epochs', 5),
        ('img-size', 64, 'model.backbone.img_size', 64),
        ('img-size', '64,48', 'model.backbone.img_size', (64, 48)),
        ('batch-size', 6, 'train_dataloader.batch_size', 6),
        ('lr', 0.25, 'optim_wrapper.optimizer.lr', 0.25),
        ('seed', 7, 'randomness.seed', 7),
    ],
)
def test_each_option_reaches_its_place(open_config, option, value, place, expected):
    cfg = load_with_options(read(open_config, f'--{option}', value))
    for key in place.split('.'):
        cfg = cfg[int(key) if key.isdigit() else key]
    assert cfg == expected


def test_all_options_are_tried_above():
    marks = [mark for mark in test_each_option_reaches_its_place.pytestmark if mark.name == 'parametrize']
    assert {row[0] for row in marks[0].args[1]} == {*SHARED_OPTIONS} - {'folds'}


def test_folds_need_images_to_divide(toy_configs, digit_folder):
    with pytest.raises(ConfigError, match='--folds 3: no dataset of this config can be divided'):
        load_with_options(read(toy_configs / 'toy.py', '--folds', 3))
    arguments = ['--folds', 3, '--data', digit_folder / 'train']
    assert load_with_options(read('hybridcls::finetune/full.py', *arguments)).data_split.folds == 3
    chain = in_folds(load_with_options(read('hybridcls::finetune/supcon_adaface.py', *arguments)))
    assert [phase.name for phase in chain.phases] == [
        f'fold{n}_{name}' for n in (1, 2, 3) for name in ('supcon', 'adaface')
    ]
    assert chain.phases[3].cfg_options['data_root'] == str(digit_folder / 'train')


def test_the_dataset_has_no_place_for_what_is_written(toy_configs):
    expected = r'--epochs 9: does not reach train_cfg\.max_epochs=3: the value that is written'
    with pytest.raises(ConfigError, match=expected):
        load_with_options(read(toy_configs / 'toy.py', '--epochs', 9))
    with pytest.raises(ConfigError, match=r'--model resnet10t: has no effect: no part of this config takes it'):
        load_with_options(read(toy_configs / 'toy.py', '--model', 'resnet10t'))
    with pytest.raises(ConfigError, match=r"^--teacher: nothing reads the top-level key 'teacher'"):
        load_with_options(read(toy_configs / 'toy.py', '--teacher', 'x'))


def test_a_value_that_is_written_already_is_no_error(toy_configs):
    assert load_with_options(read(toy_configs / 'toy.py', '--epochs', 3)).train_cfg.max_epochs == 3


def test_a_value_that_an_expression_has_used_up_is_an_error(toy_configs):
    (toy_configs / 'half.py').write_text(
        "_base_ = 'toy.py'\nmax_epochs = 4\ntrain_cfg = dict(max_epochs=max_epochs // 2)\n"
    )
    with pytest.raises(ConfigError, match='--epochs 9: does not reach'):
        load_with_options(read(toy_configs / 'half.py', '--epochs', 9))


def test_options_reach_all_phases_and_overrule_their_own(toy_configs):
    (toy_configs / 'open.py').write_text(
        "_base_ = 'toy.py'\ntrain_cfg = dict(max_epochs=None)\nmax_epochs = 3\nparam_scheduler = []\n"
    )
    (toy_configs / 'own.py').write_text(
        "max_epochs = 4\nphases = [dict(name='one', config='open.py'),\n"
        "          dict(name='two', config='open.py', cfg_options=dict(max_epochs=8))]\n"
    )
    epochs = {}
    for arguments in ([], ['--epochs', 2]):
        chain = load_with_options(read(toy_configs / 'own.py', *arguments))
        cfgs = [load_config(phase.config, phase.options) for phase in read_phases(chain)]
        epochs[len(arguments)] = [cfg.train_cfg.max_epochs for cfg in cfgs]
    assert epochs == {0: [4, 8], 2: [2, 2]}


def test_an_option_that_no_phase_takes_is_an_error(toy_configs):
    with pytest.raises(ConfigError, match='--epochs 9: does not reach'):
        load_with_options(read(toy_configs / 'chain.py', '--epochs', 9))


@pytest.mark.parametrize('option', ['data', 'checkpoint', 'teacher'])
def test_paths_exist_or_are_addresses(tmp_path, option):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'weights.pth').touch()
    check_shared_paths('train', read('', f'--{option}', tmp_path / 'images'))
    check_shared_paths('train', read('', f'--{option}', 'https://a/b.pth'))
    with pytest.raises(FileNotFoundError, match=rf"train: --{option} '.*wieghts.pth' does not exist .* Did you mean"):
        check_shared_paths('train', read('', f'--{option}', tmp_path / 'wieghts.pth'))


@pytest.mark.parametrize(
    'arguments', [['--img-size', '0'], ['--img-size', '1,2,3'], ['--epochs', 'x'], ['--lr', 'fast']]
)
def test_values_that_are_none_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        read('', *arguments)
    assert ended.value.code == 2
