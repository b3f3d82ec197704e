"""The config travels in the checkpoint, so that one file is enough."""

from typing import Any, Optional

from hybridcls.checkpoint_reading import read_checkpoint
from hybridcls.literals import read_assignments

__all__ = ['config_text']


def config_text(checkpoint: str) -> Optional[str]:
    """Return the config that a checkpoint was trained with, as Python that holds literals alone; None if it has none.

    mmengine keeps the text that it dumps into the work dir. What is no literal in it is left out: nothing of a
    checkpoint is run.
    """
    meta: Any = read_checkpoint(checkpoint).get('meta')
    text = meta.get('cfg') if isinstance(meta, dict) else None
    if not isinstance(text, str):
        return None
    try:
        values = read_assignments(text)
    except SyntaxError:
        return None
    return ''.join(f'{key} = {value!r}\n' for key, value in values.items()) or None
