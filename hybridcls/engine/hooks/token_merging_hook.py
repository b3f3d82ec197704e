"""Merge tokens only in training, validation or test."""

from collections.abc import Sequence
from typing import Any, Optional, Union

from mmengine.hooks import Hook

from hybridcls.checks import check_choice
from hybridcls.compat.mmengine import bare_model
from hybridcls.models.adapters import MergingRatio, TokenMergingHandle, add_token_merging
from hybridcls.registry import HOOKS

_PHASES = ('train', 'val', 'test')


@HOOKS.register_module()
class TokenMergingHook(Hook):
    """Merge similar tokens in the plain transformers of a model during evaluation, or during training.

    A trained model is tested faster without being changed; or a training is made cheaper and the model evaluated whole.
    The moments are those before and after a training, a validation and a test (``before_val`` comes before an EMAHook
    exchanges the weights: its average is what is evaluated, with merging). Outside of its phases the model is what it
    was before, to the last bit, also where its own ``token_merging_ratio`` differs: with a ratio of 0 here such a model
    is evaluated whole. It adds nothing to a checkpoint.

    Args:
        token_merging_ratio (float | Sequence[float] | dict): As in HybridBackbone: 0.1, a list, ``dict(r=13)``.
        when (str | Sequence[str]): ``'train'``, ``'val'``, ``'test'``, or several. Defaults to ``('val', 'test')``.
        proportional_attention (bool): Attend to a token as often as it has patches. Defaults to True.
        unmerged_order (str): ``'official'``, or ``'position'`` for models without a class token that were trained with
            merging before 0.2 (``hybridcls.functional.tokens.token_matching.match_tokens``). Defaults to
            ``'official'``.

    Raises:
        ValueError: Before the run begins, if the model has no transformer that can merge, or a value is impossible.

    Example:
        >>> TokenMergingHook(dict(r=13), when='test').when
        ('test',)
    """

    def __init__(
        self,
        token_merging_ratio: MergingRatio,
        when: Union[str, Sequence[str]] = ('val', 'test'),
        proportional_attention: bool = True,
        unmerged_order: str = 'official',
    ) -> None:
        self.when = (when,) if isinstance(when, str) else tuple(when)
        if not self.when:
            raise ValueError(
                'TokenMergingHook: when is empty, so tokens would never merge. Name phases, or drop the hook.'
            )
        for phase in self.when:
            check_choice('TokenMergingHook', 'when', phase, _PHASES)
        self.token_merging_ratio = token_merging_ratio
        self.proportional_attention = proportional_attention
        self.unmerged_order = unmerged_order
        self._merging: Optional[TokenMergingHandle] = None
        self._training = False

    def before_run(self, runner: Any) -> None:
        """Check that token merging is possible, and log the settings."""
        merging = self._add(runner)
        runner.logger.info(f'TokenMergingHook, in {" and ".join(self.when)}: {merging}')
        merging.undo()

    def before_train(self, runner: Any) -> None:
        """Switch to the setting of the training."""
        self._training = True
        self._set(runner, 'train' in self.when)

    def after_train(self, runner: Any) -> None:
        """Restore the model after the training."""
        self._training = False
        self._set(runner, False)

    def before_val(self, runner: Any) -> None:
        """Switch to the setting of a validation, which may be within a training."""
        self._set(runner, 'val' in self.when)

    def after_val(self, runner: Any) -> None:
        """Switch back to the setting of the training, if there is one."""
        self._set(runner, self._training and 'train' in self.when)

    def before_test(self, runner: Any) -> None:
        """Switch to the setting of a test."""
        self._set(runner, 'test' in self.when)

    def after_test(self, runner: Any) -> None:
        """Restore the model after the test."""
        self._set(runner, False)

    def _add(self, runner: Any) -> TokenMergingHandle:
        return add_token_merging(
            bare_model(runner.model),
            self.token_merging_ratio,
            self.proportional_attention,
            unmerged_order=self.unmerged_order,
        )

    def _set(self, runner: Any, merge: bool) -> None:
        if merge and self._merging is None:
            self._merging = self._add(runner)
        elif not merge and self._merging is not None:
            self._merging.undo()
            self._merging = None
