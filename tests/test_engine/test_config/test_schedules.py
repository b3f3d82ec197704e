"""Trainings that are shorter, counted otherwise, or in other batches than their schedules were written for."""

import pytest
from config_helpers import applied, loaded
from mmengine.config import Config

from hybridcls import config_path
from hybridcls.engine import ConfigError, TrainOptions, build_runner, load_config, prepare_training, run_training
from hybridcls.engine.config import provenance_of
from hybridcls.engine.config.schedules import (
    check_length,
    fit_to_batches,
    fitted_schedules,
    fractions,
    iterations,
    scaled_lr,
)
from hybridcls.engine.runner.global_instances import isolated_globals

BASE = """
max_epochs = 100
train_cfg = dict(by_epoch=True, val_interval=50)
param_scheduler = [
    dict(type='LinearLR', begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=5, convert_to_iter_based=True)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1), logger=dict(type='LoggerHook'))
"""


def test_epochs_stay_epochs(tmp_path):
    cfg = loaded(tmp_path, base=BASE)
    before = cfg.to_dict()
    assert applied(cfg, iterations).to_dict() == before


def test_iterations_reach_the_schedules_the_hooks_and_the_log(tmp_path):
    cfg = loaded(tmp_path, base=BASE, options={'train_cfg.by_epoch': False, 'train_cfg.max_iters': 2000})
    applied(cfg, iterations)
    assert 'max_epochs' not in cfg.train_cfg
    assert cfg.train_cfg.val_interval == 1000, 'two validations, as the base has them'
    warm_up, cosine = cfg.param_scheduler
    assert warm_up.to_dict() == dict(type='LinearLR', begin=0, end=100, by_epoch=False)
    assert cosine.to_dict() == dict(type='CosineAnnealingLR', begin=100, by_epoch=False)
    checkpoint = cfg.default_hooks.checkpoint
    assert (checkpoint.by_epoch, checkpoint.interval) == (False, 1000)
    assert cfg.default_hooks.logger.log_metric_by_epoch is False
    assert cfg.log_processor.by_epoch is False


@pytest.mark.parametrize(('scheduler', 'stretched'), [
    (dict(type='MultiStepLR', milestones=[60, 80], gamma=0.1), dict(milestones=[30000, 40000], gamma=0.1)),
    (dict(type='StepLR', step_size=30, gamma=0.1), dict(step_size=15000, gamma=0.1)),
    (dict(type='CosineRestartLR', periods=[40, 60], eta_min=0.), dict(periods=[20000, 30000])),
    (dict(type='OneCycleLR', total_steps=100, eta_max=0.1), dict(total_steps=50000, eta_max=0.1)),
    (dict(type='ExponentialLR', gamma=0.9), dict(gamma=pytest.approx(0.9 ** (1 / 500)))),
    (dict(type='CosineAnnealingLR', T_max=100, end=100), dict(T_max=50000, end=50000)),
])  # fmt: skip
def test_every_length_is_stretched_and_a_rate_an_epoch_becomes_one_an_iteration(tmp_path, scheduler, stretched):
    base = f'{BASE}\nparam_scheduler = [{scheduler!r}]\n'
    cfg = loaded(tmp_path, base=base, options={'train_cfg.by_epoch': False, 'train_cfg.max_iters': 50000})
    applied(cfg, iterations)
    assert {key: cfg.param_scheduler[0][key] for key in stretched} == stretched
    assert cfg.param_scheduler[0].by_epoch is False


def test_an_interval_as_near_as_the_iterations_counts_them_and_stays(tmp_path):
    child = 'train_cfg = dict(by_epoch=False, max_iters=50000)\ndefault_hooks = dict(checkpoint=dict(interval=2000))\n'
    checkpoint = applied(loaded(tmp_path, child, BASE), iterations).default_hooks.checkpoint
    assert (checkpoint.by_epoch, checkpoint.interval) == (False, 2000)
    options = {'train_cfg.by_epoch': False, 'train_cfg.max_iters': 2000, 'train_cfg.val_interval': 7}
    assert applied(loaded(tmp_path, base=BASE, options=options), iterations).train_cfg.val_interval == 7


