"""From a config and options to a Runner."""

import pytest
import torch
from config_helpers import applied

from hybridcls.compat.torch_compiler import COMPILES_THAWED_WEIGHTS, is_compiled
from hybridcls.engine import (
    TrainOptions,
    build_runner,
    load_config,
    prepare_testing,
    prepare_training,
    run_training,
)
from hybridcls.engine.config import ConfigError
from hybridcls.engine.config.num_classes import num_classes
from hybridcls.engine.training import _DEFAULT_HOOKS


def prepare(toy_configs, tmp_path, options=None, **cfg_options):
    return prepare_training(
        load_config(toy_configs / 'toy.py', cfg_options), options or TrainOptions(), str(tmp_path / 'w')
    )


def test_a_work_dir_that_cannot_be_used_stops_before_anything_is_built(toy_configs, tmp_path, monkeypatch):
    (tmp_path / 'w').write_text('a file')
    monkeypatch.setattr('hybridcls.engine.training.num_classes', lambda cfg: pytest.fail('built a dataset'))
    with pytest.raises(NotADirectoryError, match='--work-dir'):
        prepare(toy_configs, tmp_path)


def test_the_work_dir_is_named_after_the_config(toy_configs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = prepare_training(load_config(toy_configs / 'toy.py'), TrainOptions())
    assert cfg.work_dir == 'work_dirs/toy'
    cfg = prepare_training(load_config(toy_configs / 'toy.py', dict(work_dir='mine')), TrainOptions())
    assert cfg.work_dir == 'mine'


def test_a_config_that_does_not_train(toy_configs, tmp_path):
    with pytest.raises(ValueError, match=r'toy\.py: the key optim_wrapper is missing'):
        prepare(toy_configs, tmp_path, optim_wrapper=None)


def test_options_of_the_command_line(toy_configs, tmp_path):
    options = TrainOptions(validate=False, amp=True, auto_scale_lr=True, pin_memory=False, persistent_workers=False)
    cfg = prepare(
        toy_configs,
        tmp_path,
        options,
        **{
            'auto_scale_lr': dict(base_batch_size=64),
            'train_dataloader.num_workers': 2,
            'train_dataloader.pin_memory': True,
        },
    )
    assert cfg.val_cfg is cfg.val_dataloader is cfg.val_evaluator is None
    assert cfg.optim_wrapper.type == 'hybridcls.ComposedOptimWrapper'
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.05 * 8 / 64)
    assert not cfg.train_dataloader.pin_memory
    assert not cfg.train_dataloader.persistent_workers


def test_scaling_of_an_unknown_batch_size(toy_configs, tmp_path):
    with pytest.raises(ValueError, match='--auto-scale-lr: the config does not name the batch size'):
        prepare(toy_configs, tmp_path, TrainOptions(auto_scale_lr=True))


@pytest.mark.parametrize('restarts', ['TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT'])
def test_a_launcher_that_starts_it_again_goes_on_from_the_last_checkpoint(toy_configs, tmp_path, monkeypatch, restarts):
    """And not once more from the one that the first attempt began with."""
    first, last = tmp_path / 'epoch_9.pth', tmp_path / 'w' / 'epoch_2.pth'
    last.parent.mkdir()
    torch.save({}, first)
    monkeypatch.setenv(restarts, '0')
    assert prepare(toy_configs, tmp_path, TrainOptions(resume=str(first))).load_from == str(first)
    monkeypatch.setenv(restarts, '1')
    assert prepare(toy_configs, tmp_path, TrainOptions(resume=str(first))).load_from == str(first), 'it did not get far'
    torch.save({}, last)
    assert prepare(toy_configs, tmp_path, TrainOptions(resume=str(first))).load_from == str(last)
    assert prepare(toy_configs, tmp_path).get('load_from') is None


def test_every_run_has_the_default_hooks_once(toy_configs, tmp_path):
    names = [hook.type for hook in prepare(toy_configs, tmp_path).custom_hooks]
    expected = list(_DEFAULT_HOOKS)
    assert names == [f'hybridcls.{name}' for name in expected]
    own = [dict(type='RandomStateHook', restart_workers=False)]
    names = [hook.type for hook in prepare(toy_configs, tmp_path, custom_hooks=own).custom_hooks]
    expected.remove('RandomStateHook')
    assert names == ['hybridcls.RandomStateHook', *(f'hybridcls.{name}' for name in expected)]


def test_a_first_start_with_resume_keeps_what_it_starts_from(toy_configs, tmp_path):
    cfg = prepare(toy_configs, tmp_path, TrainOptions(resume='auto'), load_from='pretrained.pth')
    assert (cfg.get('resume', False), cfg.load_from) == (False, 'pretrained.pth')


@pytest.mark.parametrize('options', [TrainOptions(resume='none.pth'), TrainOptions()])
def test_a_checkpoint_that_is_not_there(toy_configs, tmp_path, options):
    with pytest.raises(FileNotFoundError, match=r"The checkpoint 'none\.pth' does not exist"):
        prepare(toy_configs, tmp_path, options, load_from='none.pth')


