"""The contract of every registered class, as one table over all registries."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope, Registry
from torch import nn
from torch.utils.data import DataLoader

from hybridcls import registry as registries
from hybridcls.datasets import Digits
from hybridcls.datasets.transforms import PackInputs

BACKBONE = dict(type='TimmStream', model_name='test_resnet')
PARTS = dict(backbone=BACKBONE, head=dict(type='LinearHead', num_classes=2))


def optimizer():
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)


def sampler():
    return DefaultSampler(Digits(indices=20))


def runner():
    return SimpleNamespace(visualizer=SimpleNamespace())


def loader():
    digits = Digits(indices=4, pipeline=[PackInputs()])
    return DataLoader(digits, sampler=DefaultSampler(digits))


def evaluator():
    return Evaluator([])


# What cannot be built without arguments. A new plugin that needs some is entered here.
ARGUMENTS = {
    'AdaFaceHead': dict(num_classes=2, in_channels=4),
    'ArcFaceHead': dict(num_classes=2, in_channels=4),
    'CBAM': dict(channels=4),
    'CalibrationHook': dict(checkpoint='epoch_1.pth'),
    'CenterCropToSize': dict(img_size=32),
    'ClassWise': dict(num_classes=2, base=dict(type='CosFace'), margins=[0.1, 0.2]),
    'ComposedOptimWrapper': dict(optimizer=optimizer),
    'ConcatFusion': dict(in_channels=(4, 4)),
    'ConcatDataset': dict(datasets=[dict(type='Digits', indices=3)]),
    'CosFaceHead': dict(num_classes=2, in_channels=4),
    'DHAFusion': dict(in_channels=(4, 4)),
    'DynamicHeadAttention': dict(in_channels=(4, 4)),
    'DistillationHook': dict(teacher='configs/digits/ce_hybrid.py'),
    'DumpResults': dict(out_file_path='predictions.pkl'),
    'EarlyStoppingHook': dict(monitor='accuracy/top1'),
    'EmbeddingBankHook': dict(dataloader=dict(batch_size=2, dataset=dict(type='Digits'))),
    'GalleryHook': dict(dataloader=dict(batch_size=2, dataset=dict(type='Digits'))),
    'RetrievalAveragePrecision': dict(topk=2),
    'RetrievalRecall': dict(topk=2),
    'SubcenterCleanupHook': dict(dataloader=dict(batch_size=2, dataset=dict(type='Digits'))),
    'CorruptionTestLoop': dict(runner=runner, dataloader=loader, evaluator=evaluator),
    'EnsembleClassifier': dict(members=[PARTS, PARTS]),
    'EvidentialHead': dict(num_classes=2, in_channels=4),
    'FriendlySAMOptimWrapper': dict(optimizer=optimizer),
    'GCOptimWrapper': dict(optimizer=optimizer),
    'HeadFirstHook': dict(fit=False),
    'HybridBackbone': dict(cnn=dict(model_name='test_resnet')),
    'HybridClassifier': PARTS,
    'ImageFolder': dict(data_root='nowhere', lazy_init=True),
    'HybridOptimWrapperConstructor': dict(optim_wrapper_cfg=dict(optimizer=dict(type='SGD', lr=0.1))),
    'LinearHead': dict(num_classes=2, in_channels=4),
    'HeadMetric': dict(metric=dict(type='Accuracy')),
    'LookaheadOptimWrapper': dict(optimizer=optimizer),
    'MCDropoutClassifier': dict(PARTS, dropout=0.1),
    'MSAMOptimWrapper': dict(optimizer=optimizer),
    'MarginHead': dict(num_classes=2, in_channels=4),
    'MetricOf': dict(metric=dict(type='Accuracy')),  # the name of HeadMetric in 0.1
    'MixtureTTA': dict(module=dict(type='HybridClassifier', **PARTS)),
    'MultiHead': dict(heads=dict(one=dict(type='LinearHead', num_classes=2)), in_channels=4),
    'MultiLabelHead': dict(num_classes=2, in_channels=4),
    'PKSampler': dict(sampler=sampler, batch_size=4, images_per_class=2),
    'ProjectionMLP': dict(in_channels=4),
    'ImageViews': dict(num_views=1, transforms=[[]]),
    'RandAugment': dict(policies=[dict(type='mmpretrain.Invert')], num_policies=1, magnitude_level=9),
    'RandomCropToSize': dict(img_size=32),
    'ReduceOnPlateauLR': dict(optimizer=optimizer),
    'ReduceOnPlateauMomentum': dict(optimizer=optimizer),
    'ReduceOnPlateauParamScheduler': dict(optimizer=optimizer, param_name='lr'),
    'ResizeToSize': dict(img_size=32),
    'SAMOptimWrapper': dict(optimizer=optimizer),
    'SumFusion': dict(in_channels=(4, 4)),
    'SupConHead': dict(in_channels=4),
    'SwitchRecipeHook': dict(schedule=[dict(action_epoch=2)]),
    'TimmStream': dict(model_name='test_resnet'),
    'TokenFuser': dict(channels=4),
    'TokenLearner': dict(channels=4),
    'TokenMergingHook': dict(token_merging_ratio=0.5),
}


def plugins():
    """The registry's constant, the name and the class of everything that hybridcls registers."""
    found = []
    for constant in registries.__all__:
        registry = getattr(registries, constant)
        registry.import_from_location()
        found += [
            (constant, name, cls)
            for name, cls in registry.module_dict.items()
            if cls.__module__.split('.')[0] == 'hybridcls'
        ]
    return found


