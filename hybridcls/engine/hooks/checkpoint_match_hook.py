"""Compare a checkpoint with the model before and after loading."""

from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from hybridcls.checkpoint_reading import check_built, weights_of
from hybridcls.compat.mmengine import bare_model, built_loop, loaded_from, resumes
from hybridcls.models.weights.timm_weights import Resized, fit_timm_weights
from hybridcls.registry import HOOKS

from ..checkpoints.weight_match import check_every_weight, fits
from ..checkpoints.weight_transfer import check_taken, select_weights, shown_resized


@HOOKS.register_module()
class CheckpointMatchHook(Hook):
    """Compare each checkpoint with the model, before it is loaded and after (``after_load_checkpoint``, runs first).

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
        """Compare names and shapes, and schedule the comparison of values after loading."""
        model, path, is_resumed = bare_model(runner.model), str(loaded_from(runner)), resumes(runner)
        if is_resumed:  # `meta` is only looked at
            check_built({key: value for key, value in checkpoint.items() if key != 'meta'}, path, 'what a resume needs')
        source: Any = weights_of(checkpoint, path)
        resized: list[Resized] = []
        if not is_resumed:
            source, resized = fit_timm_weights(model, source)
        strict = self.strict
        if strict is None:
            strict = is_resumed or built_loop(runner, 'train') is None
        if strict:
            check_every_weight(model, source, path)
        else:
            select_weights(source, model.state_dict(), parts=None)  # raises if nothing fits
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
        """Cancel the scheduled comparison if nothing was loaded."""
        self._stop_waiting()

    before_val = before_test = before_train

    def _stop_waiting(self) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = None


def _compared(
    model: nn.Module, loaded: dict, source: dict, parts: Optional[tuple[str, ...]], resized: list[Resized], path: str
) -> str:
    """Compare the model's values with the loaded ones, and return the message for the log.

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
    if fits(report):
        if report.resized:
            return f'All {len(report.loaded)} weights of the model come from {path}, {shown_resized(report.resized)}.'
        return f'All {len(report.loaded)} weights of the model come from {path}.'
    return f'Weights from {path}:\n  {report}'


def _takes(model: nn.Module, name: str, value: Any) -> bool:
    """Return whether a model resizes a weight by itself during loading, as some of mmpretrain's do."""
    try:
        model.load_state_dict({name: value}, strict=False)
    except RuntimeError:
        return False
    return True