def test_a_loop_by_iterations_counts_them_whatever_it_is_called(tmp_path):
    child = "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2000, val_interval=50)\n"
    cfg = applied(loaded(tmp_path, child, BASE), iterations)
    assert cfg.param_scheduler[0].end == 100
    assert 'max_epochs' not in cfg.train_cfg


def test_schedules_and_iterations_of_one_file_that_contradict_each_other_are_refused(tmp_path):
    child = """train_cfg = dict(by_epoch=False, max_iters=2000)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=100)]
"""
    with pytest.raises(
        ConfigError, match=r'train_cfg.max_iters=2000 and param_scheduler.0.by_epoch=True .*both in chi'
    ):
        applied(loaded(tmp_path, child, BASE), iterations)


@pytest.mark.parametrize(
    ('train_cfg', 'message'),
    [(dict(by_epoch=False), 'train_cfg.max_iters=10000'), (dict(max_epochs=None), 'train_cfg.max_epochs=100')],
)
def test_a_length_that_is_not_set(train_cfg, message):
    with pytest.raises(ConfigError, match=message):
        check_length(Config(dict(train_cfg={'by_epoch': True, 'max_epochs': 3, **train_cfg})))


@pytest.mark.parametrize('epochs', [0, -1])
def test_a_training_of_nothing(epochs):
    with pytest.raises(ValueError, match=f'train_cfg: expected max_epochs in .*, got {epochs}'):
        check_length(Config(dict(train_cfg=dict(max_epochs=epochs))))


def test_a_schedule_in_epochs_without_any(tmp_path):
    base = BASE.replace('max_epochs = 100', '')
    cfg = loaded(tmp_path, base=base, options={'train_cfg.by_epoch': False, 'train_cfg.max_iters': 2000})
    with pytest.raises(ConfigError, match=r'param_scheduler\.0 counts epochs'):
        applied(cfg, iterations)


@pytest.mark.parametrize('epochs', [6, 100])
def test_what_fits_stays(tmp_path, epochs):
    cfg = loaded(tmp_path, base=BASE, options=dict(max_epochs=epochs))
    before = cfg.to_dict()
    assert applied(cfg, fitted_schedules).to_dict() == before


@pytest.mark.parametrize('epochs', [1, 3])
@pytest.mark.parametrize('how', ['option', 'nested option', 'child', 'code'])
def test_the_warm_up_of_a_base_takes_a_fifth_of_a_shorter_training(tmp_path, epochs, how):
    options = {'option': dict(max_epochs=epochs), 'nested option': {'train_cfg.max_epochs': epochs}}.get(how)
    cfg = loaded(tmp_path, f'max_epochs = {epochs}' if how == 'child' else '', BASE, options)
    if how == 'code':
        cfg.train_cfg.max_epochs = epochs
    applied(cfg, fitted_schedules)
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == epochs / 5  # 0.6, not 0.6000000000000001


def test_a_warm_up_and_a_shorter_training_of_one_file_are_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r'train_cfg.max_epochs=2 and param_scheduler.1.begin=5 do not fit .* base.py'
    ):
        applied(loaded(tmp_path, base=BASE.replace('= 100', '= 2')), fitted_schedules)


def test_a_warm_up_that_is_nearer_than_the_length_is_refused(tmp_path):
    cfg = loaded(tmp_path, 'max_epochs = 50', BASE, {'param_scheduler.1.begin': 60})
    with pytest.raises(
        ConfigError, match=r'max_epochs=50 and param_scheduler.1.begin=60 .*in child.py and in --cfg-op'
    ):
        applied(cfg, fitted_schedules)


