"""The names that version 0.2 changed: one table for everything that still accepts an old spelling.

An old spelling works and warns once; version 0.3 takes it out. CHANGELOG lists the table, and a test compares the two.
"""

# ruff: noqa: E501 (a line a name)
import functools
import inspect
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

__all__ = [
    'COMMANDS', 'KEYS', 'METRICS', 'METRIC_KEYS', 'MODULES', 'NAMES', 'VALUES', 'Key', 'Value', 'keeps_old_spellings',
    'keys_of', 'new_dotted_name', 'new_metric_name', 'new_value', 'values_of', 'warn_of_value', 'warn_renamed',
    'with_new_metric_names',
]  # fmt: skip


class Key(NamedTuple):
    """A renamed argument.

    Args:
        owner (str): The class or function of hybridcls that takes it; classes derived from it do too.
        old (str): Its name in 0.1.
        new (str): Its name now.
        expected (str): What a value of the old key looks like, where not every value is one.
        fits (Callable): Whether a value is one of the old key.
    """

    owner: str
    old: str
    new: str
    expected: str = ''
    fits: Callable[[Any], bool] = lambda value: True


class Value(NamedTuple):
    """A value with a new spelling; in a list, each such item.

    Args:
        owner (str): As in :class:`Key`.
        key (str): The argument, by its new name.
        old (str): The spelling of 0.1.
        new (str): The spelling now.
    """

    owner: str
    key: str
    old: str
    new: str

    def replace(self, value: str) -> str:
        """Return the present spelling of any value."""
        return self.new if value == self.old else value


def _are_shares(value: Any) -> bool:
    """Return whether a value is a range of area shares, not a size in pixels."""
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(isinstance(one, (int, float)) and not isinstance(one, bool) and one <= 1 for one in value)
    )


KEYS = (
    Key('MarginHead', 'sub_centres', 'num_subcenters'),
    Key('ProjectionMLP', 'hidden', 'hid_channels'),
    Key('ProjectionMLP', 'out', 'out_channels'),
    Key('ProjectionMLP', 'layers', 'num_layers'),
    Key('ProjectionMLP', 'norm', 'norm_cfg'),
    Key('ComposedOptimWrapper', 'bad_loss', 'nonfinite_loss'),
    Key('ComposedOptimWrapper', 'most_bad_losses', 'max_skipped_updates'),
    Key(
        'RandomCropToSize',
        'scale',
        'crop_ratio_range',
        'two shares of the area of the image, such as (0.2, 1.0); the size in pixels is img_size',
        _are_shares,
    ),
    Key('cosine_logits', 'centres', 'class_weights'),
    Key('cosine_logits', 'sub_centres', 'num_subcenters'),
    Key('margin_cross_entropy', 'centres', 'class_weights'),
    Key('margin_cross_entropy', 'sub_centres', 'num_subcenters'),
    Key('sharded_cosine_logits', 'centres', 'class_weights'),
    Key('sharded_cosine_logits', 'sub_centres', 'num_subcenters'),
    Key('sharded_margin_cross_entropy', 'centres', 'class_weights'),
    Key('sharded_margin_cross_entropy', 'sub_centres', 'num_subcenters'),
    Key('softmax_stats', 'centres', 'class_weights'),
    Key('softmax_stats', 'sub_centres', 'num_subcenters'),
)

VALUES = (
    Value('ComposedOptimWrapper', 'nonfinite_loss', 'stop', 'raise'),
    Value('OODMetric', 'scores', 'max_softmax', 'least_confidence'),
    Value('SelectiveMetric', 'scores', 'max_softmax', 'least_confidence'),
)

METRICS = {
    'ood/auroc_max_softmax': 'ood/auroc_least_confidence',
    'ood/fpr95_max_softmax': 'ood/fpr95_least_confidence',
    'selective/aurc_max_softmax': 'selective/aurc_least_confidence',
    'selective/eaurc_max_softmax': 'selective/eaurc_least_confidence',
    'selective/risk50_max_softmax': 'selective/risk50_least_confidence',
}
"""Results of metrics, with the prefix and the number in the name that they have by default."""

