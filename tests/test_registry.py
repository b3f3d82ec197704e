"""Registries: names are found from the configs of any package."""

import logging

import mmengine.registry
import pytest
from mmengine.logging import MMLogger, print_log
from mmengine.registry import DefaultScope, Registry

from hybridcls import registry
from hybridcls.compat.mmengine import instances_of
from hybridcls.engine.optim import ComposedOptimWrapper


@pytest.mark.parametrize('scope', ['hybridcls', 'mmpretrain', 'mmengine'])
def test_our_prefix_in_any_scope(scope):
    with DefaultScope.overwrite_default_scope(scope):
        for name in ('ResizeEdge', 'ResizeToSize', 'RandomFlip'):  # of mmpretrain, ours, of mmcv
            assert registry.TRANSFORMS.get(f'hybridcls.{name}') is registry.TRANSFORMS.get(name)
            assert f'hybridcls.{name}' in registry.TRANSFORMS
            assert f'hybridcls.hybridcls.{name}' not in registry.TRANSFORMS


@pytest.mark.parametrize('kind', ['OPTIM_WRAPPERS', 'MODELS', 'HOOKS', 'OPTIM_WRAPPER_CONSTRUCTORS', 'STRATEGIES'])
def test_our_scope_is_known_to_mmengines_root(kind):
    root = getattr(mmengine.registry, kind)
    assert root.children['hybridcls'] is getattr(registry, kind)


def test_scope_prefix_from_another_package():
    root = mmengine.registry.OPTIM_WRAPPERS
    other = Registry(root.name, parent=root, scope='another_package')
    try:
        assert other.get('hybridcls.ComposedOptimWrapper') is ComposedOptimWrapper
        assert root.get('hybridcls.ComposedOptimWrapper') is ComposedOptimWrapper
    finally:
        del root.children['another_package']


def test_bare_names_of_mmpretrain():
    assert registry.MODELS.get('ImageClassifier') is registry.MODELS.get('mmpretrain.ImageClassifier')


@pytest.mark.parametrize(
    ('kind', 'ours', 'mmpretrains', 'mmengines'),
    [
        ('MODELS', 'DHAFusion', 'ImageClassifier', 'BaseTTAModel'),
        ('DATASETS', 'Digits', 'CustomDataset', 'RepeatDataset'),
        ('TRANSFORMS', 'ResizeToSize', 'ResizeEdge', 'RandomFlip'),
        ('HOOKS', 'TransferHook', 'SetAdaptiveMarginsHook', 'IterTimerHook'),
        ('METRICS', 'KNNAccuracy', 'ScienceQAMetric', None),
        ('OPTIM_WRAPPERS', 'ComposedOptimWrapper', None, 'OptimWrapper'),
        ('DATA_SAMPLERS', 'PKSampler', 'RepeatAugSampler', 'DefaultSampler'),
        ('OPTIMIZERS', None, 'Lamb', 'AdamW'),
    ],
)
def test_bare_names_are_ours_then_mmpretrains_then_mmengines(kind, ours, mmpretrains, mmengines):
    known = getattr(registry, kind)
    for name, package in ((ours, 'hybridcls'), (mmpretrains, 'mmpretrain'), (mmengines, ('mmengine', 'mmcv', 'torch'))):
        if name is not None:
            assert known.get(name).__module__.split('.')[0] in package
            assert name in known


def test_class_of_the_user_with_the_same_name():
    assert registry.HOOKS.get('CheckpointHook').__module__.startswith('hybridcls.')
    assert registry.HOOKS.get('mmengine.CheckpointHook').__module__.startswith('mmengine.')


@pytest.mark.parametrize(
    ('kind', 'name', 'message'),
    [
        ('MODELS', 'DHAFusoin', "DHAFusoin is not in the hybridcls::model registry. Did you mean 'DHAFusion'"),
        ('MODELS', 'hybridcls.DHAFusoin', "Did you mean 'DHAFusion'"),
        ('MODELS', 'imageclassifier', "Did you mean 'ImageClassifier'"),  # of a parent
        ('MODELS', 'PKSampler', 'PKSampler is a data sampler, not a model: is it under the right key'),
        ('OPTIM_STAGES', 'Lookahed', "Did you mean 'Lookahead'"),
        ('HOOKS', 'Quux', 'The registry has .* names; to add your own, set custom_imports'),
    ],
)
def test_unknown_names(kind, name, message):
    for ask in (lambda known: known.get(name), lambda known: known.build(dict(type=name))):
        with pytest.raises(KeyError, match=message) as error:
            ask(getattr(registry, kind))
        assert '\\n' not in str(error.value)  # a sentence, not a quoted string
    assert name not in getattr(registry, kind)