def test_a_damaged_checkpoint_is_not_resumed_from(toy_configs, tmp_path):
    (tmp_path / 'cut.pth').write_bytes(b'PK\3\4')
    with pytest.raises(ValueError, match='is not a valid checkpoint: it is damaged or incomplete'):
        prepare(toy_configs, tmp_path, TrainOptions(resume=str(tmp_path / 'cut.pth')))


def test_classes_are_counted_only_where_their_number_is_not_set(toy_configs, toy_plugin, monkeypatch):
    cfg = load_config(toy_configs / 'toy.py', {'model.head.num_classes': None})
    applied(cfg, num_classes)
    assert cfg.model.head.num_classes == 3
    monkeypatch.setattr(toy_plugin.ToyPoints, '__init__', None)  # building it would fail now
    applied(cfg, num_classes)


def test_classes_of_a_wrapped_dataset_are_counted(toy_configs):
    wrapped = dict(_delete_=True, type='RepeatDataset', times=2, dataset=dict(type='ToyPoints'))
    cfg = load_config(
        toy_configs / 'toy.py', {'model.head': dict(_delete_=True, type='ToyHead'), 'train_dataloader.dataset': wrapped}
    )
    applied(cfg, num_classes)
    assert cfg.model.head.num_classes == 3


def test_data_that_do_not_name_their_classes(toy_configs, toy_plugin, monkeypatch):
    monkeypatch.setattr(toy_plugin.ToyPoints, 'METAINFO', {})
    cfg = load_config(toy_configs / 'toy.py', {'model.head.num_classes': None})
    with pytest.raises(ValueError, match=r'num_classes is not set, and the training data \(ToyPoints\) does not name'):
        applied(cfg, num_classes)


def test_testing_needs_something_to_test_on(toy_configs, tmp_path):
    with pytest.raises(ValueError, match='the key test_dataloader is missing'):
        prepare_testing(load_config(toy_configs / 'toy.py', dict(test_dataloader=None)), 'x.pth', TrainOptions())


def test_modules_to_checkpoint_that_are_not_there(toy_configs, tmp_path):
    runner = build_runner(prepare(toy_configs, tmp_path, activation_checkpointing=['backbon']))
    sentence = r"activation_checkpointing: expected names of modules of \w+, got 'backbon'\. Did you mean 'backbone'"
    with pytest.raises(ConfigError, match=sentence):
        run_training(runner)


def final_weights(toy_configs, folder, compiled, epochs=1, resume=None, **options):
    options = {'env_cfg.compile_streams': compiled, 'train_cfg.max_epochs': epochs, 'param_scheduler': None, **options}
    cfg = prepare_training(load_config(toy_configs / 'toy.py', options), TrainOptions(resume=resume), str(folder))
    runner = build_runner(cfg)
    run_training(runner)
    assert is_compiled(runner.model.backbone) == bool(compiled)
    return runner.model.state_dict(), runner


EAGER, INDUCTOR = dict(backend='eager'), dict(backend='inductor')


@pytest.mark.skipif(not COMPILES_THAWED_WEIGHTS, reason='refused with this torch')
@pytest.mark.parametrize(
    ('epochs', 'straight'),
    [([EAGER, False, EAGER], False), pytest.param([INDUCTOR, INDUCTOR], INDUCTOR, marks=pytest.mark.nightly)],
    ids=['compiled, then not, and again', 'inductor'],
)
def test_a_compiled_training_that_is_resumed_ends_in_the_same_bits(toy_configs, tmp_path, epochs, straight):
    expected, _ = final_weights(toy_configs, tmp_path / 'straight', straight, epochs=len(epochs))
    states = [
        final_weights(toy_configs, tmp_path / 'w', compiled, epochs=number + 1, resume='auto' if number else None)[0]
        for number, compiled in enumerate(epochs)
    ]
    assert list(states[-1]) == list(expected)
    assert all(torch.equal(states[-1][name], value) for name, value in expected.items())
    assert not all(torch.equal(states[-2][name], value) for name, value in expected.items())


@pytest.mark.skipif(not COMPILES_THAWED_WEIGHTS, reason='refused with this torch')
def test_a_flexible_runner_takes_the_keys_of_env_cfg_that_mmengine_does_not_know(toy_configs, tmp_path):
    straight, _ = final_weights(toy_configs, tmp_path / 'straight', False)
    keys = {'runner_type': 'FlexibleRunner', 'env_cfg.tf32': True, 'env_cfg.channels_last': True}
    found, runner = final_weights(toy_configs, tmp_path / 'w', EAGER, **keys)
    assert all(torch.equal(found[name], value) for name, value in straight.items())
    (written,) = (tmp_path / 'w').rglob('toy.py')
    for cfg in (runner.cfg, load_config(written)):
        assert (cfg.env_cfg.compile_streams, cfg.env_cfg.tf32) == (EAGER, True)