METRIC_KEYS = ('save_best', 'monitor', 'greater_keys', 'less_keys')
"""Arguments of hooks and schedules that are names of such results."""

COMMANDS = {'tools/adapters.py fold': 'tools/adapters.py merge'}

MODULES = {
    'hybridcls.cli.build_reads': 'hybridcls.apis.build_reads',
    'hybridcls.engine.console': 'hybridcls.engine.runner.console',
    'hybridcls.engine.distributed': 'hybridcls.engine.runner.distributed',
    'hybridcls.engine.fsdp_strategy': 'hybridcls.engine.runner.fsdp_strategy',
    'hybridcls.engine.hooks.distillation_hook': 'hybridcls.engine.distillation.distillation_hook',
    'hybridcls.engine.model_classes': 'hybridcls.engine.config.model_classes',
    'hybridcls.engine.monitored_metric': 'hybridcls.engine.runner.monitored_metric',
    'hybridcls.engine.numbered_batches': 'hybridcls.engine.runner.numbered_batches',
    'hybridcls.engine.optim.bad_loss': 'hybridcls.engine.optim.update.nonfinite_loss',
    'hybridcls.engine.optim.clipping': 'hybridcls.engine.optim.update.clipping',
    'hybridcls.engine.optim.forward_call': 'hybridcls.replay.forward_call',
    'hybridcls.engine.optim.hybrid_optim_wrapper_constructor': 'hybridcls.engine.optim.groups.hybrid_optim_wrapper_constructor',
    'hybridcls.engine.optim.parameter_places': 'hybridcls.engine.optim.update.parameter_names',
    'hybridcls.engine.optim.precision': 'hybridcls.engine.optim.update.precision',
    'hybridcls.engine.optim.second_pass': 'hybridcls.engine.optim.update.micro_batch',
    'hybridcls.engine.optim.sharding': 'hybridcls.distributed.layouts',
    'hybridcls.engine.optim.stage_list': 'hybridcls.engine.optim.stages.stage_list',
    'hybridcls.engine.optim.wrapper_state': 'hybridcls.engine.optim.update.state_dict',
    'hybridcls.engine.phase_plan': 'hybridcls.engine.phases.plan',
    'hybridcls.engine.phase_record': 'hybridcls.engine.phases.record',
    'hybridcls.engine.phase_report': 'hybridcls.engine.phases.report',
    'hybridcls.engine.random_state': 'hybridcls.replay.random_state',
    'hybridcls.engine.reduce_on_plateau': 'hybridcls.engine.runner.reduce_on_plateau',
    'hybridcls.engine.resume_changes': 'hybridcls.engine.config.resume_changes',
    'hybridcls.engine.runner_instances': 'hybridcls.engine.runner.global_instances',
    'hybridcls.engine.signals': 'hybridcls.engine.runner.signals',
    'hybridcls.engine.teacher_model': 'hybridcls.engine.distillation.teacher_model',
    'hybridcls.engine.workers': 'hybridcls.engine.runner.workers',
    'hybridcls.evaluation.metric_of': 'hybridcls.evaluation.head_metric',
    'hybridcls.functional.adaptive_margin': 'hybridcls.functional.margins.adaptive_margin',
    'hybridcls.functional.angular_margin': 'hybridcls.functional.margins.angular_margin',
    'hybridcls.functional.class_margins': 'hybridcls.functional.margins.class_margins',
    'hybridcls.functional.class_sampling': 'hybridcls.functional.margins.class_sampling',
    'hybridcls.functional.class_statistics': 'hybridcls.functional.margins.streamed_softmax',
    'hybridcls.functional.contrast_log_sums': 'hybridcls.functional.contrastive.streamed_logsumexp',
    'hybridcls.functional.contrast_of_anchors': 'hybridcls.functional.contrastive.dense_supcon',
    'hybridcls.functional.dirichlet_uncertainty': 'hybridcls.functional.evidential.dirichlet_uncertainty',
    'hybridcls.functional.distillation_losses': 'hybridcls.functional.distillation.distillation_losses',
    'hybridcls.functional.evidence': 'hybridcls.functional.evidential.evidence',
    'hybridcls.functional.evidential_losses': 'hybridcls.functional.evidential.evidential_losses',
    'hybridcls.functional.gather': 'hybridcls.distributed.gather',
    'hybridcls.functional.margin_combination': 'hybridcls.functional.margins.margin_combination',
    'hybridcls.functional.margin_softmax': 'hybridcls.functional.margins.margin_softmax',
    'hybridcls.functional.mixture_uncertainty': 'hybridcls.functional.evidential.mixture_uncertainty',
    'hybridcls.functional.nearest_neighbours': 'hybridcls.functional.metrics.nearest_neighbours',
    'hybridcls.functional.new_zeros': 'hybridcls.functional.lazy_zeros',
    'hybridcls.functional.pairs_of_all': 'hybridcls.functional.metrics.pairs_of_all',
    'hybridcls.functional.rejection_scores': 'hybridcls.functional.metrics.ood_scores',
    'hybridcls.functional.retrieval_scores': 'hybridcls.functional.metrics.retrieval_scores',
    'hybridcls.functional.row_shard': 'hybridcls.distributed.row_shard',
    'hybridcls.functional.selective_prediction': 'hybridcls.functional.metrics.selective_prediction',
    'hybridcls.functional.sharded_softmax': 'hybridcls.distributed.sharded_softmax',
    'hybridcls.functional.supervised_contrast': 'hybridcls.functional.contrastive.supervised_contrast',
    'hybridcls.functional.token_matching': 'hybridcls.functional.tokens.token_matching',
    'hybridcls.functional.unit_vectors': 'hybridcls.functional.l2_normalize',
    'hybridcls.functional.verification_scores': 'hybridcls.functional.metrics.verification_scores',
    'hybridcls.models.adapters.lora_folding': 'hybridcls.models.adapters.lora_merging',
    'hybridcls.models.backbones.idle_adapters': 'hybridcls.models.adapters.adapters_without_gradient',
    'hybridcls.models.modules.adaface_margin': 'hybridcls.models.margins.adaface_margin',
    'hybridcls.models.modules.arcface_margin': 'hybridcls.models.margins.arcface_margin',
    'hybridcls.models.modules.class_wise_margin': 'hybridcls.models.margins.class_wise_margin',
    'hybridcls.models.modules.combined_margin': 'hybridcls.models.margins.combined_margin',
    'hybridcls.models.modules.cosface_margin': 'hybridcls.models.margins.cosface_margin',
    'hybridcls.models.modules.data_preprocessor': 'hybridcls.models.data_preprocessors.hybrid_data_preprocessor',
    'hybridcls.models.modules.feature_pooling': 'hybridcls.functional.tokens.feature_pooling',
    'hybridcls.models.modules.gradient_cache': 'hybridcls.replay.gradient_cache',
    'hybridcls.models.modules.layer_depths': 'hybridcls.compat.timm',
    'hybridcls.models.modules.image_range': 'hybridcls.models.data_preprocessors.image_range',
    'hybridcls.models.modules.loaded_weights': 'hybridcls.models.weights.loaded_weights',
    'hybridcls.models.modules.shape_probe': 'hybridcls.models.building.shape_probe',
    'hybridcls.models.modules.sharded_rows': 'hybridcls.distributed.sharded_parameters',
    'hybridcls.models.modules.timm_weights': 'hybridcls.models.weights.timm_weights',
}
"""Modules, by dotted name; what is in one has kept its name where ``NAMES`` does not say otherwise."""

