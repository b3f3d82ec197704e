"""What the doctor has found: one sentence, where it stands, and what to change."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from hybridcls.command_line import explain_error

__all__ = ['LEVELS', 'NOTE', 'PROBLEM', 'WARNING', 'Finding', 'counts_of', 'named', 'of_error']

PROBLEM, WARNING, NOTE = LEVELS = ('problem', 'warning', 'note')

_ADVICE = re.compile(r'(?<=[.)]) (?=(?:Set|Use|Write|Add|Change|Give|Remove|Drop|Take|Name|Choose|Keep|Delete|Type|Call|'
                      r'Leave|Count|Put|End|Fix|Save|Install|Let|Join|Point|Did you mean|Known keys)\b)')  # fmt: skip
_KEY = re.compile(r'(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*')


@dataclass(frozen=True)
class Finding:
    """One thing that the doctor has to say.

    Args:
        level (str): ``'problem'``: the training would fail, or mean something else than it seems to; ``'warning'``: it
            may be meant; ``'note'``: a number to know.
        where (str): The key of the config, the part of the data or of the machine.
        what (str): One sentence.
        change (str): The key to change or the command to type; ``''`` where nothing has to be done.
        phase (str): Of a chain, the phase.
    """

    level: str
    where: str
    what: str
    change: str = ''
    phase: str = ''

    def as_dict(self) -> dict[str, str]:
        """Return it for JSON."""
        return asdict(self)


def counts_of(findings: Iterable[Finding]) -> dict[str, int]:
    """Count the findings of each level."""
    counts = Counter(one.level for one in findings)
    return {level: counts[level] for level in LEVELS}


def named(paths: Iterable[Any], most: int = 3) -> str:
    """Name the first files, and count the rest.

    Example:
        >>> named(['a.png', 'b.png', 'c.png', 'd.png'])
        'a.png, b.png, c.png and 1 more'
    """
    from hybridcls.checks import listed

    return listed(map(str, paths), most)


def of_error(error: BaseException, where: str, level: str = PROBLEM) -> Finding:
    """Return an error that a part of the config raises as a finding: its sentence, and the advice in it.

    Args:
        error (BaseException): What was raised.
        where (str): The key of the part, for an error that does not start with one.
        level (str): Of the finding. Defaults to a problem.

    Example:
        >>> of_error(ValueError('PKSampler: 3 classes do not do. Use images_per_class=4.'), 'train_dataloader')
        Finding(level='problem', where='train_dataloader', what='PKSampler: 3 classes do not do.', \
change='Use images_per_class=4.', phase='')
    """
    text = ' '.join((explain_error(error) or str(error)).split())
    if not isinstance(error, ValueError) and explain_error(error) is None:  # not a sentence of ours
        text = f'{type(error).__name__}: {text}'
    text = text or type(error).__name__
    cut = _ADVICE.search(text)
    what, change = (text[: cut.start()], text[cut.end() :]) if cut else (text, '')
    head, colon, rest = what.partition(': ')
    if colon and _KEY.fullmatch(head) and '.' in head:
        where, what = head, rest
    return Finding(level, where, what, change or f'see {where}')
