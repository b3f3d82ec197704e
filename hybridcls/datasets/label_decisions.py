"""Tables of decisions to drop or relabel images, as `hybridcls audit` writes them and a person fills them in."""

import csv
import hashlib
import io
import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from mmengine import fileio

from hybridcls.checks import check_file, check_known_keys, decode_text, did_you_mean, has_raw_bytes

__all__ = ['DECISIONS', 'LabelDecisions', 'read_decisions']

DECISIONS = ('drop', 'relabel', 'keep')


@dataclass
class LabelDecisions:
    """The decisions on some images.

    Args:
        file (str): The table.
        drop (dict[str, str]): Images to leave out: path to the label that the table says they have, ``''`` if none.
        relabel (dict[str, tuple[str, str]]): Images of another class: path to that label and the new one.
        keep (dict[str, str]): Images that were looked at and stay: path to that label. They change no training.
        unread (int): So many lines have the decision, of ``drop`` and ``relabel``, that was not asked for.
        is_copy (bool): Whether the file is a training's copy of the table, which the next start overwrites.
        is_shared (bool): Whether images that a dataset does not have are those of the datasets beside it
            (:func:`~hybridcls.datasets.shared_decisions.check_shared_decisions` has found them all).
    """

    file: str
    drop: dict[str, str]
    relabel: dict[str, tuple[str, str]]
    keep: dict[str, str] = field(default_factory=dict)
    unread: int = 0
    is_copy: bool = False
    is_shared: bool = False

    @property
    def digest(self) -> str:
        """A hash of the decisions that affect a training, independent of the rest of the table."""
        content = json.dumps([sorted(self.drop.items()), sorted(self.relabel.items())])
        return hashlib.sha256(content.encode('utf8', 'surrogatepass')).hexdigest()[:16]

    def content(self) -> bytes:
        """Return a table of these decisions, UTF-8, which :func:`read_decisions` reads back.

        Names of files that are not UTF-8 have their own bytes in it.
        """
        text = io.StringIO(newline='')
        writer = csv.writer(text)
        writer.writerow(['path', 'label', 'suggested', 'decision'])
        writer.writerows([path, label, '', 'drop'] for path, label in self.drop.items())
        writer.writerows([path, label, new, 'relabel'] for path, (label, new) in self.relabel.items())
        writer.writerows([path, label, '', 'keep'] for path, label in self.keep.items())
        return text.getvalue().encode('utf8', 'surrogateescape')


def read_decisions(caller: str, given: Union[str, Mapping[str, Any]], what: str) -> LabelDecisions:
    """Read a table of decisions.

    A table has a heading, and is separated by commas, semicolons or tabs: ``path``; ``decision``, which is ``drop``,
    ``relabel``, ``keep`` or empty (which keeps); ``suggested``, the new label; perhaps ``label``, the old one, which
    the dataset compares. Without a column ``decision`` all rows are meant.

    Args:
        caller (str): Name used as the error prefix.
        given (str | Mapping): The file, or ``dict(file=..., digest=...)``: the file with just these decisions. With
            ``shared=True`` it decides on the images of several datasets.
        what (str): ``'drop'`` or ``'relabel'``: the decisions that are read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such table, decides twice on an image, decides on none, or has changed.
    """
    settings = dict(file=given) if isinstance(given, str) else dict(given)
    check_known_keys(f'{caller}: {what}', settings, ('file', 'digest', 'shared'))
    file = os.path.expanduser(settings['file'])
    check_file(caller, what, file)
    heading, rows = _rows(caller, file)
    for name in ('path', *(['suggested'] if what == 'relabel' else [])):
        if name not in heading:
            raise ValueError(
                f'{caller}: expected a column {name!r} in {file}, got {", ".join(map(repr, heading))}. Take the table '
                'of hybridcls audit, or name the columns path, suggested, decision.'
            )
    found: dict[str, Any] = {}
    keep: dict[str, str] = {}
    decided: set[str] = set()
    unread = 0
    for line, row in rows:
        decision = row.get('decision', what).strip().lower()
        if decision and decision not in DECISIONS:
            raise ValueError(
                f'{caller}: expected the decision drop, relabel, keep or nothing in line {line} of {file}, got '
                f'{decision!r}.{did_you_mean(decision, DECISIONS)}'
            )
        path, label = row['path'], row.get('label', '')
        if decision and path in decided:
            raise ValueError(f'{caller}: {file} decides on {path!r} twice, again in line {line}. Delete one line.')
        decided.update({path} if decision else ())
        if decision != what:
            unread += decision in ('drop', 'relabel')
            keep.update({path: label} if decision == 'keep' else {})
            continue
        if what == 'relabel' and not row['suggested']:
            raise ValueError(f'{caller}: expected a new label (column suggested) in line {line} of {file}, got none.')
        found[path] = (label, row['suggested']) if what == 'relabel' else label
    if not found:
        raise ValueError(
            f'{caller}: no line of {file} has the decision {what!r}. Write it into the column decision, or leave '
            f'{what} out.'
        )
    decisions = LabelDecisions(
        file, keep=keep, unread=unread, is_copy='digest' in settings, is_shared=bool(settings.get('shared')),
        **{'drop': {}, 'relabel': {}, what: found},
    )  # fmt: skip
    if settings.get('digest') not in (None, decisions.digest):
        raise ValueError(
            f'{caller}: the decisions in {file} have changed since this training began. Restore the old ones, or '
            'start a new training.'
        )
    return decisions


def _rows(caller: str, file: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the header, and the number and cells of each non-empty line; short lines are padded."""
    content = fileio.get(file)
    if content.startswith(b'PK'):  # a zip file
        raise ValueError(f'{caller}: expected a table as text, got the spreadsheet {file}. Save it as CSV, in UTF-8.')
    text = decode_text(caller, file, content, file_names=True)
    if not text.strip():
        raise ValueError(f'{caller}: expected a table with the columns path and decision, got the empty file {file}.')
    delimiter = max(',;\t', key=text.lstrip('\r\n').splitlines()[0].count)
    reader = csv.reader(io.StringIO(text, newline=''), delimiter=delimiter)  # names may have other ends of lines
    cells = [(reader.line_num, row) for row in reader if row]
    heading = [cell.strip().lower() for cell in cells[0][1]]
    rows = [
        (line, dict(itertools.zip_longest(heading, row[: len(heading)], fillvalue='')))
        for line, row in cells[1:]
        if any(row)
    ]
    if any(has_raw_bytes(cell) for _, row in rows for name, cell in row.items() if name != 'path'):
        decode_text(caller, file, content)  # names of classes are text: this raises
    return heading, rows