NAMES = {
    'hybridcls.command_line.sentence_for': 'hybridcls.command_line.explain_error',
    'hybridcls.engine.checkpoints.files.WholeFileBackend': 'hybridcls.engine.checkpoints.files.AtomicLocalBackend',
    'hybridcls.engine.checkpoints.files.is_whole_checkpoint': 'hybridcls.engine.checkpoints.files.is_valid_checkpoint',
    'hybridcls.engine.checkpoints.files.newest_whole_checkpoint': 'hybridcls.engine.checkpoints.latest_valid_checkpoint',
    'hybridcls.engine.checkpoints.files.write_whole': 'hybridcls.engine.checkpoints.atomic_write',
    'hybridcls.engine.checkpoints.newest_whole_checkpoint': 'hybridcls.engine.checkpoints.latest_valid_checkpoint',
    'hybridcls.engine.checkpoints.write_whole': 'hybridcls.engine.checkpoints.atomic_write',
    'hybridcls.engine.hooks.DistillationHook': 'hybridcls.engine.distillation.DistillationHook',
    'hybridcls.engine.optim.BadLossError': 'hybridcls.engine.optim.NonFiniteLossError',
    'hybridcls.engine.optim.bad_loss.BadLossError': 'hybridcls.engine.optim.NonFiniteLossError',
    'hybridcls.engine.optim.bad_loss.BadLossGuard': 'hybridcls.engine.optim.update.nonfinite_loss.NonFiniteLossGuard',
    'hybridcls.engine.optim.forward_call.losses_of': 'hybridcls.engine.optim.update.losses.losses_of',
    'hybridcls.engine.optim.forward_call.total_loss': 'hybridcls.engine.optim.update.losses.total_loss',
    'hybridcls.engine.optim.forward_call.WanderingTensors': 'hybridcls.replay.MutableState',
    'hybridcls.engine.optim.second_pass.SecondPass': 'hybridcls.engine.optim.update.micro_batch.MicroBatch',
    'hybridcls.engine.optim.sharding.is_dtensor': 'hybridcls.compat.torch.is_dtensor',
    'hybridcls.engine.optim.wrapper_state.Gradients': 'hybridcls.engine.optim.update.accumulated_gradients.Gradients',
    'hybridcls.engine.optim.wrapper_state.LoadedState': 'hybridcls.engine.optim.update.loaded_state.LoadedState',
    'hybridcls.engine.optim.wrapper_state.gather_gradients': 'hybridcls.engine.optim.update.accumulated_gradients.gather_gradients',
    'hybridcls.engine.optim.wrapper_state.restart_stale_stages': 'hybridcls.engine.optim.stages.stage_states.restart_stages',
    'hybridcls.engine.optim.parameter_places.places_of': 'hybridcls.engine.optim.update.parameter_names.named_owners',
    'hybridcls.engine.phase_record.config_facts': 'hybridcls.engine.config.facts.config_facts',
    'hybridcls.engine.phase_record.differing_keys': 'hybridcls.engine.config.facts.differing_keys',
    'hybridcls.engine.phase_record.fingerprint': 'hybridcls.engine.config.facts.fingerprint',
    'hybridcls.engine.runner_instances.own_instances': 'hybridcls.engine.runner.global_instances.isolated_globals',
    'hybridcls.functional.ClassStatistics': 'hybridcls.functional.SoftmaxStats',
    'hybridcls.functional.RowShard': 'hybridcls.distributed.RowShard',
    'hybridcls.functional.adaptive_margin.move_norm_statistics': 'hybridcls.models.margins.norm_statistics.update_norm_statistics',
    'hybridcls.functional.class_statistics': 'hybridcls.functional.softmax_stats',
    'hybridcls.functional.class_statistics.ClassStatistics': 'hybridcls.functional.SoftmaxStats',
    'hybridcls.functional.class_statistics.class_statistics': 'hybridcls.functional.softmax_stats',
    'hybridcls.functional.class_statistics.merge_class_statistics': 'hybridcls.functional.merge_softmax_stats',
    'hybridcls.functional.contrast_log_sums': 'hybridcls.functional.streamed_logsumexp',
    'hybridcls.functional.contrast_log_sums.contrast_log_sums': 'hybridcls.functional.streamed_logsumexp',
    'hybridcls.functional.contrast_of_anchors': 'hybridcls.functional.dense_supcon',
    'hybridcls.functional.contrast_of_anchors.contrast_of_anchors': 'hybridcls.functional.dense_supcon',
    'hybridcls.functional.distillation_losses.softened_divergence': 'hybridcls.functional.kd_kl_loss',
    'hybridcls.functional.false_positive_rate': 'hybridcls.functional.fpr_at_tpr',
    'hybridcls.functional.gather_rows': 'hybridcls.distributed.gather_rows',
    'hybridcls.functional.has_process_group': 'hybridcls.distributed.has_process_group',
    'hybridcls.functional.merge_class_statistics': 'hybridcls.functional.merge_softmax_stats',
    'hybridcls.functional.most_false_accepts': 'hybridcls.functional.max_false_accepts',
    'hybridcls.functional.move_norm_statistics': 'hybridcls.models.margins.norm_statistics.update_norm_statistics',
    'hybridcls.functional.new_zeros.new_zeros': 'hybridcls.functional.lazy_zeros.lazy_zeros',
    'hybridcls.functional.num_processes': 'hybridcls.distributed.num_processes',
    'hybridcls.functional.rejection_scores.false_positive_rate': 'hybridcls.functional.fpr_at_tpr',
    'hybridcls.functional.sharded_cosine_logits': 'hybridcls.distributed.sharded_cosine_logits',
    'hybridcls.functional.sharded_margin_cross_entropy': 'hybridcls.distributed.sharded_margin_cross_entropy',
    'hybridcls.functional.softened_divergence': 'hybridcls.functional.kd_kl_loss',
    'hybridcls.functional.unit_rows': 'hybridcls.functional.l2_normalize',
    'hybridcls.functional.unit_vectors.inverse_lengths': 'hybridcls.functional.l2_normalize.inverse_norms',
    'hybridcls.functional.unit_vectors.unit_rows': 'hybridcls.functional.l2_normalize',
    'hybridcls.functional.verification_scores.most_false_accepts': 'hybridcls.functional.max_false_accepts',
    'hybridcls.models.GradientCache': 'hybridcls.replay.GradientCache',
    'hybridcls.models.gather_whole': 'hybridcls.distributed.gather_whole',
    'hybridcls.models.leave_to_processes': 'hybridcls.distributed.exclude_from_ddp',
    'hybridcls.models.pool_feature': 'hybridcls.functional.pool_feature',
    'hybridcls.models.shard_rows': 'hybridcls.distributed.shard_rows',
    'hybridcls.models.sharded_parameters': 'hybridcls.distributed.sharded_parameters',
    'hybridcls.models.adapters.FoldedLoRA': 'hybridcls.models.adapters.MergedLoRA',
    'hybridcls.models.adapters.fold_lora': 'hybridcls.models.adapters.merge_lora',
    'hybridcls.models.adapters.lora_folding.FoldedLoRA': 'hybridcls.models.adapters.MergedLoRA',
    'hybridcls.models.adapters.lora_folding.fold_lora': 'hybridcls.models.adapters.merge_lora',
    'hybridcls.models.classifiers.mixture_predictions.join_predictions': 'hybridcls.models.classifiers.mixture_predictions.aggregate_predictions',
    'hybridcls.models.modules.AdaFaceMargin': 'hybridcls.models.margins.AdaFaceMargin',
    'hybridcls.models.modules.ArcFaceMargin': 'hybridcls.models.margins.ArcFaceMargin',
    'hybridcls.models.modules.ClassWiseMargin': 'hybridcls.models.margins.ClassWiseMargin',
    'hybridcls.models.modules.CombinedMargin': 'hybridcls.models.margins.CombinedMargin',
    'hybridcls.models.modules.CosFaceMargin': 'hybridcls.models.margins.CosFaceMargin',
    'hybridcls.models.modules.GradientCache': 'hybridcls.replay.GradientCache',
    'hybridcls.models.modules.HybridDataPreprocessor': 'hybridcls.models.data_preprocessors.HybridDataPreprocessor',
    'hybridcls.models.modules.layer_depths.timm_layer_depths': 'hybridcls.compat.timm.layer_depths',
    'hybridcls.models.modules.gather_whole': 'hybridcls.distributed.gather_whole',
    'hybridcls.models.modules.leave_to_processes': 'hybridcls.distributed.exclude_from_ddp',
    'hybridcls.models.modules.pool_feature': 'hybridcls.functional.pool_feature',
    'hybridcls.models.modules.shard_rows': 'hybridcls.distributed.shard_rows',
    'hybridcls.models.modules.sharded_parameters': 'hybridcls.distributed.sharded_parameters',
    'hybridcls.models.modules.sharded_rows.leave_to_processes': 'hybridcls.distributed.exclude_from_ddp',
    'hybridcls.engine.config.takers.INSIDE': 'hybridcls.engine.config.taker.INSIDE',
    'hybridcls.engine.config.takers.READ': 'hybridcls.engine.config.taker.READ',
    'hybridcls.functional.token_matching.positions_after': 'hybridcls.functional.tokens.token_matching.merged_index_after',
    'hybridcls.models.backbones.timm_stream.OUTPUTS': 'hybridcls.models.backbones.stream.OUTPUTS',
    'hybridcls.models.modules.shape_probe.probe': 'hybridcls.models.building.shape_probe.probe_shapes',
    'hybridcls.engine.teacher_model.distillation_width': 'hybridcls.engine.distillation.distillation_width.distillation_width',
    'hybridcls.evaluation.mmpretrain_metrics.AveragePrecision': 'hybridcls.evaluation.AveragePrecision',
    'hybridcls.evaluation.mmpretrain_metrics.MultiLabelMetric': 'hybridcls.evaluation.MultiLabelMetric',
}
"""Classes and functions, by where they were imported from."""


