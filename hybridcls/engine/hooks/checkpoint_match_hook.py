"""A checkpoint of another architecture is an error, not a silently half-loaded model."""

from typing import Optional

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner.base_loop import BaseLoop

from hybridcls.registry import HOOKS

from ..transfer import FOLD_FIRST, TransferReport, WeightMismatchError, adapters_in, select_weights, state_dict_of


@HOOKS.register_module()
class CheckpointMatchHook(Hook):
    """Compare each checkpoint with the model before it is loaded (``after_load_checkpoint``, last of the hooks).

    mmengine loads what fits and mentions the rest in a warning. Here a test, a validation and a resume want every
    weight; a run that starts from ``load_from`` may be fine-tuning with another head, so it is told what was loaded,
    and only a checkpoint of which nothing fits is an error.

    Args:
        strict (bool, optional): Want every weight, or not. None decides as above. Defaults to None.

    Raises:
        WeightMismatchError: While loading; names the first keys and shapes that differ.
    """

    priority = 'LOWEST'

    def __init__(self, strict: Optional[bool] = None) -> None:
        self.strict = strict

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare, and log or raise."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if isinstance(model, BaseTTAModel):
            model = model.module
        source = state_dict_of(checkpoint)
        report = select_weights(source, model.state_dict(), parts=None)
        strict = self.strict
        if strict is None:
            strict = bool(runner._resume) or not isinstance(runner._train_loop, BaseLoop)
        if _fits(report):
            runner.logger.info(f'All {len(report.loaded)} weights of the model come from {runner._load_from}.')
            return
        if strict:
            missing, unexpected, mismatched = _what_loading_says(model, source, report)
            if missing or unexpected or mismatched:
                raise WeightMismatchError(_sentence(runner, missing, unexpected, mismatched))
        else:
            runner.logger.info(f'Weights from {runner._load_from}:\n  {report}')


def _fits(report: TransferReport) -> bool:
    new = [name for name in report.new if not name.endswith('num_batches_tracked')]
    return not (new or report.left_out or report.mismatched)


def _what_loading_says(model, source, report: TransferReport) -> tuple[list, list, list]:
    """Ask torch itself: modules may rename or resize weights while they are loaded (position embeddings, say)."""
    plain = {name.removeprefix('module.'): value for name, value in source.items()}
    try:
        result = model.load_state_dict(plain, strict=False)
    except RuntimeError:  # torch's words for shapes that differ; ours name them shortly
        return report.new, report.left_out, report.mismatched
    missing = [name for name in result.missing_keys if not name.endswith('num_batches_tracked')]
    return missing, list(result.unexpected_keys), []


def _sentence(runner, missing: list, unexpected: list, mismatched: list) -> str:
    parts = []
    if mismatched:
        name, old, new = mismatched[0]
        parts.append(
            f'{len(mismatched)} have another shape (first: {name}, {old} in the checkpoint, {new} in the model)'
        )
    if missing:
        parts.append(f'{len(missing)} of the model are not in it (first: {missing[0]})')
    if unexpected:
        parts.append(f'{len(unexpected)} of it are not in the model (first: {unexpected[0]})')
    if adapters_in(unexpected):
        return f'The checkpoint {runner._load_from} holds LoRA adapters: {"; ".join(parts)}. {FOLD_FIRST}'
    return (
        f'The checkpoint {runner._load_from} is not of this model: {"; ".join(parts)}. Use the config it was '
        'trained with (its work dir holds a copy); to start a new training from a part of it, use load_from '
        "without resume, with custom_hooks=[dict(type='TransferHook')]."
    )
