"""A mistyped key at the top level would change nothing, silently."""

import pytest

from hybridcls.engine import ConfigError, load_config
from hybridcls.engine.config import provenance_of


@pytest.mark.parametrize(
    ('option', 'near'),
    [
        ('img_sise', 'img_size'),
        ('modle.head.type', 'model'),
        ('train_dataloder.batch_size', 'train_dataloader'),
        ('pretraned', 'pretrained'),
    ],
)
def test_an_option_that_nothing_reads(toy_configs, option, near):
    with pytest.raises(ConfigError, match=rf"--cfg-options {option}: nothing reads .*Did you mean '{near}'"):
        load_config(toy_configs / 'toy.py', {option: 3})


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('img_sise = 3', "'img_sise'. Did you mean 'img_size'"),
        ('train_dataloder = dict(batch_size=3)', "'train_dataloder'. Did you mean 'train_dataloader'"),
        ('env_cfg = dict(cudnn_benchmrk=True)', "env_cfg.cudnn_benchmrk. Did you mean 'cudnn_benchmark'"),
        ('auto_scale_lr = dict(base_batchsize=3)', "auto_scale_lr.base_batchsize. Did you mean 'base_batch_size'"),
    ],
)
def test_a_key_of_the_file_that_nothing_reads(toy_configs, line, message):
    (toy_configs / 'typo.py').write_text(f"_base_ = 'toy.py'\n{line}\n")
    with pytest.raises(ConfigError, match=rf'typo\.py: nothing reads .*{message}'):
        load_config(toy_configs / 'typo.py')


def test_a_variable_that_is_used_may_have_any_name(toy_configs):
    (toy_configs / 'own.py').write_text("_base_ = 'toy.py'\nimg_sizes = 64\nmy_note = 'kept'\nimg_size = img_sizes\n")
    cfg = load_config(toy_configs / 'own.py', {'randomness.seed': 1})
    assert (cfg.img_sizes, cfg.my_note) == (64, 'kept')
    assert provenance_of(cfg).notes == [
        'Nothing reads my_note: it has no effect.',
        'img_size=64 has no effect: no part of this config takes it.',
    ]


def test_an_option_for_a_variable_that_was_computed_with_says_so(toy_configs):
    (toy_configs / 'own.py').write_text("_base_ = 'toy.py'\nside = 32\nimg_size = 2 * side\n")
    with pytest.raises(ConfigError, match=r"--cfg-options side: .*own\.py uses 'side' in an expression"):
        load_config(toy_configs / 'own.py', {'side': 64})


@pytest.mark.parametrize(
    'key', ['vis_backends', 'classes', 'lr_config', 'optimizer', 'evaluation', 'resume_from', 'gpu_ids', 'device']
)
@pytest.mark.parametrize('by_option', [False, True])
def test_keys_of_earlier_releases_are_answered_with_todays(toy_configs, key, by_option):
    (toy_configs / 'old.py').write_text("_base_ = 'toy.py'\n" + ('' if by_option else f'{key} = dict(a=1)\n'))
    with pytest.raises(ConfigError, match=rf"nothing reads the top-level key '{key}'.*(Write|Did you mean)"):
        load_config(toy_configs / 'old.py', {key: 1} if by_option else {})


def test_all_keys_of_earlier_releases_are_answered_at_once(toy_configs):
    (toy_configs / 'old.py').write_text("_base_ = 'toy.py'\noptimizer = dict(lr=1)\nmine = 1\nlr_config = dict(a=1)\n")
    with pytest.raises(ConfigError) as error:
        load_config(toy_configs / 'old.py')
    assert str(error.value).endswith(
        "old.py: nothing reads these top-level keys:\n  'optimizer'. Write optim_wrapper = dict(optimizer=...).\n"
        "  'lr_config'. Write param_scheduler = [...]."
    )
