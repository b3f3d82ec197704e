"""What a step of the completion may change, and how it is told."""

import re
from copy import deepcopy

import pytest
from mmengine.config import Config

from hybridcls.engine import ConfigError
from hybridcls.engine.config import change as changes
from hybridcls.engine.config.change import Change, apply
from hybridcls.engine.config.origins import CODE, FILLED, Layer
from hybridcls.engine.config.tree import ABSENT

BASE, FILE, OPTION = Layer(-1, '/a/base.py'), Layer(0, '/a/mine.py'), Layer(1, '--cfg-options')


def config(**written):
    """A config of ``key=(value, layer)``."""
    cfg = Config({key: value for key, (value, _) in written.items()})
    for key, (_, layer) in written.items():
        changes.note_layer(changes.provenance_of(cfg), cfg, (key,), layer)
    return cfg


def plan(*planned):
    return lambda cfg: planned


def test_an_open_place_is_filled():
    cfg = config(size=(None, FILE))
    apply(cfg, plan(Change(('size',), None, 32, 'default'), Change(('model', 'width'), ABSENT, 8, 'default')))
    assert cfg.size == 32
    assert cfg.model.width == 8
    assert changes.layer_of(cfg, ('size',)) == FILLED


def test_what_is_written_is_not_filled():
    with pytest.raises(
        ConfigError, match=re.escape('size=32 is written in the config, and a default only fills keys that are not.')
    ):
        apply(config(size=(32, BASE)), plan(Change(('size',), 32, 64, 'a default')))


@pytest.mark.parametrize(('layer', 'may'), [(BASE, False), (FILE, True), (OPTION, True)])
def test_a_further_value_is_adapted_to_a_nearer_one_only(layer, may):
    cfg = config(end=(20, BASE), epochs=(5, layer))
    step = plan(Change(('end',), 20, 5, 'schedules end with the training', ('epochs',)))
    if may:
        apply(cfg, step)
        assert cfg.end == 5
        assert changes.layer_of(cfg, ('end',)) == layer
    else:
        with pytest.raises(ConfigError, match=r'epochs=5 and end=20 do not fit together \(both in base.py\)'):
            apply(cfg, step)
        assert cfg.end == 20


def test_what_a_step_has_set_is_not_written():
    cfg = config(epochs=(5, FILE))
    apply(cfg, plan(Change(('end',), ABSENT, 9, 'first', ('epochs',))))
    apply(cfg, plan(Change(('end',), 9, 5, 'second', ('epochs',))))
    assert cfg.end == 5


def test_an_option_or_torch_overrules_any_file():
    cfg = config(workers=(0, FILE))
    apply(cfg, plan(Change(('workers',), 0, ABSENT, 'torch does not accept it', 'torch')))
    assert 'workers' not in cfg
    assert changes.provenance_of(cfg).changes[0].old == 0


def test_a_value_set_by_code_is_no_longer_the_files():
    cfg = config(size=(32, BASE))
    assert changes.layer_of(cfg, ('size',)) == BASE
    cfg.size = 33
    assert changes.layer_of(cfg, ('size',)) == CODE
    assert changes.layer_of(deepcopy(config(size=(32, BASE))), ('size',)) == BASE


def test_what_does_not_change_is_not_told():
    cfg = config(size=(32, FILE))
    apply(cfg, plan(Change(('size',), 32, 32, 'again')))
    assert not changes.provenance_of(cfg).changes


def test_the_table_joins_equal_values_of_one_reason():
    cfg = config(img_size=(64, FILE), old=(1, BASE))
    apply(
        cfg,
        plan(
            Change(('a', 'img_size'), ABSENT, 64, 'top-level img_size', ('img_size',)),
            Change(('b', 'img_size'), ABSENT, 64, 'top-level img_size', ('img_size',)),
            Change(('old',), 1, 2, 'follows', ('img_size',)),
            Change(('launcher',), ABSENT, 'none', 'not told', told=False),
            'c.img_size keeps its own 32.',
        ),
    )
    assert changes.table_of(cfg).splitlines() == [
        'a.img_size and 1 more place  64      top-level img_size',
        'old                          1 -> 2  follows',
        'c.img_size keeps its own 32.',
    ]
    assert changes.table_of(cfg, left_out=('a', 'b')).splitlines()[0] == 'old  1 -> 2  follows'


def test_the_record_holds_what_a_config_can():
    cfg = config(head=(dict(type='LinearHead', width=3), FILE))
    apply(
        cfg,
        plan(
            Change(('head', 'type'), 'LinearHead', 'hybridcls.LinearHead', 'found by other tools', 'scope'),
            Change(('head', 'width'), 3, ABSENT, 'refused', 'torch'),
            Change(('head', 'a.b'), ABSENT, 1, 'filled'),
        ),
    )
    assert changes.record_of(cfg) == [
        dict(path='head.width', why='refused', old=3),
        dict(path=['head', 'a.b'], why='filled', new=1),
        dict(scoped=['head.type']),
    ]
