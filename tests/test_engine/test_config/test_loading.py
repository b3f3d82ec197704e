"""Config files: what is wrong in them is answered by a sentence."""

import copy
import pickle
import sys

import pytest
import torch

from hybridcls.engine.config import ConfigError, is_chain, layer_of, load_config, provenance_of
from hybridcls.engine.config.tree import ABSENT


def test_a_missing_file_is_answered_with_near_names(toy_configs):
    with pytest.raises(FileNotFoundError, match=r"tooy\.py.* does not exist .*Did you mean '.*/toy\.py'"):
        load_config(toy_configs / 'tooy.py')


def test_a_missing_folder_is_answered_with_files_nearby(toy_configs):
    with pytest.raises(FileNotFoundError, match=r"Did you mean '.*/configs/second\.py'"):
        load_config(toy_configs / 'no_such' / 'second.py')


def test_a_folder_is_not_a_config(toy_configs):
    with pytest.raises(FileNotFoundError, match=r'is a folder; .*chain\.py, second\.py, toy\.py'):
        load_config(toy_configs)


def test_a_file_of_another_kind_is_not_a_config(tmp_path):
    (tmp_path / 'notes.txt').write_text('model = 1\n')
    with pytest.raises(ConfigError, match=r"load_config: expected a config \(\.py, \.yml, .*\), got '.*notes\.txt'\."):
        load_config(tmp_path / 'notes.txt')


BASE = "_base_ = 'middle.py'\n"
PLUGIN = "_base_='toy.py'\ncustom_imports = dict(imports=['no_such_plugin'])\n"


@pytest.mark.parametrize(
    ('files', 'sentence'),
    [
        (
            dict(leaf='model = dict(\n'),
            r"leaf\.py or one of its bases is not valid Python: '\(' was never closed \(line 1\)\.$",
        ),
        (
            dict(middle="_base_ = ['toyy.py']\n", leaf=BASE),
            r"middle\.py names the base '.*toyy\.py', which does not exist .*toy\.py",
        ),
        (
            dict(a='x = 1\n', b='x = 2\n', leaf="_base_ = ['a.py', 'b.py']\n"),
            r"two bases set the top-level key 'x': .*a\.py and .*b\.py",
        ),
        (dict(leaf='x = 1 / 0\n'), r'leaf\.py cannot be read: ZeroDivisionError'),
        (
            dict(leaf=PLUGIN.replace('no_such_plugin', './own/no_such.py')),
            r"A module is named with dots, not as a path: 'own\.no_such'\. Modules are searched",
        ),
        (
            dict(leaf="_base_='toy.py'\ncustom_imports = 'mine'\n"),
            r"got 'mine'\. Write custom_imports = dict\(imports=\['my_package\.my_file'\]\)\.$",
        ),
        (dict(leaf=PLUGIN), r"leaf\.py: custom_imports\.imports=\['no_such_plugin'\] cannot be imported"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_file(toy_configs, files, sentence):
    for name, text in files.items():
        (toy_configs / f'{name}.py').write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        load_config(toy_configs / 'leaf.py')


@pytest.mark.parametrize(
    'options', [{'custom_imports': dict(imports=['named_late'])}, {'custom_imports.imports': 'named_late'}]
)
def test_what_an_option_imports_is_imported(toy_configs, tmp_path, monkeypatch, options):
    (tmp_path / 'named_late.py').write_text('')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, 'named_late', raising=False)
    load_config(toy_configs / 'toy.py', options)
    assert sys.modules['named_late'].__file__ == str(tmp_path / 'named_late.py')


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        ({'custom_imports.imports': 'no_such_plugin'}, "imports='no_such_plugin' cannot be imported: .* PYTHONPATH"),
        ({'custom_imports.imports': 3}, 'imports=3 cannot be imported: '),
        (
            {'custom_imports': 'no_such_plugin'},
            "expected custom_imports to be a dict of imports, got 'no_such_plugin'.*imports=",
        ),
        ({'custom_imports': dict(_delete_=True, allow_failed_imports=True)}, 'to be a dict of imports'),
        ({'custom_imports.import': ['x']}, r"custom_imports: unknown key 'import'\. Did you mean 'imports'"),
    ],
)
def test_an_option_whose_import_fails_is_explained(toy_configs, options, sentence):
    with pytest.raises((ConfigError, TypeError), match=sentence):
        load_config(toy_configs / 'toy.py', options)