def test_missing_import_of_a_plugin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'projects' / 'mine'
    folder.mkdir(parents=True)
    (folder / 'neck.py').write_text('import torch\n\n\nclass NeckOfMine(torch.nn.Module):\n    pass\n')
    with pytest.raises(
        KeyError,
        match=r'neck.py:4 defines NeckOfMine, but it is not registered '
        r"here: add custom_imports = dict\(imports=\['projects.mine.neck'\]",
    ):
        registry.MODELS.build(dict(type='NeckOfMine'))


def test_defaults_of_our_classes_are_found_from_a_config_of_another_package():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        head = mmengine.registry.MODELS.build(dict(type='hybridcls.ArcFaceHead', num_classes=2, in_channels=4))
        assert type(head.margin_function) is registry.MODELS.get('hybridcls.ArcFace')
        # What that config writes bare is mmpretrain's first.
        assert registry.HOOKS.class_of(dict(type='EMAHook')) is registry.HOOKS.get('mmpretrain.EMAHook')
        assert registry.MODELS.class_of(dict(type='LinearHead')).__module__.startswith('hybridcls.')
        assert DefaultScope.get_current_instance().scope_name == 'mmpretrain'
    assert registry.MODELS.class_of(dict(type=dict)) is dict


def test_unknown_names_from_another_scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'), pytest.raises(KeyError, match="Did you mean 'DHAFusion'"):
        registry.MODELS.build(dict(type='DHAFusoin'))


class Filled:
    def __init__(self, num_classes, in_channels=None, depth=1):
        self.seen = (num_classes, in_channels, depth)


def test_filled_or_given_values_are_kept():
    part = registry.MODELS.build_filled(dict(type=Filled, num_classes=3), in_channels=8, num_classes=5, width=2)
    assert part.seen == (3, 8, 1)  # what is given stays, what the class does not take is left out
    assert (part.num_classes, part.in_channels) == (3, 8)
    assert not hasattr(part, 'width')
    assert registry.MODELS.build_filled(dict(type=Filled, num_classes=None), num_classes=5).num_classes == 5


class Parent:
    def __init__(self, fusion_dim, depth=3):
        if depth < 0:
            raise TypeError('depth')


class Child(Parent):
    def __init__(self, gate=True, **kwargs):
        super().__init__(**kwargs)


@pytest.mark.parametrize('kind', [Parent, Child])
def test_a_key_that_a_class_does_not_take_is_answered_with_near_ones(kind):
    with pytest.raises(TypeError) as raised:
        registry.MODELS.build(dict(type=kind, fusion_dm=3))
    assert str(raised.value).startswith(f"{kind.__name__}: unknown key 'fusion_dm'. Did you mean 'fusion_dim'?")
    for argument in ('fusion_dim', 'depth'):
        assert argument in str(raised.value)


def test_another_type_error_of_a_constructor_stays_what_it_is():
    with pytest.raises(TypeError, match=r'^depth$'):
        registry.MODELS.build(dict(type=Parent, fusion_dim=3, depth=-1))


def test_a_dict_without_type_is_answered():
    with pytest.raises(KeyError) as raised:
        registry.MODELS.build(dict(depth=3))
    sentence = "registry 'model' = {'depth': 3} has no 'type', so nothing can be built from it."
    assert str(raised.value) == sentence
    with pytest.raises(KeyError) as raised:  # a config that changes one key of a constructor's default
        registry.MODELS.build(dict(type=Builder, loss=dict(depth=3)))
    advice = 'A dict for a key of Builder replaces its default as a whole: write the type, too.'
    assert str(raised.value) == f'Builder: {sentence} {advice}'
    with pytest.raises(KeyError) as raised:
        registry.MODELS.build(dict(depth=3))
    assert str(raised.value) == sentence  # what failed before is no longer being built


class Builder:
    def __init__(self, loss):
        registry.MODELS.build(loss)


def test_a_logger_that_imports_make_is_heard_afterwards(capsys):
    loggers = instances_of(MMLogger)
    before = dict(loggers)
    loggers.clear()
    try:
        registry.HintingRegistry('thing', scope='hybridcls', locations=['json']).import_from_location()
        print_log('a warning', 'current', level=logging.WARNING)
    finally:
        loggers.clear()
        loggers.update(before)
    assert 'a warning' in capsys.readouterr().out
