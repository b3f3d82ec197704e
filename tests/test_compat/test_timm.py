"""Which function converts the weights of a timm model: what timm itself hands its loader is the oracle."""

import sys
from functools import partial

import pytest
import timm
import timm.models

from hybridcls.compat.timm import checkpoint_filter


class Asked(Exception):
    """timm's builder was called: with which class, and which function."""


def of_timm(architecture):
    """What timm's entry point gives its builder: (class, function)."""
    try:
        timm.models.model_entrypoint(architecture)(pretrained=False)
    except Asked as asked:
        return asked.args
    return None


@pytest.fixture
def asking(monkeypatch):
    def ask(model_class, *_, pretrained_filter_fn=None, **__):
        raise Asked(model_class, pretrained_filter_fn)

    modules = {timm.models.model_entrypoint(name).__module__ for name in timm.list_models()}
    for module in {*modules, 'timm.models.vision_transformer'}:
        if hasattr(sys.modules[module], 'build_model_with_cfg'):
            monkeypatch.setattr(sys.modules[module], 'build_model_with_cfg', ask)


def plain(function):
    """The function below partials, and what is bound to it."""
    bound = {}
    while isinstance(function, partial):
        bound.update(function.keywords)
        function = function.args[0] if function.args and callable(function.args[0]) else function.func
    return function, bound


def test_every_architecture_has_the_function_that_timm_uses(asking):
    # crossvit's is defined within its entry point; hieradet's binds an empty prefix, which is its default; RADIO's is
    # bound to tables of another repository; these hybrids have no published weights, and get their family's.
    others, seen, wrong = {'crossvit', 'hieradet', 'sam2'}, 0, []
    hybrids = {
        'vit_base_resnet26d_224',
        'vit_base_resnet50d_224',
        'vit_small_resnet26d_224',
        'vit_small_resnet50d_s16_224',
    }
    for architecture in timm.list_models():
        found = of_timm(architecture)
        if (
            found is None
            or architecture.partition('_')[0] in others
            or 'radio' in architecture
            or architecture in hybrids
        ):
            continue
        model_class, function = found
        model_class = getattr(model_class, 'func', model_class)
        if not isinstance(model_class, type):
            continue
        model = model_class.__new__(model_class)
        vars(model)['pretrained_cfg'] = dict(architecture=architecture)
        (expected, options), (own, own_options) = plain(function), plain(checkpoint_filter(model))
        seen += 1
        if own is not expected or own_options != options:
            wrong.append((architecture, expected, options, own, own_options))
    assert seen > 1000
    assert not wrong, '\n'.join(map(str, wrong))


def test_a_model_that_is_not_of_timm_has_none():
    assert checkpoint_filter(object()) is None
