"""A grandchild of a registry of mmengine's is found by its scope."""

from mmengine.registry import Registry

from hybridcls.compat.mmengine import add_to_root


def test_a_grandchild_is_found_from_the_root():
    root = Registry('thing', scope='root')
    child = Registry('thing', parent=root, scope='child')
    grandchild = Registry('thing', parent=child, scope='grandchild')
    grandchild.register_module('X', module=dict)
    assert root.get('grandchild.X') is None
    add_to_root(grandchild)
    assert root.get('grandchild.X') is dict
    add_to_root(root)  # has no parents: nothing happens
