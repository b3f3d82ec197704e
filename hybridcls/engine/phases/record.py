"""The record of a phase: its config and, once it is finished, its results."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Optional, Union

from hybridcls.renames import with_new_metric_names

from ..checkpoints.files import atomic_write

__all__ = ['PhaseRecord']

FINISHED, RUNNING = 'phase.json', 'phase.running.json'


@dataclass
class PhaseRecord:
    """The content of ``phase.json``, written atomically when the phase is finished.

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
        atomic_write(json.dumps(asdict(self), indent=1).encode(), folder / (FINISHED if finished else RUNNING))
        if finished:
            (folder / RUNNING).unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Union[str, Path], finished: bool = True) -> Optional['PhaseRecord']:
        """Read the record; return None if the phase is not finished (or has not begun).

        Raises:
            ValueError: If the file is no such record.
        """
        path = Path(folder) / (FINISHED if finished else RUNNING)
        if not path.is_file():
            return None
        try:
            record = cls(**json.loads(path.read_text(encoding='utf8')))
            wrong = [key for key in ('facts', 'checkpoints', 'metrics') if not isinstance(getattr(record, key), dict)]
            if wrong:
                raise TypeError(f'{wrong[0]} is no table')
            record.metrics = with_new_metric_names(record.metrics)
            return record
        except (ValueError, TypeError) as error:  # cut, or of other content
            raise ValueError(
                f'{path} is not a record of a phase ({error}). To train the phase again, remove the folder {folder}.'
            ) from error
