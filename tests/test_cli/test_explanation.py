"""Source, file, line and taker of keys whose history is known."""

import pytest
from config_helpers import write

from hybridcls.cli.explanation import PASSED_OVER, VARIABLE, explain_config
from hybridcls.engine.config import Change, apply, load_config
from hybridcls.engine.config.takers import takers_of
from hybridcls.engine.config.tree import ABSENT, dotted

BASE = """default_scope = 'hybridcls'
width = 8
forgotten = 1
img_size = 32
model = dict(
    type='ConcatFusion',
    fusion_dim=width)
"""
CHILD = """_base_ = 'base.py'
mine = 3
model = dict(
    in_channels=[4, 4])
train_dataloader, train_cfg, optim_wrapper = dict(a=1), dict(a=1), dict(a=1)  # it can be trained: no base alone
"""


@pytest.fixture
def explained(tmp_path):
    write(tmp_path, 'base.py', BASE)
    cfg = load_config(write(tmp_path, 'child.py', CHILD), {'model.init_cfg': None, 'model.act': None})
    apply(
        cfg,
        lambda cfg: [
            Change(('model', 'init_cfg'), None, dict(type='Constant'), 'filled by a test'),
            Change(('model', 'act'), None, 'ReLU', 'filled by a test'),
            Change(('model', 'fusion_dim'), 8, 16, 'adapted by a test', ('model', 'in_channels')),
            Change(('test_cfg', 'size'), ABSENT, 32, 'from the size', ('img_size',)),
        ],
    )
    cfg.model.type = 'SumFusion'
    return explain(cfg)


def explain(cfg):
    return {dotted(one.path): one for one in explain_config(cfg, takers_of(cfg))}


def where(one):
    return one.source, one.file and one.file.rpartition('/')[2], one.line


def test_files_and_lines(explained):
    assert where(explained['default_scope']) == ('file', 'base.py', 1)
    assert where(explained['model.in_channels']) == ('file', 'child.py', 4)  # a list of plain values is one key
    assert explained['model.in_channels'].value == [4, 4]


def test_what_steps_and_code_did(explained):
    filled, adapted = explained['model.init_cfg.type'], explained['model.fusion_dim']
    assert (filled.source, filled.why, filled.old) == ('filled', 'filled by a test', ABSENT)
    assert (explained['model.act'].source, explained['model.act'].old) == ('filled', None)
    assert where(adapted) == ('adapted', 'child.py', 4)  # what it was adapted to
    assert (adapted.old, adapted.value, adapted.why) == (8, 16, 'adapted by a test')
    assert where(explained['test_cfg.size']) == ('filled', 'base.py', 4)
    assert where(explained['model.type']) == ('code', None, 0)


def test_variables(explained):
    assert (explained['width'].status, explained['width'].taker) == (VARIABLE, 'variable of model.fusion_dim')
    assert (explained['img_size'].status, explained['img_size'].taker) == (VARIABLE, 'fills test_cfg.size')
    assert (explained['forgotten'].status, explained['forgotten'].taker) == (PASSED_OVER, 'nothing reads it')
    assert explained['mine'].status == 'unread'


def test_a_variable_of_a_base_has_the_line_of_the_base(tmp_path):
    write(tmp_path, 'base.py', BASE.replace('width = 8', 'width = dict(a=8,\n    b=9)'))
    child = """_base_ = 'base.py'
model = dict(
    in_channels={{_base_.width}},
    other=dict(a=1))
train_dataloader, train_cfg, optim_wrapper = dict(a=1), dict(a=1), dict(a=1)
"""
    explained = explain(load_config(write(tmp_path, 'child.py', child)))
    one = explained['model.in_channels.b']
    assert (*where(one), one.why) == ('file', 'base.py', 3, 'repeats width, named in child.py:3')
    assert where(explained['model.other.a']) == ('file', 'child.py', 4)


def test_an_option_is_named(tmp_path):
    write(tmp_path, 'base.py', BASE)
    cfg = load_config(tmp_path / 'base.py', {'model.fusion_dim': 4})
    one = next(one for one in explain_config(cfg, takers_of(cfg)) if one.path == ('model', 'fusion_dim'))
    assert where(one) == ('option', '--cfg-options', 0)
