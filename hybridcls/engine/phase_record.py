"""What a phase leaves behind: with which config it ran, and once it is finished, what came out."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from mmengine.config import Config

from hybridcls.checks import listed

from .checkpoints.files import write_whole
from .config.dumps import RECORD

__all__ = ['PhaseRecord', 'config_facts', 'differing_keys', 'fingerprint']

FINISHED, RUNNING = 'phase.json', 'phase.running.json'

# They say where and on what machine a phase runs, not what it learns.
_MACHINE_KEYS = {
    RECORD,
    'work_dir',
    'launcher',
    'load_from',
    'resume',
    'log_level',
    'env_cfg',
    'model_wrapper_cfg',
    'visualizer',
    'vis_backends',
    'log_processor',
    'experiment_name',
    'phases',
    'filename',
}
_MACHINE_KEYS_ANYWHERE = {'pin_memory', 'persistent_workers', 'num_workers', 'prefetch_factor', 'worker_init_fn'}


@dataclass
class PhaseRecord:
    """The content of ``phase.json``; written in one step when the phase is finished.

    Args:
        name (str): The phase's name.
        fingerprint (str): Hash of ``facts``.
        facts (dict[str, str]): Dotted key to value of the config, without what only describes the machine.
        checkpoints (dict[str, str]): ``'last'`` and, if one was kept, ``'best'``: paths relative to the phase's folder,
            so that the folder can be moved.
        metrics (dict[str, float]): Of the last validation, ``val/...``; of the test of the phase, ``test/...``; and
            ``best/...``, the one the best checkpoint was chosen by.
        seconds (float): Wall-clock time of all the attempts that led here (less one that was killed without notice).
        after (str, optional): Identity of the record of the phase before: what this one started from.
        no_best (str): Why no best checkpoint was kept, though one was asked for: a sentence, or empty.
        identity (str): Tells this training from another one with the same config.
    """

    name: str
    fingerprint: str
    facts: dict[str, str]
    checkpoints: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    after: Optional[str] = None
    identity: str = ''
    no_best: str = ''

    def write(self, folder: Union[str, Path], finished: bool) -> None:
        """Write ``phase.json``, or the note that the phase has begun."""
        folder = Path(folder)
        write_whole(json.dumps(asdict(self), indent=1).encode(), folder / (FINISHED if finished else RUNNING))
        if finished:
            (folder / RUNNING).unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Union[str, Path], finished: bool = True) -> Optional['PhaseRecord']:
        """Read it back, or return None if the phase is not finished (or has not begun).

        Raises:
            ValueError: If the file is no such record.
        """
        path = Path(folder) / (FINISHED if finished else RUNNING)
        if not path.is_file():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding='utf8')))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f'{path} is not a record of a phase ({error}). If the phase shall be trained anew, remove '
                f'the folder {folder}.'
            ) from error


def config_facts(cfg: Config) -> dict[str, str]:
    """Flatten a config to dotted keys and printed values, without what only describes the machine.

    Example:
        >>> config_facts(Config(dict(model=dict(widths=[8, 16]), work_dir='here')))
        {'model.widths.0': '8', 'model.widths.1': '16'}
    """
    facts: dict[str, str] = {}

    def walk(node: Any, path: tuple[str, ...]) -> None:
        if path and (path[-1] in _MACHINE_KEYS_ANYWHERE or (len(path) == 1 and path[0] in _MACHINE_KEYS)):
            return
        if isinstance(node, dict) and node:
            for key in sorted(node, key=str):
                walk(node[key], (*path, str(key)))
        elif isinstance(node, (list, tuple)) and node:
            for index, value in enumerate(node):
                walk(value, (*path, str(index)))
        else:
            facts['.'.join(path)] = repr(list(node) if isinstance(node, tuple) else node)

    walk(cfg.to_dict(), ())
    return facts


def fingerprint(facts: dict[str, str]) -> str:
    """Return a hash of the facts of a config."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def differing_keys(old: dict[str, str], new: dict[str, str], most: int = 6) -> str:
    """Name the keys that differ, with both values.

    Example:
        >>> differing_keys({'a': '1', 'b': '2'}, {'a': '1', 'b': '3'})
        'b (2, now 3)'
    """
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return listed((f'{key} ({old.get(key, "not there")}, now {new.get(key, "not there")})' for key in keys), most)
