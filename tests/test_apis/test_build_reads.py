"""Which keys are really read, seen by building a part whose signature does not say."""

import pytest
from mmengine.config import Config
from torch import nn

from hybridcls.apis.build_reads import build_and_record
from hybridcls.engine.config.takers import takers_of
from hybridcls.registry import MODELS


class Inner(nn.Module):
    def __init__(self, depth=1):
        super().__init__()


@pytest.fixture(autouse=True)
def _plugins():
    @MODELS.register_module(name='SeenWhileBuilding', force=True)
    class SeenWhileBuilding(nn.Module):
        def __init__(self, width, **kwargs):
            super().__init__()
            self.width = width
            self.inner = Inner(depth=kwargs.pop('depth'))
            self.late = {'late': kwargs['late']}
            if kwargs.get('broken'):
                raise RuntimeError('it is broken')

    yield
    MODELS.module_dict.pop('SeenWhileBuilding')


def recorded(**keys):
    cfg = Config(
        dict(default_scope='hybridcls', model=dict(type='SeenWhileBuilding', width=8, depth=3, late=5, **keys))
    )
    takers = takers_of(cfg)
    before = {key: takers.at(('model', key)).status for key in cfg.model}
    notes = build_and_record(cfg, takers)
    return before, {key: takers.at(('model', key)) for key in cfg.model}, notes


def test_keys_of_kwargs_are_found_where_they_go():
    before, after, notes = recorded(forgotten=9)
    assert not notes
    assert (before['width'], before['depth'], before['late'], before['forgotten']) == ('read', *['unknown'] * 3)
    assert after['width'].status == 'read'
    assert after['depth'].status == after['late'].status == 'read'
    assert 'seen while building' in after['depth'].name
    assert after['forgotten'].status == 'unread'
    assert 'built without reading it' in after['forgotten'].name


def test_a_part_that_cannot_be_built_is_a_sentence():
    _, after, notes = recorded(broken=True)
    assert notes == ['model was not built: RuntimeError: it is broken']
    assert after['width'].status == 'read'


def test_the_config_is_not_changed():
    cfg = Config(dict(default_scope='hybridcls', model=dict(type='SeenWhileBuilding', width=8, depth=3, late=5)))
    text = cfg.pretty_text
    build_and_record(cfg, takers_of(cfg))
    assert cfg.pretty_text == text