def test_no_imports_are_none(toy_configs):
    assert load_config(toy_configs / 'toy.py', {'custom_imports': None}).custom_imports is None


def test_a_package_that_is_not_installed(toy_configs):
    with pytest.raises(FileNotFoundError, match="the package 'nopackage', which is not installed"):
        load_config('nopackage::a/b.py')


def test_options_that_do_not_fit_are_explained(toy_configs):
    with pytest.raises(ConfigError, match=r'--cfg-options param_scheduler\.7\.T_max: does not fit'):
        load_config(toy_configs / 'toy.py', {'param_scheduler.7.T_max': 3})


def test_the_scope_is_ours_unless_the_config_says_another(toy_configs):
    text = (toy_configs / 'toy.py').read_text()
    (toy_configs / 'bare.py').write_text(text.replace("default_scope = 'hybridcls'", ''))
    assert load_config(toy_configs / 'bare.py').default_scope == 'hybridcls'
    assert load_config(toy_configs / 'bare.py', {'default_scope': 'mmpretrain'}).default_scope == 'mmpretrain'


def test_options_reach_dicts_and_lists_and_may_delete(toy_configs):
    options = {
        'param_scheduler.0.T_max': 7,
        'train_cfg.max_epochs': 1,
        'optim_wrapper.optimizer': dict(_delete_=True, type='AdamW', lr=1e-3),
    }
    cfg = load_config(toy_configs / 'toy.py', options)
    assert cfg.param_scheduler[0].T_max == 7
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-3)
    assert options['optim_wrapper.optimizer']['_delete_'], 'the options of the caller must stay as they were'


def test_dataloaders_get_what_fits_the_machine(toy_configs):
    cfg = load_config(toy_configs / 'toy.py', {'val_dataloader.num_workers': 2})
    assert cfg.train_dataloader.pin_memory is torch.cuda.is_available()
    assert cfg.train_dataloader.persistent_workers is False
    assert cfg.val_dataloader.persistent_workers is True
    assert cfg.train_dataloader.collate_fn.type == 'default_collate'
    assert cfg.train_dataloader.worker_init_fn.type == 'hybridcls.seed_worker'
    assert 'worker_init_fn' not in cfg.val_dataloader


def test_no_workers_switch_off_what_needs_workers(toy_configs):
    (toy_configs / 'workers.py').write_text(
        "_base_='toy.py'\ntrain_dataloader=dict(num_workers=4, "
        'persistent_workers=True, prefetch_factor=4, pin_memory=False)\n'
    )
    cfg = load_config(toy_configs / 'workers.py', {'train_dataloader.num_workers': 0})
    assert cfg.train_dataloader.persistent_workers is False
    assert 'prefetch_factor' not in cfg.train_dataloader
    assert load_config(toy_configs / 'workers.py').train_dataloader.prefetch_factor == 4


def test_a_chain_is_read_and_nothing_more(toy_configs):
    cfg = load_config(toy_configs / 'chain.py', {'phases.0.cfg_options.train_cfg.max_epochs': 1})
    assert is_chain(cfg)
    assert cfg.phases[0].cfg_options.train_cfg.max_epochs == 1
    assert 'train_dataloader' not in cfg


@pytest.mark.parametrize('keys', [('_delete_', 'type'), ('type', '_delete_')])
def test_the_order_of_a_delete_and_its_other_keys_does_not_matter(toy_configs, keys):
    values = dict(_delete_=True, type='AdamW')
    cfg = load_config(toy_configs / 'toy.py', {f'optim_wrapper.optimizer.{key}': values[key] for key in keys})
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW')


