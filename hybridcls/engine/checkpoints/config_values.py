"""Read the config that is stored in a checkpoint."""

from typing import Any, Optional

from hybridcls.checkpoint_reading import read_checkpoint
from hybridcls.literals import read_assignments

__all__ = ['config_values']


def config_values(checkpoint: str) -> Optional[dict[str, Any]]:
    """Return the top-level keys of the config that a checkpoint was trained with; None if it contains none.

    mmengine keeps the text that it dumps into the work dir. What is no literal in it is left out: nothing of a
    checkpoint is run.
    """
    meta: Any = read_checkpoint(checkpoint).get('meta')
    text = meta.get('cfg') if isinstance(meta, dict) else None
    try:
        return read_assignments(text) or None if isinstance(text, str) else None
    except SyntaxError:
        return None
