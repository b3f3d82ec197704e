"""A finding of the doctor: one sentence, its place in the config, and what to change."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Optional

from mmengine.config import Config

from hybridcls.checks import listed
from hybridcls.command_line import explain_error
from hybridcls.engine.config.origins import RUNNER_KEYS
from hybridcls.engine.config.shared_keys import SHARED_KEYS
from hybridcls.engine.config.tree import dotted, leaves_in, walk

__all__ = ['LEVELS', 'NOTE', 'PROBLEM', 'WARNING', 'Finding', 'counts_of', 'named', 'of_error']

_READ_KEYS = (*SHARED_KEYS, *RUNNER_KEYS, 'teacher')
PROBLEM, WARNING, NOTE = LEVELS = ('problem', 'warning', 'note')

_VERBS = (
    'Set|Use|Write|Add|Change|Give|Remove|Drop|Take|Name|Choose|Keep|Delete|Type|Call|Leave|Count|Put|End|Fix|Save|'
    'Install|Let|Join|Point|Did you mean|Known keys'
)
_ADVICE = re.compile(rf'(?<=[.)]) (?=(?:{_VERBS})\b)')
_LOOKED_AT, _LONGEST = 300, 700  # letters of a sentence: those of other packages may print a whole config
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
    return listed(map(str, paths), most)


def of_error(error: BaseException, where: str, cfg: Optional[Config] = None) -> Finding:
    """Return an error that a part of the config raises as a finding: its sentence, and the advice in it.

    Args:
        error (BaseException): What was raised.
        where (str): The key of the part, for an error that does not start with one.
        cfg (Config, optional): The config, in which a value that the error tells is looked for. Defaults to None.

    Example:
        >>> of_error(ValueError('PKSampler: 3 classes do not do. Use images_per_class=4.'), 'train_dataloader')
        Finding(level='problem', where='train_dataloader', what='PKSampler: 3 classes do not do.', \
change='Use images_per_class=4.', phase='')
    """
    ours = explain_error(error)
    is_sentence = ours is not None or isinstance(error, ValueError)
    text = _one_line(ours or f'{error}') if is_sentence else _one_line(f'{type(error).__name__}: {error}')
    cut = _ADVICE.search(text)
    what, change = (text[: cut.start()], text[cut.end() :]) if cut else (text, '')
    head, colon, rest = what.partition(': ')
    if colon and _KEY.fullmatch(head) and ('.' in head or head in (cfg or ())):
        where, what = head, rest
    elif cfg is not None:
        where = _value_in(cfg, what[:_LOOKED_AT]) or _part_in(cfg, head.partition('.')[0]) or where
    return Finding(PROBLEM, where, what, change or where)


def _one_line(text: str) -> str:
    line = ' '.join(text.split())
    return line if len(line) <= _LONGEST else f'{line[: _LONGEST - 3]}...'


def _value_in(cfg: Config, text: str) -> str:
    """Return the key that a sentence names first, or whose value it quotes first; ``''`` without one."""
    words = ((re.search(rf'\b{key}\b', text), key) for key in cfg if key in _READ_KEYS and '_' in key)
    told: list[tuple] = [(found.start() + 1, 0, 1, key) for found, key in words if found]
    for path, value in leaves_in(cfg):
        if isinstance(value, str) and value and path[0] in _READ_KEYS and path[-1] != 'type':
            # A path may be the start of a longer one; of those that begin at one place the longest is meant.
            places = [text.find(repr(value)) + 1, text.find(value) if os.sep in value else -1]
            found = [place for place in places if place > 0]
            told += [(min(found), -len(value), len(path), dotted(path))] if found else []
    return min(told)[-1] if told else ''


def _part_in(cfg: Config, kind: str) -> str:
    """Return the key of the first part of this class, or ``''``."""
    for path, node in walk(cfg):
        name = node.get('type') if path and path[0] in _READ_KEYS and isinstance(node, dict) else None
        if str(getattr(name, '__name__', name)).rpartition('.')[2] == kind:
            return dotted(path)
    return ''