def test_options_reach_tuples_which_stay_tuples(toy_configs):
    (toy_configs / 'tuples.py').write_text(
        "_base_ = 'toy.py'\nval_evaluator = (dict(_delete_=True, type='ToyAccuracy'),)\n"
        'optim_wrapper = dict(optimizer=dict(betas=(0.9, (0.8, 0.7))))\n'
    )
    options = {'optim_wrapper.optimizer.betas.1.0': 0.5, 'val_evaluator.0.prefix': 'p'}
    cfg = load_config(toy_configs / 'tuples.py', options)
    assert cfg.optim_wrapper.optimizer.betas == (0.9, (0.5, 0.7))
    assert cfg.val_evaluator == (dict(type='ToyAccuracy', prefix='p'),)


@pytest.mark.parametrize('place', ['1', '-1', 'type'])
@pytest.mark.parametrize('inner', ['', '.T_max'])
def test_an_option_for_a_place_that_a_list_does_not_have(toy_configs, place, inner):
    wrong = dict(a=3) if not inner else 3
    expected = rf'{place} is not a position in param_scheduler, a list of 1, counted from 0'
    with pytest.raises(ConfigError, match=expected):
        load_config(toy_configs / 'toy.py', {f'param_scheduler.{place}{inner}': wrong})


@pytest.mark.parametrize('text', ['', '- 1\n'])
def test_a_file_without_keys_is_explained(toy_configs, text):
    (toy_configs / 'list.yml').write_text(text)
    with pytest.raises(ConfigError, match=r'list\.yml cannot be read: TypeError: expected keys with values'):
        load_config(toy_configs / 'list.yml')


@pytest.mark.parametrize('copied', [copy.copy, copy.deepcopy, lambda cfg: pickle.loads(pickle.dumps(cfg))])
def test_a_copy_keeps_who_wrote_what(toy_configs, copied):
    cfg = load_config(toy_configs / 'toy.py', {'randomness.seed': None, 'seed': 4})
    again = copied(cfg)
    assert again.to_dict() == cfg.to_dict()
    assert provenance_of(again) == provenance_of(cfg)
    assert layer_of(again, ('model', 'type')).name.endswith('toy.py')
    assert any(change.old is ABSENT for change in provenance_of(again).changes)


@pytest.mark.parametrize(
    ('value', 'sentence'),
    [
        (
            "'{{$MY_PLACE}}/x'",
            r'v\.py: expected \{\{\$MY_PLACE:default\}\}, .* in work_dir, got \{\{\$MY_PLACE\}\}, which',
        ),
        ("'{{ $MY_PLACE:/a b }}'", r'a default without spaces, in work_dir, got \{\{ \$MY_PLACE:/a b \}\}'),
        (
            "'{{$MY_OTHER:}}'",
            r'expected the environment variable MY_OTHER to be set, got nothing\. Type MY_OTHER=VALUE',
        ),
        ('{{$MY_PLACE:3}}', r"invalid syntax \(line 2\)\. A variable is written in quotes: \{\{'\$NAME:default'\}\}\."),
    ],
)
def test_a_variable_of_the_environment_that_nothing_replaces(toy_configs, monkeypatch, value, sentence):
    monkeypatch.setenv('MY_PLACE', '/here')
    monkeypatch.delenv('MY_OTHER', raising=False)
    (toy_configs / 'v.py').write_text(f"_base_ = 'toy.py'\nwork_dir = {value}\n")
    with pytest.raises(ConfigError, match=sentence):
        load_config(toy_configs / 'v.py')
    (toy_configs / 'v.py').write_text("_base_ = 'toy.py'\nwork_dir = '{{$MY_PLACE:}}{{$MY_OTHER:/there}}'\n")
    assert load_config(toy_configs / 'v.py').work_dir == '/here/there'
