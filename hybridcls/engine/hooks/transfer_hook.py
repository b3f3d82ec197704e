"""Load only some parts of the model from ``load_from``."""

from collections.abc import Sequence
from typing import Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner

from hybridcls.checkpoint_reading import weights_of
from hybridcls.compat.mmengine import bare_model, loaded_from, resumes
from hybridcls.models.adapters import plain_name
from hybridcls.models.weights.timm_weights import fit_timm_weights
from hybridcls.registry import HOOKS

from ..checkpoints.weight_transfer import PARTS, WeightMismatchError, select_weights
from .checkpoint_match_hook import CheckpointMatchHook


@HOOKS.register_module()
class TransferHook(Hook):
    """Start from the backbone and neck of another run: ``load_from`` names the checkpoint, this hook the parts.

    It acts when a checkpoint has been read, before other hooks take weights from it (``after_load_checkpoint``, early):
    what timm can resize is resized, and what is not in ``parts`` or has another shape is replaced by the
    model's own initial weights. So the Runner loads a dict that fits, and an EMAHook starts its average from the same
    weights as the model, also in the head. A run that resumes is left alone.

    Args:
        parts (Sequence[str], optional): First names of the weights to take. None takes everything that fits.
            Defaults to ``('backbone', 'neck')``.

    Raises:
        WeightMismatchError: While loading, if nothing of the checkpoint fits, or what fits would be lost: a stream
            whose checkpoints hold its adapters alone must start from other weights.
    """

    priority = 'VERY_HIGH'

    def __init__(self, parts: Optional[Sequence[str]] = PARTS) -> None:
        self.parts = None if parts is None else tuple(parts)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace the checkpoint's weights by those of the chosen parts."""
        if resumes(runner):
            return
        model, path = bare_model(runner.model), str(loaded_from(runner))
        own = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        source, resized = fit_timm_weights(model, weights_of(checkpoint, path))
        report = select_weights(source, own, self.parts)
        report.resized = [entry for entry in resized if entry.name in report.loaded]
        frozen = {plain_name(name) for name, _ in model.named_parameters()} - own.keys()
        lost = [name for name in report.left_out if name in frozen and name.split('.')[0] in (self.parts or PARTS)]
        if lost:
            raise WeightMismatchError(
                f"TransferHook: with lora_rank.checkpoint='adapters' {lost[0]} and {len(lost) - 1} other weights of "
                f"{path} would be in no checkpoint of this run. Use checkpoint='all'."
            )
        checkpoint['state_dict'] = report.state
        checkpoint['transferred_parts'] = self.parts
        checkpoint.pop('ema_state_dict', None)
        if not any(isinstance(hook, CheckpointMatchHook) for hook in runner.hooks):  # it tells what was loaded
            runner.logger.info(f'Weights from {path}:\n  {report}')
