"""Tables of what is built from dict arguments of classes, for dicts without a type."""

import inspect
import typing
from importlib import import_module
from typing import Any

__all__ = [
    'DEFAULT_TYPES', 'DICT_ARGUMENTS', 'HANDED_ON', 'REGISTRIES', 'entry_of', 'hands_on', 'is_named', 'load',
    'timm_class',
]  # fmt: skip

# Arguments that are dicts without a type, and who is called with them; '+' stands for the class that was found above.
DICT_ARGUMENTS = {
    ('hybridcls.models.backbones.HybridBackbone', 'use_cbam'): ('hybridcls.models.modules.CBAM', ()),
    ('hybridcls.models.backbones.HybridBackbone', 'token_learner_tokens'): (
        'hybridcls.models.modules.TokenLearner',
        ('after_block',),
    ),
    ('hybridcls.models.backbones.HybridBackbone', 'lora_rank'): (
        'hybridcls.models.adapters.LoRASettings',
        ('cnn', 'vit'),
    ),
    ('hybridcls.models.classifiers.HybridClassifier', 'grad_cache'): (
        'hybridcls.replay.gradient_cache.GradientCache',
        (),
    ),
    ('hybridcls.models.classifiers.HybridClassifier', 'train_cfg'): ('mmpretrain.models.RandomBatchAugment', ()),
    ('mmpretrain.models.ImageClassifier', 'train_cfg'): ('mmpretrain.models.RandomBatchAugment', ()),
    ('mmpretrain.models.ClsDataPreprocessor', 'batch_augments'): ('mmpretrain.models.RandomBatchAugment', ()),
}
# Arguments that name a class, which gets what its owner does not take: its registry and its default.
HANDED_ON = {('mmengine.hooks.EMAHook', 'ema_type'): ('MODELS', 'ExponentialMovingAverage')}
# The class of a dict that may leave its type out.
DEFAULT_TYPES = {
    ('hybridcls.models.classifiers.HybridClassifier', 'data_preprocessor'): 'HybridDataPreprocessor',
    ('mmpretrain.models.ImageClassifier', 'data_preprocessor'): 'ClsDataPreprocessor',
    ('mmpretrain.models.ImageToImageRetriever', 'data_preprocessor'): 'ClsDataPreprocessor',
    ('mmpretrain.models.BaseSelfSupervisor', 'data_preprocessor'): 'SelfSupDataPreprocessor',
    ('hybridcls.models.heads.SupConHead', 'projection'): 'ProjectionMLP',
    ('hybridcls.models.heads.SupConHead', 'loss'): 'SupConLoss',
    ('hybridcls.models.heads.EvidentialHead', 'loss'): 'EvidentialLoss',
}
# Arguments whose dicts are of another kind than the class that takes them.
REGISTRIES = dict(
    augments='BATCH_AUGMENTS',
    batch_sampler='DATA_SAMPLERS',
    collate_fn='FUNCTIONS',
    init_cfg='WEIGHT_INITIALIZERS',
    metric='METRICS',
    metrics='METRICS',
    optimizer='OPTIMIZERS',
    policies='TRANSFORMS',
    sampler='DATA_SAMPLERS',
    stages='OPTIM_STAGES',
    teacher='MODELS',
    transforms='TRANSFORMS',
    vis_backends='VISBACKENDS',
    worker_init_fn='FUNCTIONS',
)


def entry_of(table: dict[tuple[str, str], Any], kind: Any, key: str) -> Any:
    """Return a table's entry for an argument of a class, or of one of its base classes."""
    return next((value for (name, its_key), value in table.items() if its_key == key and is_named(kind, name)), None)


def is_named(kind: Any, name: str) -> bool:
    """Return whether a class is, or is derived from, the class with a dotted name."""
    return inspect.isclass(kind) and issubclass(kind, load(name))


def load(name: str) -> Any:
    """Import the object with a dotted name."""
    module, _, attribute = name.rpartition('.')
    return getattr(import_module(module), attribute)


def hands_on(owner: Any) -> bool:
    """Return whether a class is known to build its dict arguments unchanged."""
    module = getattr(owner, '__module__', '')
    is_known = module.split('.')[0] in ('hybridcls', 'mmcv', 'mmengine', 'mmpretrain', 'torch')
    return is_known and not module.startswith('mmpretrain.models.multimodal.')


def timm_class(name: Any) -> Any:
    """Return the class of a timm model, if its entry point declares it."""
    import timm
    from timm.models import get_deprecated_models, model_entrypoint

    if not isinstance(name, str) or ':' in name or not timm.is_model(name):
        return None
    name = (get_deprecated_models().get(name) or name).split('.')[0]
    found = typing.get_type_hints(model_entrypoint(name)).get('return')
    return found if inspect.isclass(found) else None