_METRIC = re.compile(r'((?:^|.*/)(?:auroc|fpr[\d.]+|e?aurc|risk[\d.]+)_)max_softmax')
IN_A_CONFIG = ' `hybridcls migrate CONFIG` rewrites a config.'
_warned: set[tuple[str, str]] = set()
Called = TypeVar('Called', bound=Callable)


def warn_renamed(old: str, new: str, where: str, advice: str = '') -> None:
    """Warn of an old spelling and name the new one, once per process and only in the first of several processes.

    Args:
        old (str): The spelling that was met.
        new (str): The one of today.
        where (str): Who met it: a config file, a class.
        advice (str): What to type, behind a blank.
    """
    rank = os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0'))
    if (old, new) in _warned or rank not in ('', '0'):
        return
    _warned.add((old, new))
    from mmengine.logging import print_log

    print_log(
        f'{where}: {old} is called {new} since version 0.2, and version 0.3 will not take {old} any more.{advice}',
        'current',
        logging.WARNING,
    )


def warn_of_value(key: str, old: Any, new: Any, where: str) -> None:
    """Warn of strings with a new spelling in a value, or list of values; see :func:`warn_renamed`."""
    if type(old) in (list, tuple):
        for pair in zip(old, new, strict=True):
            warn_of_value(key, *pair, where)
    elif isinstance(old, str) and old != new:
        before, after = (one if old.startswith('hybridcls.') else f'{key}={one!r}' for one in (old, new))
        warn_renamed(before, after, where, IN_A_CONFIG)


