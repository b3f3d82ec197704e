"""Change augmentations, pipelines or the loss at given epochs."""

from mmengine.runner import Runner
from mmpretrain.engine.hooks import SwitchRecipeHook as _SwitchRecipeHook

from hybridcls.compat.mmengine import bare_model
from hybridcls.models.heads import EmbeddingHead, LinearHead
from hybridcls.registry import HOOKS

__all__ = ['SwitchRecipeHook']


@HOOKS.register_module()
class SwitchRecipeHook(_SwitchRecipeHook):
    """mmpretrain's hook, which also checks before the run that the head accepts the losses of the schedule.

    ``LinearHead`` takes any loss of logits, as mmpretrain's heads do. The other heads of hybridcls depend on their loss
    (a margin, evidence, views), so it can only be replaced by one of the same kind.

    Args:
        schedule (list[dict]): As in mmpretrain: ``action_epoch``, and ``train_pipeline``, ``batch_augments`` or
            ``loss``.

    Raises:
        ValueError: Before the run, if the head cannot take a loss of the schedule.
    """

    def before_run(self, runner: Runner) -> None:
        """Check the losses of the schedule against the head."""
        head = getattr(bare_model(runner.model), 'head', None)
        own = getattr(head, 'loss_module', None)
        for epoch, recipe in self.schedule.items():
            loss = recipe.get('loss')
            if loss is None or not isinstance(head, EmbeddingHead) or isinstance(head, LinearHead):
                continue
            if own is None or not isinstance(loss, type(own)):
                kind = f'a {type(own).__name__}' if own is not None else 'no loss that can be replaced'
                raise ValueError(
                    f'SwitchRecipeHook: at epoch {epoch} expected a loss for {type(head).__name__} ({kind}), got '
                    f'{type(loss).__name__}. Drop that loss from the schedule, or train with LinearHead, which takes '
                    'any loss of logits.'
                )

    def before_train_epoch(self, runner: Runner) -> None:
        """Switch, and notify the hooks that inspect pipelines (PreprocessingVersionHook)."""
        super().before_train_epoch(runner)
        if 'train_pipeline' in self.schedule.get(runner.epoch + 1, {}):
            runner.call_hook('after_build_dataloader', dataloader=runner.train_loop.dataloader)
