"""The lines of the log show the values of the epoch that they name."""

from typing import Any

from mmengine.hooks import LoggerHook as _LoggerHook

from hybridcls.registry import HOOKS


@HOOKS.register_module()
class LoggerHook(_LoggerHook):
    """mmengine's ``LoggerHook`` that forgets the results of a validation when the next one begins.

    Otherwise the lines of a running validation show the ``val/loss`` of the one before it.
    """

    def before_val_epoch(self, runner: Any) -> None:
        """Forget the results of the validation before."""
        scalars = runner.message_hub.log_scalars
        for name in [name for name in scalars if name.startswith('val/') and not name.endswith('time')]:
            del scalars[name]