PLUGINS = plugins()
BUILDABLE = [plugin for plugin in PLUGINS if inspect.isclass(plugin[2])]
every_plugin = pytest.mark.parametrize(('constant', 'name', 'cls'), PLUGINS, ids=[name for _, name, _ in PLUGINS])
buildable = pytest.mark.parametrize(('constant', 'name', 'cls'), BUILDABLE, ids=[name for _, name, _ in BUILDABLE])


EXTRAS = {'FeatureOODMetric': 'pytorch_ood'}
"""Packages that a part needs, and that may be absent."""


def arguments_of(name):
    return {key: value() if inspect.isfunction(value) else value for key, value in ARGUMENTS.get(name, {}).items()}


def root_of(registry):
    while registry.parent is not None:
        registry = registry.parent
    return registry


def test_table_covers_every_class():
    names = {name for _, name, _ in PLUGINS}
    assert len(names) > 40
    assert set(ARGUMENTS) <= names


@every_plugin
def test_every_class_is_documented(constant, name, cls):
    assert cls.__doc__, f'{name} has no docstring.'
    if not cls.__doc__.strip().split('\n')[0].strip().endswith(('.', ':')):
        pytest.fail(f'the docstring of {name} does not begin with a sentence.')
    if inspect.isclass(cls) and '__init__' not in vars(cls):
        return  # the arguments are those of a class it extends
    signature = inspect.signature(cls)
    named = [p.name for p in signature.parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if named:
        assert 'Args:' in cls.__doc__, f'the docstring of {name} has no Args.'
    missing = [key for key in named if key not in cls.__doc__]
    assert not missing, f'the docstring of {name} does not document: {", ".join(missing)}.'


@every_plugin
def test_found_by_bare_and_by_scoped_name(constant, name, cls):
    registry = getattr(registries, constant)
    assert registry.get(name) is cls
    assert registry.get(f'hybridcls.{name}') is cls


@buildable
def test_built_from_our_scope_and_from_mmpretrain(constant, name, cls):
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    registry = getattr(registries, constant)
    with DefaultScope.overwrite_default_scope('hybridcls'):
        assert type(registry.build(dict(type=name, **arguments_of(name)))) is cls
    if registry.parent is None:
        return  # no other package has this registry
    for scope, start in (('mmpretrain', registry.parent), ('mmengine', root_of(registry))):
        with DefaultScope.overwrite_default_scope(scope):
            assert type(start.build(dict(type=f'hybridcls.{name}', **arguments_of(name)))) is cls


@pytest.mark.parametrize('constant', registries.__all__)
def test_one_registry_of_each_kind(constant):
    registry = getattr(registries, constant)
    assert isinstance(registry, Registry)
    assert registry.scope == 'hybridcls'
    assert registry is root_of(registry).children.get('hybridcls', registry)


def test_every_constant_is_listed():
    constants = {name for name, value in vars(registries).items() if isinstance(value, Registry)}
    assert constants == set(registries.__all__)
