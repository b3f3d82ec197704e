"""Paths, leaves and parts of a config."""

import copy

import pytest
import torch
from mmengine.config import Config
from torch import nn

from hybridcls.engine.config import tree
from hybridcls.engine.config.tree import ABSENT

CONFIG = dict(
    model=dict(type='HybridClassifier', widths=[8, (16, 32)], empty={}),
    train_dataloader=dict(
        dataset=dict(type='ConcatDataset', datasets=[dict(type='Digits'), dict(type='ImageFolder')]),
        sampler=dict(type='DefaultSampler'),
    ),
    val_evaluator=[dict(type='KNNAccuracy', bank=dict(type='Digits'), bank_dataloader=dict(batch_size=4))],
    train_pipeline=[dict(type='LoadImage'), dict(type='RandomApply', transforms=[dict(type='Resize')])],
)


@pytest.mark.parametrize(
    ('path', 'key'),
    [
        (('param_scheduler', 0, 'end'), 'param_scheduler.0.end'),
        (('custom_keys', 'backbone.cnn', 'lr_mult'), ['custom_keys', 'backbone.cnn', 'lr_mult']),
        (('names', '0'), ['names', '0']),
    ],
)
def test_a_path_is_written_and_read_back(path, key):
    assert tree.key_of(path) == key
    assert tree.path_of(key) == path


def test_leaves_are_values_without_others():
    leaves = dict(tree.leaves_in(CONFIG['model']))
    assert leaves == {('type',): 'HybridClassifier', ('widths', 0): 8, ('widths', 1, 0): 16, ('widths', 1, 1): 32,
                      ('empty',): {}}  # fmt: skip
    outer = [path for path, _ in tree.walk(CONFIG['model'])]
    assert outer.index(('widths',)) < outer.index(('widths', 1)) < outer.index(('widths', 1, 0))


@pytest.mark.parametrize('wrap', [dict, Config])
def test_values_are_found_set_and_taken_out(wrap):
    node = wrap(copy.deepcopy(CONFIG))
    assert tree.value_at(node, ('model', 'widths', 1, 0)) == 16
    for missing in [('model', 'nothing'), ('model', 'widths', 7), ('model', 'type', 'deeper')]:
        assert tree.value_at(node, missing) is ABSENT
    tree.put_at(node, ('model', 'widths', 1, 0), 17)  # within a tuple
    assert node['model']['widths'] == [8, (17, 32)]
    tree.delete_at(node, ('model', 'empty'))
    tree.delete_at(node, ('model', 'empty'))
    assert 'empty' not in node['model']


def test_a_number_in_quotes_is_a_key():
    node = {'names': {'0': 'cat'}}
    assert tree.value_at(node, ('names', 0)) == 'cat'
    tree.put_at(node, ('names', 0), 'bee')
    assert node == {'names': {'0': 'bee'}}


def test_parts_are_found_by_their_places():
    def types(found):
        return [node.get('type') for _, node in found]

    assert types(tree.datasets_in(CONFIG)) == ['ConcatDataset', 'Digits', 'ImageFolder', 'Digits']
    assert types(tree.transforms_in(CONFIG)) == ['LoadImage', 'RandomApply', 'Resize']
    assert [path[-1] for path, _ in tree.dataloaders_in(CONFIG)] == ['train_dataloader', 'bank_dataloader']


def test_what_differs_is_told_as_far_inside_as_kinds_agree():
    one, other = dict(head=dict(type='A', n=1), x=[1, 2]), dict(head=dict(type='B', n=1), x=[1, 3])
    assert list(tree.differing(one, other)) == [(('head',), one['head']), (('x', 1), 2)]


def test_tensors_are_compared_in_all_that_they_hold():
    assert tree.same(torch.ones(2), torch.ones(2))
    assert not tree.same(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]))
    assert not tree.same(torch.ones(2), torch.ones(3))


def test_absence_is_one_object_and_false():
    assert copy.deepcopy([ABSENT])[0] is ABSENT
    assert not ABSENT
    assert repr(ABSENT) == 'not there'


def test_a_table_forgets_a_value_and_what_is_in_it():
    table = {('a',): 1, ('a', 'b'): 2, ('ab',): 3}
    tree.forget_below(table, ('a',))
    assert table == {('ab',): 3}


def test_a_part_is_known_by_its_class():
    from hybridcls.models.heads import ArcFaceHead, MarginHead

    head = dict(type='ArcFaceHead')
    assert tree.class_of('MODELS', head) is ArcFaceHead
    assert tree.is_a('MODELS', head, MarginHead)
    assert tree.is_a('MODELS', dict(type=ArcFaceHead), MarginHead)
    assert not tree.is_a('MODELS', dict(type='LinearHead'), MarginHead)
    assert not tree.is_a('MODELS', dict(type='NoSuchHead'), nn.Module)
    assert not tree.is_a('MODELS', 'ArcFaceHead', MarginHead)
    assert tree.takes('MODELS', head, 'margin')
    assert not tree.takes('MODELS', head, 'no_such_key')
