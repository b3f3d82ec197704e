"""The package ``engine`` gives its parts when they are asked for."""

import importlib

import pytest

import hybridcls.engine as engine


@pytest.mark.parametrize('name', engine.__all__)
def test_every_public_name_is_there(name):
    value = getattr(engine, name)
    module = getattr(value, '__module__', None) or value.__name__
    assert module.startswith('hybridcls.engine.')
    assert getattr(importlib.import_module(module), name, value) is value
    assert name in dir(engine)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'hybridcls\.engine' has no attribute 'train'"):
        engine.train  # noqa: B018
