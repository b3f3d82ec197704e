"""Which head of several is the main one stays, whatever the order of the keys in a written config."""

import pytest
from mmengine.config import Config

from hybridcls.engine.config.change import apply
from hybridcls.engine.config.main_head import main_head
from hybridcls.registry import MODELS


def filled(heads, **more):
    cfg = Config(dict(model=dict(type='HybridClassifier', head=dict(type='MultiHead', heads=heads, **more))))
    apply(cfg, main_head)
    return cfg


@pytest.mark.parametrize(
    ('heads', 'chosen'),
    [
        (dict(z=dict(type='LinearHead'), a=dict(type='EvidentialHead')), 'z'),
        (dict(z=dict(type='SupConHead'), b=dict(type='LinearHead'), a=dict(type='LinearHead')), 'b'),
        (dict(z=None, y=dict(type='LinearHead'), a=dict(type='LinearHead')), 'y'),
        (dict(z=dict(type='SupConHead'), a=dict(type='SupConHead')), 'z'),
    ],
)
def test_the_choice_of_the_head_is_written_down(heads, chosen):
    cfg = filled(heads)
    assert cfg.model.head.main == chosen
    parts = dict(in_channels=8, num_classes=3)
    given = {name: head and {**head} for name, head in heads.items()}
    assert MODELS.build(dict(type='MultiHead', heads=given, **parts)).main == chosen  # as without the name
    written = Config.fromstring(cfg.pretty_text, '.py')
    assert list(written.model.head.heads) != list(heads) or heads == dict(sorted(heads.items()))
    assert MODELS.build(dict(**written.model.head, **parts)).main == chosen


def test_what_is_written_stays_and_others_are_left_alone():
    heads = dict(z=dict(type='LinearHead'), a=dict(type='LinearHead'))
    assert filled(heads, main='a').model.head.main == 'a'
    cfg = Config(dict(model=dict(type='HybridClassifier', head=dict(type='LinearHead'))))
    apply(cfg, main_head)
    assert 'main' not in cfg.model.head
