"""Write the config of the chosen inference settings, as a child of the training's config."""

import os
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

from hybridcls.literals import read_assignments

from ..inference_settings import InferenceSettings

__all__ = ['fast_config']


def fast_config(checkpoint: str, cfg: Config, settings: InferenceSettings, out: str, measured: str) -> str:
    """Return the text of the config.

    Args:
        checkpoint (str): The file.
        cfg (Config): In it.
        settings (InferenceSettings): That were chosen.
        out (str): The file that the text goes to; its base is written relative to it.
        measured (str): A sentence for the docstring.

    Returns:
        str: It inherits from the config that the training left in the work dir; if there is none that says the same as
        the checkpoint, the whole config is written.
    """
    base = _config_beside(checkpoint, cfg)
    key = f'inference = dict({", ".join(f"{name}={value!r}" for name, value in settings.as_key().items())})'
    head = f'"""The settings {settings.name}, chosen by `hybridcls benchmark {checkpoint}`.\n\n{measured}\n"""\n'
    if base is None:
        return f'{head}\n{cfg.pretty_text.rstrip()}\n{key}\n'
    place = os.path.relpath(base, os.path.dirname(os.path.abspath(out)))
    return f'{head}_base_ = [{place!r}]\n{key}\n'


def _config_beside(checkpoint: str, cfg: Config) -> Optional[str]:
    wanted = cfg.to_dict()
    for folder in (Path(checkpoint).parent, Path(checkpoint).parent.parent):
        for path in sorted(folder.glob('*.py')):
            if _values_of(path) == wanted:
                return str(path)
    return None


def _values_of(path: Path) -> Any:
    """Return the top-level values of a config file of literals, without running it; None for other files."""
    try:
        return Config(dict(read_assignments(path.read_text(encoding='utf8')))).to_dict()
    except (OSError, ValueError, SyntaxError, TypeError):
        return None
