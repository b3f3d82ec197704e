"""Store how long compiling took, beside the cache of ``torch.compile``, which shortens the next time."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

import torch

from hybridcls.compat.torch_compiler import compiler_cache_dir
from hybridcls.engine.checkpoints.files import atomic_write
from hybridcls.models.backbones.compiled_streams import compiled_parts

from .inference_settings import InferenceSettings

__all__ = ['compile_key', 'note_seconds', 'noted_seconds']

_FILE = 'hybridcls_compile_seconds.json'
_AGAIN = 0.6  # of the first time, where a second one was not measured: 24 after 40 s in one case


def compile_key(model: Any, settings: InferenceSettings, batch_size: int, shapes: Sequence[Any]) -> str:
    """Return a digest of everything that compilation depends on, which excludes the values of weights."""
    parts = list(compiled_parts(model).items())
    what = (torch.__version__, torch.get_num_threads(), settings, batch_size, shapes, parts)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def noted_seconds(key: str) -> Optional[float]:
    """Return the expected compile time on an idle machine from the stored one; None if nothing is stored."""
    taken = _notes().get(key)
    if not taken:
        return None
    return float(taken[-1]) if len(taken) > 1 else _AGAIN * float(taken[0])


def note_seconds(key: str, seconds: float) -> None:
    """Store how long compiling took; a file that cannot be written is ignored."""
    notes = _notes()
    notes[key] = [*notes.get(key, ())[:1], round(seconds, 1)]
    with suppress(OSError):
        atomic_write(json.dumps(notes, indent=0).encode(), Path(compiler_cache_dir(), _FILE))


def _notes() -> dict[str, Any]:
    """Return all stored times; an empty dict if the file is missing or damaged."""
    with suppress(OSError, ValueError):
        found = json.loads(Path(compiler_cache_dir(), _FILE).read_text(encoding='utf8'))
        return found if isinstance(found, dict) else {}
    return {}
