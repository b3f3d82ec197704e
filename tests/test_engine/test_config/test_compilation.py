"""``env_cfg.compile_streams``: by --compile, checked early, and what it does not go with."""

import pytest
import torch
from config_helpers import applied
from mmengine.config import Config

from hybridcls.compat.torch_compiler import is_compiled
from hybridcls.engine.config import ConfigError
from hybridcls.engine.config.compilation import check_compilation, compilation, compile_model
from hybridcls.models import HybridBackbone


def config(wanted='open', **keys):
    return Config(dict(env_cfg={} if wanted == 'open' else dict(compile_streams=wanted), **keys))


@pytest.mark.parametrize(
    ('wanted', 'asked', 'found'),
    [
        ('open', False, None),
        ('open', True, True),
        (None, True, True),
        (False, True, True),
        (dict(mode='max-autotune'), True, dict(mode='max-autotune')),
        (True, False, True),
        ({}, False, {}),
    ],
)
def test_the_option_sets_what_is_not_on(wanted, asked, found):
    assert applied(config(wanted), compilation, asked).env_cfg.get('compile_streams') == found
    assert applied(Config({}), compilation, True).env_cfg.compile_streams is True


@pytest.mark.parametrize(
    ('wanted', 'keys', 'text'),
    [
        ('on', {}, r"env_cfg\.compile_streams: expected True, False or a dict .*, got 'on'"),
        (dict(mod='x'), {}, r"expected arguments of torch\.compile, got 'mod'\. Did you mean 'mode'"),
        (
            True,
            dict(strategy=dict(type='hybridcls.FSDPStrategy')),
            r'whose processes hold whole weights .* got FSDPStr',
        ),
        (True, dict(compile=True), r'compile=True makes mmengine compile the whole training step .* Set compile=False'),
    ],
)
def test_what_cannot_be(wanted, keys, text):
    with pytest.raises(ConfigError, match=text):
        applied(config(wanted, **keys), compilation, False)


def test_a_strategy_that_shards_nothing():
    assert applied(config(True, strategy=dict(type='DDPStrategy')), compilation, False).env_cfg.compile_streams is True


def test_a_missing_compiler_is_told_before_anything_is_read(monkeypatch):
    monkeypatch.setattr('hybridcls.models.backbones.compiled_streams.missing_for_inductor', lambda _: 'a compiler')
    check_compilation(config(False))
    check_compilation(config(dict(backend='aot_eager')))
    for wanted in (True, dict(mode='default')):
        with pytest.raises(ConfigError, match=r'env_cfg\.compile_streams: torch\.compile needs a compiler'):
            check_compilation(config(wanted))


def test_a_torch_that_forgets_thawed_weights_is_refused(monkeypatch):
    monkeypatch.setattr('hybridcls.compat.torch_compiler.COMPILES_THAWED_WEIGHTS', False)
    check_compilation(config(False))
    with pytest.raises(ConfigError, match=r'env_cfg\.compile_streams: expected torch 2\.14 or newer for a training'):
        check_compilation(config(dict(backend='eager')))


def test_streams_of_the_model_are_compiled_and_named():
    model = torch.nn.Module()
    model.backbone = HybridBackbone(cnn=dict(model_name='test_resnet'))
    assert compile_model(config(False), model) == ''
    assert not is_compiled(model.backbone.cnn)
    assert compile_model(config(dict(backend='eager')), model).startswith('torch.compile: backbone.cnn. The first')
    assert is_compiled(model.backbone.cnn)


def test_where_torch_is_told_to_compile_nothing_a_training_says_so():
    model = HybridBackbone(cnn=dict(model_name='test_resnet'))
    with torch._dynamo.config.patch(disable=True):
        check_compilation(config(True))
        assert 'TORCH_COMPILE_DISABLE is set' in compile_model(config(True), model)
    assert not is_compiled(model.cnn)