def keys_of(kind: Any) -> Iterator[Key]:
    """Yield the renamed arguments of a class or function."""
    names = _names_of(kind)
    yield from (row for row in KEYS if row.owner in names)


def values_of(kind: Any) -> dict[str, Callable[[str], str]]:
    """Return, for each argument of a class or function, the function that gives its values their new spelling."""
    found: dict[str, Callable[[str], str]] = {row.key: row.replace for row in VALUES if row.owner in _names_of(kind)}
    found.update({key: new_metric_name for key in METRIC_KEYS})
    return found


def _names_of(kind: Any) -> list[str]:
    kinds = inspect.getmro(kind) if inspect.isclass(kind) else (kind,)
    return [one.__name__ for one in kinds if getattr(one, '__module__', '').split('.')[0] == 'hybridcls']


def new_value(value: Any, replace: Callable[[str], str]) -> Any:
    """Return a string, or a list of strings, in the new spelling.

    Example:
        >>> new_value(['ood/auroc_max_softmax', 'accuracy/top1'], new_metric_name)
        ['ood/auroc_least_confidence', 'accuracy/top1']
    """
    if type(value) in (list, tuple):
        return type(value)(new_value(one, replace) for one in value)
    return replace(value) if isinstance(value, str) else value


def new_metric_name(name: str) -> str:
    """Return the present name of a metric's result, with any prefix.

    Example:
        >>> new_metric_name('val/ood/fpr90_max_softmax')
        'val/ood/fpr90_least_confidence'
    """
    return _METRIC.sub(r'\1least_confidence', name) if _METRIC.fullmatch(name) else name


