"""Build the trained model from a checkpoint alone, with everything that predictions need."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Optional, Union

from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import FUNCTIONS as _COLLATES
from mmengine.registry import DefaultScope
from torch import nn

from hybridcls.checkpoint_reading import read_checkpoint, weights_of
from hybridcls.checks import check_file, listed
from hybridcls.datasets.dataset_parts import keep_version, loaders_of
from hybridcls.datasets.transforms.load_image import LoadImage
from hybridcls.engine.checkpoints.find_checkpoint import FoundCheckpoint, find_checkpoint
from hybridcls.engine.checkpoints.weight_match import check_every_weight
from hybridcls.engine.config.checkpoint_config import (
    check_types,
    config_of_checkpoint,
    follow_custom_imports,
    without_start,
)
from hybridcls.engine.config.tree import is_a
from hybridcls.models.adapters import add_token_merging
from hybridcls.models.adapters.lora_files import adapters_meta, holds_adapters, load_adapters
from hybridcls.models.classifiers import EnsembleClassifier
from hybridcls.models.weights.timm_weights import fit_timm_weights
from hybridcls.registry import FUNCTIONS, MODELS, TRANSFORMS
from hybridcls.structures import ClassNames, recorded_compatible, recorded_version

from .random_init import without_random_init

__all__ = ['Source', 'TrainedModel', 'class_names_of', 'read_trained_model']

Source = Union[str, Path, Sequence[Union[str, Path]]]

_ADVICE = 'Or name the config of your training, which imports it: --config FILE (in Python: config=...).'


@dataclass
class TrainedModel:
    """A model with its weights, in eval mode, and the test pipeline of its images.

    Args:
        model (nn.Module): The classifier, on the CPU.
        cfg (Config): The config of its training.
        classes (ClassNames, optional): The names of its classes; None if neither the checkpoint nor the config says.
        pipeline (Compose): The test's transforms, from ``img_path`` or ``img`` to packed inputs.
        collate (Callable): What makes a batch of them in a test.
        batch_size (int): That of a test.
        found (FoundCheckpoint): Where the weights come from.
        compatible_with (list[dict]): Old models whose index its embeddings can search, as the checkpoint says
            (:func:`~hybridcls.structures.recorded_compatible`).
    """

    model: nn.Module
    cfg: Config
    classes: Optional[ClassNames]
    pipeline: Compose
    collate: Callable[[Sequence[Any]], Any]
    batch_size: int
    found: FoundCheckpoint
    compatible_with: list[dict[str, Any]] = field(default_factory=list)


def class_names_of(trained: TrainedModel, head: Optional[nn.Module] = None) -> tuple[str, ...]:
    """Return the class names of a head (default: the model's head); numbers where no names are known.

    Empty if the head has no classes (SupCon).
    """
    members = getattr(trained.model, 'members', None)
    number = getattr(getattr(trained.model, 'head', None) if head is None else head, 'num_classes', None)
    if number is None and members is not None:
        number = getattr(members[0].head, 'num_classes', None)
    if number is None:
        return ()
    known = trained.classes
    return known.names if known is not None and len(known.names) == number else tuple(map(str, range(number)))


def read_trained_model(source: Source, config: Union[str, Path, None] = None) -> TrainedModel:
    """Build the model of a checkpoint as a test does; no other file of the training is needed.

    Args:
        source: A checkpoint or a work dir (:func:`~hybridcls.engine.checkpoints.find_checkpoint`); several, as the
            members of an ensemble; a folder of ``tools/adapters.py save``; or a config whose ``model.members`` name
            their checkpoints.
        config (str | Path, optional): The config for a checkpoint that holds none, such as bare weights.

    Raises:
        FileNotFoundError: If there is no such file, or no checkpoint in a folder.
        ValueError: If a checkpoint is damaged, holds no config, or has other weights than the model of its config.
        UnsafeConfigError: If the config would run code.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _ensemble_of(list(source), config)
    path = os.path.expanduser(os.fspath(source))
    if path.endswith(('.py', '.yml', '.yaml', '.json')):
        return _ensemble_in(path)
    if holds_adapters(path):
        return _with_adapters(path, config)
    found = find_checkpoint(path)
    checkpoint = read_checkpoint(found.path)
    cfg = config_of_checkpoint(checkpoint, found.path) if config is None else _written_config(config, found.path)
    weights: Mapping[str, Any] = weights_of(checkpoint, found.path)
    classes = ClassNames.of_checkpoint(checkpoint)
    has_members = any(name.startswith('members.') for name in weights)
    trained = _assemble(cfg, found, classes, recorded_version(checkpoint), config is None, has_members)
    trained.compatible_with = recorded_compatible(checkpoint)
    del checkpoint
    model = trained.model
    weights, _ = fit_timm_weights(model, weights)
    check_every_weight(model, weights, found.path)
    model.load_state_dict(weights, strict=False)
    _merge_tokens(model, cfg)
    return trained


def _assemble(
    cfg: Config,
    found: FoundCheckpoint,
    classes: Optional[ClassNames],
    version: Optional[int],
    check: bool,
    has_members: bool = False,
    build_weights: bool = False,
) -> TrainedModel:
    """Build the model and the pipeline of a config, without loading the checkpoint's weights."""
    loader, dataset = _test_data(cfg, found.path)
    scope, model_cfg = cfg.get('default_scope') or 'hybridcls', dict(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    collate = loader.get('collate_fn') or dict(type='pseudo_collate')
    if not build_weights:
        model_cfg = without_start(model_cfg, has_members)
    if check:
        follow_custom_imports(cfg, found.path)
        parts = dict(default_scope=scope, model=model_cfg, pipeline=dataset['pipeline'], collate=collate)
        check_types(parts, found.path, advice=_ADVICE)
    with DefaultScope.overwrite_default_scope(scope):
        pipeline = Compose([TRANSFORMS.build(step) for step in dataset['pipeline']])
        with without_random_init(not build_weights):
            model = MODELS.build(model_cfg).eval()
        arguments = dict(collate)
        kind = arguments.pop('type')
        # What mmengine registers is there already; to import all places of functions takes a second.
        function = _COLLATES.module_dict.get(kind) or FUNCTIONS.get(kind)
    version = getattr(model, 'preprocessing_version', None) or version
    loaders = list(loaders_of(pipeline))
    if not loaders:
        pipeline.transforms.insert(0, LoadImage())  # of a dataset whose images are in memory
        loaders = list(loaders_of(pipeline))
    keep_version(loaders, version)
    return TrainedModel(
        model=model,
        cfg=cfg,
        classes=classes or getattr(model, 'class_names', None) or ClassNames.of(dataset.get('metainfo')),
        pipeline=pipeline,
        collate=partial(function, **arguments),
        batch_size=loader.get('batch_size') or 1,
        found=found,
    )


def _test_data(cfg: Config, path: str) -> tuple[Mapping, Mapping]:
    """Return the config of the test dataloader (or else the validation's), and its dataset with a pipeline."""
    for key in ('test_dataloader', 'val_dataloader'):
        if isinstance(cfg.get(key), Mapping):
            for dataset in _datasets_in(cfg[key].get('dataset')):
                return cfg[key], dataset
    raise ValueError(
        f'{path}: its config has neither test_dataloader nor val_dataloader with a pipeline, so it is unknown how to '
        'read images. Name a config that has one: --config FILE (in Python: config=...).'
    )


def _datasets_in(dataset: Any) -> Iterator[Mapping]:
    """Yield the configs of datasets with a pipeline, those inside wrappers included."""
    if not isinstance(dataset, Mapping):
        return
    if dataset.get('pipeline'):
        yield dataset
    for inside in [*(dataset.get('datasets') or ()), dataset.get('dataset')]:
        yield from _datasets_in(inside)


def _merge_tokens(model: nn.Module, cfg: Config) -> None:
    """Apply the token merging that a TokenMergingHook applies in a test."""
    for hook in cfg.get('custom_hooks') or ():
        if isinstance(hook, Mapping) and 'token_merging_ratio' in hook:
            from hybridcls.engine.hooks import TokenMergingHook
            from hybridcls.registry import HOOKS

            if is_a('HOOKS', hook, TokenMergingHook) and 'test' in (built := HOOKS.build(dict(hook))).when:
                add_token_merging(
                    model,
                    built.token_merging_ratio,
                    built.proportional_attention,
                    unmerged_order=built.unmerged_order,
                )


def _written_config(config: Union[str, Path], checkpoint: Optional[str]) -> Config:
    """Read a config file, which is executed as configs are, and take its number of classes from the checkpoint."""
    from hybridcls.engine.config import apply, load_config
    from hybridcls.engine.config.data_defaults import data_defaults
    from hybridcls.engine.config.num_classes import num_classes

    cfg = load_config(config)
    if cfg.get('model') is None:
        names = ', '.join(str(phase.get('config')) for phase in cfg.get('phases') or [] if isinstance(phase, Mapping))
        advice = f'Pass the config of a phase: {names}.' if names else 'Pass the config of the training.'
        raise ValueError(f'predict: expected a config with a model, got {config}. {advice}')
    apply(cfg, data_defaults, 1, True)  # as a test does: batches, above all
    apply(cfg, num_classes, checkpoint)
    return cfg


def _ensemble_in(config: str) -> TrainedModel:
    """Build the EnsembleClassifier of a config."""
    check_file('predict', 'config', config)
    from hybridcls.engine.config import load_config

    members = (load_config(config).get('model') or {}).get('members')
    if not members:  # before its dataset is built, which may not even be complete
        raise ValueError(
            f'predict: expected a checkpoint or a work dir, got the config {config}. Only the config of an '
            'EnsembleClassifier, whose members name their checkpoints, is enough; for others, pass the checkpoint.'
        )
    cfg = _written_config(config, None)
    found = FoundCheckpoint(config, f'Ensemble of {len(members)} members: {config}.')
    return _assemble(cfg, found, None, None, check=False, build_weights=True)


def _ensemble_of(sources: list, config: Union[str, Path, None]) -> TrainedModel:
    """Build an EnsembleClassifier of several checkpoints, each with its own stored config."""
    if not sources:
        raise ValueError('predict: expected a checkpoint, got an empty list.')
    members = [read_trained_model(one, config) for one in sources]
    if len(members) == 1:
        return members[0]
    first = members[0]
    paths = [member.found.path for member in members]
    for member in members:
        if repr(member.pipeline) != repr(first.pipeline):
            raise ValueError(
                f'predict: expected members that read images alike, got {member.pipeline} of {member.found.path} and '
                f'{first.pipeline} of {first.found.path}.'
            )
        vars(member.model)['class_names'] = member.classes
    found = FoundCheckpoint(listed(paths, 3), f'Ensemble of {len(members)} members: {listed(paths, 5)}.')
    model = EnsembleClassifier([member.model for member in members]).eval()
    return replace(first, model=model, found=found)


def _with_adapters(folder: str, config: Union[str, Path, None]) -> TrainedModel:
    """Build the model of saved adapters on the weights that their training started from."""
    meta = adapters_meta(folder)
    if config is None and not meta:
        raise FileNotFoundError(
            f'predict: expected the config and the class names beside the adapters in {folder}, got none, because an '
            'older version saved them. Save them again (tools/adapters.py save), or name the config of the training: '
            '--config FILE (in Python: config=...).'
        )
    checkpoint = dict(meta=meta)
    cfg = config_of_checkpoint(checkpoint, folder) if config is None else _written_config(config, None)
    found = FoundCheckpoint(folder, f'Adapters {folder}, on the weights that their training started from.')
    try:
        trained = _assemble(
            cfg,
            found,
            ClassNames.of_checkpoint(checkpoint),
            recorded_version(checkpoint),
            check=config is None,
            build_weights=True,
        )
    except OSError as error:
        raise FileNotFoundError(
            f'predict: the adapters in {folder} need the weights that their training started from, which cannot be '
            f'read: {error}'
        ) from error
    start = cfg.get('load_from')
    if start or not all(getattr(part, 'has_weights', True) for part in trained.model.modules()):
        raise ValueError(
            'predict: expected adapters of a training that started only from pretrained or checkpoint_path, got '
            f'{folder}, which started from {start or "random weights"}. Take its checkpoint, or merge the adapters '
            'into one (tools/adapters.py merge).'
        )
    load_adapters(trained.model, folder)
    _merge_tokens(trained.model, cfg)
    return trained