def test_a_warm_up_in_iterations(tmp_path):
    base = """
train_cfg = dict(by_epoch=False, max_iters=700)
param_scheduler = [dict(type='LinearLR', by_epoch=False, end=500),
                   dict(type='CosineAnnealingLR', by_epoch=False, begin=500)]
"""
    cfg = applied(loaded(tmp_path, base=base, options={'train_cfg.max_iters': 7}), fitted_schedules)
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == 1


def test_whole_epochs_have_no_fifth(tmp_path):
    cfg = loaded(
        tmp_path, base=BASE.replace('begin=5, convert_to_iter_based=True', 'begin=5'), options=dict(max_epochs=2)
    )
    with pytest.raises(ConfigError, match=r'param_scheduler.1 begins after 5 epochs, but the training ends after 2'):
        applied(cfg, fitted_schedules)


@pytest.mark.parametrize('schedulers', [dict(), dict(param_scheduler=None), dict(param_scheduler=[])])
def test_without_schedulers_there_is_nothing_to_fit(schedulers):
    before = dict(train_cfg=dict(by_epoch=True, max_epochs=1), **schedulers)
    cfg = applied(Config(before), fitted_schedules)
    assert cfg.to_dict() == before


RATE = """
lr = 0.5
batch_size = 32
train_dataloader = dict()
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD'), accumulative_counts=4)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0.01), dict(type='CosineAnnealingLR', eta_min_ratio=0.1)]
auto_scale_lr = dict(base_batch_size=1024)
"""


def test_the_rate_is_scaled_with_the_images_of_an_update_and_once(tmp_path):
    cfg = applied(loaded(tmp_path, base=RATE), scaled_lr, 2, True)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.5 * 32 * 4 * 2 / 1024)
    assert cfg.param_scheduler[0].eta_min == pytest.approx(0.01 * 32 * 4 * 2 / 1024)
    assert cfg.param_scheduler[1].eta_min_ratio == 0.1
    assert cfg.auto_scale_lr.enable is False, 'mmengine would scale it again'


def test_the_rate_of_a_shipped_config_for_one_gpu_is_that_of_eight(tmp_path):
    cfg = load_config(config_path('hybrid/ce_convnext_swin_1gpu.py'))
    assert applied(cfg, scaled_lr, 1, True).optim_wrapper.optimizer.lr == pytest.approx(5e-4)


def test_the_config_may_ask_for_it_too(tmp_path):
    cfg = loaded(tmp_path, 'auto_scale_lr = dict(enable=True)', RATE)
    assert applied(cfg, scaled_lr, 1, False).optim_wrapper.optimizer.lr == pytest.approx(0.5 * 32 * 4 / 1024)
    cfg = loaded(tmp_path, '', RATE)
    assert applied(cfg, scaled_lr, 1, False).optim_wrapper.optimizer.lr == 0.5


@pytest.mark.parametrize(('child', 'message'), [
    ('auto_scale_lr = None', 'does not name the batch size'),
    ('lr = None', 'expected one optimizer with a learning rate'),
    ('batch_size = None', 'train_dataloader.batch_size is not set'),
])  # fmt: skip
def test_a_rate_that_cannot_be_scaled(tmp_path, child, message):
    with pytest.raises(ConfigError, match=f'--auto-scale-lr: .*{message}'):
        applied(loaded(tmp_path, child, RATE), scaled_lr, 1, True)


def train(tmp_path, images, **more):
    options = {
        'max_epochs': 1,
        'train_dataloader.dataset.indices': images,
        'val_cfg': None,
        'val_dataloader': None,
        'val_evaluator': None,
        'default_hooks.checkpoint.save_best': None,
        'train_dataloader.batch_size': 8,
        **more,
    }
    with isolated_globals():
        cfg = load_config(config_path('digits/ce_hybrid.py'), options)
        runner = build_runner(prepare_training(cfg, TrainOptions(), str(tmp_path)))
        run_training(runner)
        return runner.message_hub.get_scalar('train/base_lr').data[0]