def with_new_metric_names(node: Any) -> Any:
    """Return nested dicts and lists of a run's saved content with the present metric names, as keys and as values.

    Example:
        >>> with_new_metric_names([dict(iter=8, metrics={'selective/aurc_max_softmax': 3.0})])
        [{'iter': 8, 'metrics': {'selective/aurc_least_confidence': 3.0}}]
    """
    if type(node) in (dict, OrderedDict):
        items = [(new_value(key, new_metric_name), with_new_metric_names(value)) for key, value in node.items()]
        return type(node)(items)
    if type(node) in (list, tuple):
        return type(node)(with_new_metric_names(one) for one in node)
    return new_metric_name(node) if isinstance(node, str) else node


def new_dotted_name(name: str) -> str:
    """Return the present dotted name of a module, or of something in it.

    Example:
        >>> new_dotted_name('hybridcls.functional.unit_vectors.unit_rows')
        'hybridcls.functional.l2_normalize'
    """
    if name in NAMES:
        return NAMES[name]
    parts = name.split('.')
    for length in range(len(parts), 0, -1):
        module = '.'.join(parts[:length])
        if module in MODULES:
            return '.'.join([MODULES[module], *parts[length:]])
    return name


def keeps_old_spellings(kind: Called) -> Called:
    """Make a class or function accept old spellings of its arguments; its signature has the new ones alone.

    Raises:
        TypeError: From what is decorated: for an old and a new spelling of one argument together, or for a value that
            the old key never took.
    """
    called = kind.__init__ if inspect.isclass(kind) else kind
    keys, replacements = tuple(keys_of(kind)), values_of(kind)
    parameters = list(inspect.signature(called).parameters)[inspect.isclass(kind) :]  # without self
    positions = {name: place for place, name in enumerate(parameters) if name in replacements}
    concerned = frozenset((*(row.old for row in keys), *replacements))

    def translated(caller: str, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        for row in keys:
            if row.old in kwargs:
                kwargs = _with_new_key(caller, row, kwargs)
        for name, replace in replacements.items():
            if name in kwargs:
                kwargs = {**kwargs, name: _with_new_value(caller, name, kwargs[name], replace)}
            elif name in positions and positions[name] < len(args):
                place = positions[name]
                args = (*args[:place], _with_new_value(caller, name, args[place], replace), *args[place + 1 :])
        return args, kwargs

    if inspect.isclass(kind):

        @functools.wraps(called)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            if positions or any(key in concerned for key in kwargs):
                args, kwargs = translated(type(self).__name__, args, kwargs)
            called(self, *args, **kwargs)

        kind.__init__ = __init__  # type: ignore[misc, method-assign]
        return kind

    @functools.wraps(called)
    def function(*args: Any, **kwargs: Any) -> Any:
        if any(key in concerned for key in kwargs):
            args, kwargs = translated(called.__name__, args, kwargs)
        return called(*args, **kwargs)

    return function  # type: ignore[return-value]


def _with_new_key(caller: str, row: Key, given: dict) -> dict:
    if row.new in given:
        raise TypeError(
            f'{caller}: expected {row.new} alone, got {row.old}={given[row.old]!r}, its name of 0.1, too. '
            f'Drop {row.old}.'
        )
    if not row.fits(given[row.old]):
        raise TypeError(
            f'{caller}: expected {row.old}, which is called {row.new} now, to be {row.expected}, got '
            f'{row.old}={given[row.old]!r}. Write {row.new}.'
        )
    warn_renamed(row.old, row.new, caller, IN_A_CONFIG)
    return {row.new if key == row.old else key: value for key, value in given.items()}


def _with_new_value(caller: str, name: str, value: Any, replace: Callable[[str], str]) -> Any:
    new = new_value(value, replace)
    warn_of_value(name, value, new, caller)
    return new
