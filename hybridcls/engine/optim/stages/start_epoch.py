"""The epoch from which on a stage acts: ``start_epoch``."""

from mmengine.logging import MessageHub

from ..update.update import Update

__all__ = ['check_start_epoch', 'has_begun']


def check_start_epoch(caller: str, start_epoch: int) -> None:
    """Raise a ValueError if the training ends before ``start_epoch``, as far as mmengine's MessageHub knows its end."""
    last = MessageHub.get_current_instance().runtime_info.get('max_epochs')
    if start_epoch and last is not None and start_epoch >= last:
        raise ValueError(
            f'{caller}: expected start_epoch to be at most {last - 1}, the last epoch (counted from 0; training by '
            f'iterations is one epoch), got {start_epoch}: it would never ascend.'
        )


def has_begun(caller: str, start_epoch: int, update: Update) -> bool:
    """Whether the epoch of an update is ``start_epoch`` or a later one.

    Raises:
        ValueError: If it is not known which epoch this is.
    """
    if not start_epoch:
        return True
    if update.epoch is None:
        raise ValueError(
            f"{caller}: expected the epoch in mmengine's MessageHub, since start_epoch={start_epoch}, got none. "
            'RuntimeInfoHook sets it; in a loop of your own call MessageHub.get_current_instance()'
            ".update_info('epoch', epoch)."
        )
    return update.epoch >= start_epoch
