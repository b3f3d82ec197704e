"""Log each validation with its own results alone."""

from typing import Any

from mmengine.hooks import LoggerHook as _LoggerHook

from hybridcls.registry import HOOKS


@HOOKS.register_module()
class LoggerHook(_LoggerHook):
    """mmengine's ``LoggerHook``, which clears the results of a validation before the next one.

    Otherwise the lines of a running validation show the ``val/loss`` of the one before it.
    """

    def before_val_epoch(self, runner: Any) -> None:
        """Clear the results of the previous validation."""
        scalars = runner.message_hub.log_scalars
        for name in [name for name in scalars if name.startswith('val/') and not name.endswith('time')]:
            del scalars[name]
