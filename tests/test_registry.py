"""Names are found from the configs of any package."""
import mmengine.registry
import pytest
from mmengine.registry import Registry

from hybridcls import registry
from hybridcls.engine.optim import ComposedOptimWrapper


@pytest.mark.parametrize('kind', ['OPTIM_WRAPPERS', 'MODELS', 'HOOKS', 'OPTIM_WRAPPER_CONSTRUCTORS', 'STRATEGIES'])
def test_our_scope_is_known_to_mmengines_root(kind):
    root = getattr(mmengine.registry, kind)
    assert root.children['hybridcls'] is getattr(registry, kind)


def test_another_package_finds_ours_by_its_scope():
    root = mmengine.registry.OPTIM_WRAPPERS
    other = Registry(root.name, parent=root, scope='another_package')
    try:
        assert other.get('hybridcls.ComposedOptimWrapper') is ComposedOptimWrapper
        assert root.get('hybridcls.ComposedOptimWrapper') is ComposedOptimWrapper
    finally:
        del root.children['another_package']


def test_bare_names_of_mmpretrain_are_still_found():
    assert registry.MODELS.get('ImageClassifier') is registry.MODELS.get('mmpretrain.ImageClassifier')
