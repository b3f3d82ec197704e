"""A checkpoint is compared with the model before and after it is loaded."""

from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from hybridcls.checkpoint_reading import check_built, weights_of
from hybridcls.compat.mmengine import bare_model, built_loop, loaded_from, resumes
from hybridcls.models.weights.timm_weights import Resized, fit_timm_weights
from hybridcls.registry import HOOKS

from ..checkpoints.weight_transfer import (
    MERGE_FIRST,
    TransferReport,
    WeightMismatchError,
    adapters_in,
    check_taken,
    select_weights,
    shown_resized,
)


@HOOKS.register_module()
class CheckpointMatchHook(Hook):
    """Compare each checkpoint with the model, before it is loaded and after (``after_load_checkpoint``, first of all).

    mmengine loads what fits and mentions the rest in a warning. Here a test, a validation and a resume need every
    weight; a run that starts from ``load_from`` may be fine-tuning with another head, so it is told what was loaded,
    and only a checkpoint of which nothing fits is an error.

    - The weights are found wherever the file keeps them, and are in ``checkpoint['state_dict']`` for all other hooks.
    - What timm can resize to the model's image size or channels is resized, and told; a resume resizes nothing.
    - What the log calls loaded was compared, value by value, with the model after loading.

    Args:
        strict (bool, optional): Whether every weight is needed. None decides as above. Defaults to None.

    Raises:
        WeightMismatchError: While loading; names the first keys and shapes that differ.
        CheckpointError: If a resume needs what only code of the file could build.
    """

    priority = 'HIGHEST'

    def __init__(self, strict: Optional[bool] = None) -> None:
        self.strict = strict
        self._handle: Any = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare names and shapes, and see to it that values are compared after loading."""
        model, path, is_resumed = bare_model(runner.model), str(loaded_from(runner)), resumes(runner)
        if is_resumed:  # `meta` is only looked at
            check_built({key: value for key, value in checkpoint.items() if key != 'meta'}, path, 'what a resume needs')
        source: Any = weights_of(checkpoint, path)
        resized: list[Resized] = []
        if not is_resumed:
            source, resized = fit_timm_weights(model, source)
        report = select_weights(source, model.state_dict(), parts=None)
        strict = self.strict
        if strict is None:
            strict = is_resumed or built_loop(runner, 'train') is None
        if strict and not _fits(report):
            missing, unexpected, mismatched = _what_loading_says(model, source, report)
            if missing or unexpected or mismatched:
                raise WeightMismatchError(_sentence(path, missing, unexpected, mismatched))
        checkpoint['state_dict'] = source
        self._stop_waiting()

        def compare(_: nn.Module, __: Any) -> None:
            self._stop_waiting()
            loaded = checkpoint['state_dict']
            read = loaded if is_resumed else source  # of a resume every weight is told
            parts = checkpoint.get('transferred_parts')  # of a TransferHook
            runner.logger.info(_compared(model, loaded, read, parts, resized, path))

        self._handle = model.register_load_state_dict_post_hook(compare)

    def before_train(self, runner: Runner) -> None:
        """Stop waiting for a loading that did not come."""
        self._stop_waiting()

    before_val = before_test = before_train

    def _stop_waiting(self) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = None


def _compared(
    model: nn.Module, loaded: dict, source: dict, parts: Optional[tuple[str, ...]], resized: list[Resized], path: str
) -> str:
    """Compare the model with what was loaded, and return what to say.

    Args:
        model: After loading.
        loaded: What hooks made of the checkpoint, and the Runner loaded.
        source: What was in the checkpoint, to tell it from what hooks put in.
        parts: First names of the weights that were to be loaded; None is all.
        resized: What of it was resized.
        path: The file.
    """
    own = model.state_dict()
    report = select_weights(loaded, own, parts=None)
    check_taken(model, loaded, report.loaded, path)
    by_model = [name for name, _, _ in report.mismatched if _takes(model, name, loaded[name])]
    taken = [name for name in report.loaded if loaded[name] is source.get(name)] + by_model
    report = select_weights(source, own, parts)  # of these a hook may have replaced some
    report.left_out += [name for name in report.loaded if name not in taken]
    report.mismatched = [entry for entry in report.mismatched if entry[0] not in by_model]
    report.loaded, report.resized = taken, [entry for entry in resized if entry.name in taken]
    told = {*taken, *(name for name, _, _ in report.mismatched)}
    report.new = [name for name in own if name not in told]
    if _fits(report):
        if report.resized:
            return f'All {len(report.loaded)} weights of the model come from {path}, {shown_resized(report.resized)}.'
        return f'All {len(report.loaded)} weights of the model come from {path}.'
    return f'Weights from {path}:\n  {report}'


def _takes(model: nn.Module, name: str, value: Any) -> bool:
    """Whether a model resizes a weight by itself while it is loaded, as some of mmpretrain do."""
    try:
        model.load_state_dict({name: value}, strict=False)
    except RuntimeError:
        return False
    return True


def _fits(report: TransferReport) -> bool:
    new = [name for name in report.new if not name.endswith('num_batches_tracked')]
    return not (new or report.left_out or report.mismatched)


def _what_loading_says(model: nn.Module, source: dict, report: TransferReport) -> tuple[list, list, list]:
    """Ask torch itself: modules may rename or resize weights while they are loaded (position embeddings, say)."""
    try:
        result = model.load_state_dict(source, strict=False)
    except RuntimeError:  # torch's words for shapes that differ; ours name them shortly
        return report.new, report.left_out, report.mismatched
    missing = [name for name in result.missing_keys if not name.endswith('num_batches_tracked')]
    return missing, list(result.unexpected_keys), []


def _sentence(path: str, missing: list, unexpected: list, mismatched: list) -> str:
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
        return f'The checkpoint {path} holds LoRA adapters: {"; ".join(parts)}. {MERGE_FIRST}'
    return (
        f'The checkpoint {path} is not of this model: {"; ".join(parts)}. Use the config it was '
        'trained with (its work dir holds a copy); to start a new training from a part of it, use load_from '
        "without resume, with custom_hooks=[dict(type='TransferHook')]."
    )
