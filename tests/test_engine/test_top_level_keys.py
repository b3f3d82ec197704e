"""A mistyped key at the top level would change nothing, silently."""

import pytest

from hybridcls.engine import ConfigError, load_config


@pytest.mark.parametrize(
    ('option', 'near'),
    [
        ('img_sise', 'img_size'),
        ('modle.head.type', 'model'),
        ('train_dataloder.batch_size', 'train_dataloader'),
        ('pretraned', 'pretrained'),
    ],
)
def test_an_option_that_nobody_reads(toy_configs, option, near):
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
def test_a_key_of_the_file_that_nobody_reads(toy_configs, line, message):
    (toy_configs / 'typo.py').write_text(f"_base_ = 'toy.py'\n{line}\n")
    with pytest.raises(ConfigError, match=rf'typo\.py: nothing reads .*{message}'):
        load_config(toy_configs / 'typo.py')


def test_a_variable_that_is_used_may_have_any_name(toy_configs):
    (toy_configs / 'own.py').write_text("_base_ = 'toy.py'\nimg_sizes = 64\nmy_note = 'kept'\nimg_size = img_sizes\n")
    cfg = load_config(toy_configs / 'own.py', {'my_note': 'changed', 'randomness.seed': 1})
    assert (cfg.img_sizes, cfg.my_note) == (64, 'changed')