@pytest.mark.parametrize('batches', [1, 9, 10])
def test_a_warm_up_of_less_than_a_batch_is_left_out(tmp_path, batches):
    rates = train(tmp_path, 8 * batches)
    assert len(rates) == batches
    # A fifth of ten batches is two, the fewest that warm anything up.
    assert rates.argmax() == (0 if batches < 10 else 1)
    assert rates.max() == pytest.approx(2e-3)
    assert batches < 10 or rates[-1] < rates.max() / 5


@pytest.mark.parametrize(('batches', 'begin'), [(1, 0), (4, 0), (10, 0.2)])
def test_what_comes_after_a_warm_up_that_is_left_out_begins_at_once(batches, begin):
    warm_up = dict(type='LinearLR', begin=0, end=0.2, convert_to_iter_based=True)
    cosine = dict(type='CosineAnnealingLR', begin=0.2, convert_to_iter_based=True)
    fitted = fit_to_batches([warm_up, cosine], batches)
    assert fitted[-1]['begin'] == begin
    assert (warm_up in fitted) == (batches == 10)
    assert fit_to_batches(dict(one=[warm_up, cosine]), batches) == dict(one=fitted)


def test_few_iterations_are_no_other_than_few_batches(tmp_path):
    rates = train(tmp_path, 64, **{'train_cfg.by_epoch': False, 'train_cfg.max_iters': 4})
    assert len(rates) == 4
    assert rates[0] == pytest.approx(2e-3)


def test_no_batch_is_explained_before_the_schedule_stumbles(tmp_path):
    with pytest.raises(ValueError, match=r'5 images on 1 process do not fill a batch of 8.*batch_size to at most 5'):
        train(tmp_path, 5)


def test_what_stays_as_it_is_is_no_change(tmp_path):
    options = {'train_cfg.by_epoch': False, 'train_cfg.max_iters': 9, 'train_cfg.val_interval': 1}
    cfg = applied(loaded(tmp_path, base=BASE, options=options), iterations)
    assert cfg.default_hooks.checkpoint.interval == 1
    assert not [one for one in provenance_of(cfg).changes if one.old == one.new]


FRACTIONS = """
max_epochs = 30
train_cfg = dict(by_epoch=True)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end_fraction=0.1),
    dict(type='CosineAnnealingLR', begin_fraction=0.1)]
"""


@pytest.mark.parametrize(
    ('options', 'end', 'by_epoch'),
    [
        ({}, 3.0, True),
        ({'max_epochs': 8}, 0.8, True),
        ({'train_cfg.by_epoch': False, 'train_cfg.max_iters': 2000}, 200, False),
    ],
)
def test_fractions_follow_the_length(tmp_path, options, end, by_epoch):
    cfg = loaded(tmp_path, base=FRACTIONS, options=options)
    for step in (iterations, fractions, fitted_schedules):
        applied(cfg, step)
    warm_up, cosine = cfg.param_scheduler
    assert warm_up.end == cosine.begin == pytest.approx(end)
    for one in (warm_up, cosine):
        assert one.by_epoch is by_epoch
        assert one.get('convert_to_iter_based', False) is by_epoch
        assert not {'begin_fraction', 'end_fraction'} & one.keys()


def test_fractions_wait_for_a_length_that_the_data_choose(tmp_path):
    cfg = loaded(tmp_path, base=FRACTIONS, options={'max_epochs': None})
    check_length(cfg)
    assert applied(cfg, fractions).param_scheduler[0].end_fraction == 0.1


@pytest.mark.parametrize(
    ('key', 'value', 'message'), [('end_fraction', 1.5, 'end_fraction'), ('end', 3, 'has end and end_fraction')]
)
def test_impossible_fractions(tmp_path, key, value, message):
    cfg = loaded(tmp_path, base=FRACTIONS, options={f'param_scheduler.0.{key}': value})
    with pytest.raises((ConfigError, ValueError), match=message):
        applied(cfg, fractions)
