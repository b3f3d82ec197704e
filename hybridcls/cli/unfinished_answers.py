"""Append answers to a file in pieces, so that an interrupted run can continue where it stopped."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from .json_output import json_line

__all__ = ['FORMATS', 'Progress', 'UnfinishedAnswers', 'digest_of', 'identity_of']

FORMATS = ('.csv', '.jsonl', '.parquet')
_SECONDS_BETWEEN_NOTES = 5.0
_ROWS_OF_A_GROUP = 10_000  # of a Parquet file


@dataclass
class Progress:
    """How far a run has come.

    Args:
        digest (str): Of the list of images, :func:`digest_of`.
        settings (dict): What the answers depend on: the checkpoint, the batch size and the like.
        done (int): Number of images of the list that are done.
        files (str): Digest of the sizes and times of the files of these, ``''`` where they are not looked at.
        size (int): Bytes of the unfinished file that belong to these.
        columns (list[str]): Of the table.
        more (dict): What else whoever goes on needs to know.
    """

    digest: str
    settings: dict[str, Any]
    done: int = 0
    files: str = ''
    size: int = 0
    columns: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)


def digest_of(paths: Iterable[str]) -> str:
    """Return a digest of a list of texts, such as paths, their order included."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.encode('utf8', 'surrogateescape') + b'\0')
    return digest.hexdigest()


class _FilesDone:
    """Digest of the sizes and times of the first files of a list, which grows with the run."""

    def __init__(self, paths: Sequence[Optional[str]]) -> None:
        self._paths, self._count, self._digest = paths, 0, hashlib.sha256()

    def of(self, count: int) -> str:
        """Return that of the first ``count`` files, not fewer than were asked for before."""
        for path in self._paths[self._count : count]:
            found: list[Any] = []
            if path is not None and '://' not in path:
                with suppress(OSError, ValueError):
                    status = os.stat(path)
                    found = [status.st_size, status.st_mtime_ns]
            self._digest.update(f'{found}\0'.encode())
        self._count = max(count, self._count)
        return self._digest.hexdigest() if self._paths else ''


def identity_of(path: str) -> list[Any]:
    """Return what tells a checkpoint from one that was written over it."""
    if not os.path.exists(path):
        return [path]
    status = os.stat(path)
    return [os.path.abspath(path), status.st_size, status.st_mtime_ns]


class UnfinishedAnswers:
    """A file of answers that is being written: rows go to ``.NAME.unfinished`` beside it, a note to ``.NAME.progress``.

    The note is written atomically, after the rows that it tells of have reached the disk; what was written since is cut
    off by the run that goes on. The file takes its name when it is complete. A Parquet file is written then, from rows
    that wait as JSON lines.

    Args:
        path (str): The file to write; its ending says how.
        progress (Progress): Of this run, at its beginning.
        resume (bool): Go on from the note that is there; without one, begin.
        force (bool): Begin again although there is a note.
        caller (str): Name that errors start with. Defaults to ``'predict'``.
        convert (Callable, optional): Turns the JSON lines of one path into the file of another. Defaults to None: CSV
            and JSON lines are written as they come, and Parquet is made of them.
        images (Sequence[str | None]): Paths of the files that the answers are of, in order: what is noted is refused if
            they have been written since. Defaults to ``()``: they are not looked at.

    Raises:
        FileExistsError: If there is a note and neither ``resume`` nor ``force`` is set.
        ValueError: If the note is of another list of images, of other settings, or of files that have changed.
    """

    def __init__(
        self,
        path: str,
        progress: Progress,
        resume: bool,
        force: bool,
        caller: str = 'predict',
        convert: Optional[Callable[[Path, Path], None]] = None,
        images: Sequence[Optional[str]] = (),
    ) -> None:
        self.path, self._caller = Path(path), caller
        self._files_done = _FilesDone(images)
        self._convert = _write_parquet if convert is None and self.path.suffix == '.parquet' else convert
        self._rows = self.path.with_name(f'.{self.path.name}.unfinished')
        self._note = self.path.with_name(f'.{self.path.name}.progress')
        self._noted_at = time.monotonic()
        self.progress = progress
        before = self._read_note()
        if before is not None and not resume and not force:
            raise FileExistsError(
                f'{self._caller}: an interrupted run has left {before.done} answers for {path}. Add --resume to '
                'continue it, or --force to start again.'
            )
        if before is not None and resume:
            self._check(before)
            self.progress = before
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._rows, 'r+b' if self.progress.done else 'wb')  # noqa: SIM115 (closed by finish, leave)
        self._file.truncate(self.progress.size)
        self._file.seek(self.progress.size)
        self._complete = self.progress.done, self.progress.size

    def write(self, rows: Sequence[Mapping[str, Any]], done: int, more: Callable[[], dict[str, Any]]) -> None:
        """Append rows; now and then note how far the run has come.

        Args:
            rows (Sequence[Mapping]): Column to value.
            done (int): Number of images that are done with these.
            more (Callable): Returns ``Progress.more``.

        Raises:
            OSError: If the disk is full, say; what was noted before is kept.
        """
        try:
            if rows and not self.progress.columns:
                self.progress.columns = list(rows[0])
                if self.path.suffix == '.csv':
                    self._file.write(_csv_lines([self.progress.columns]))
            if self.path.suffix == '.csv':
                self._file.write(_csv_lines([[row[name] for name in self.progress.columns] for row in rows]))
            else:
                # Parquet has NaN, and its lines are read again.
                line = json_line if self.path.suffix == '.jsonl' else json.dumps
                self._file.write(''.join(f'{line(row)}\n' for row in rows).encode())
            self._complete = done, self._file.tell()
            if time.monotonic() - self._noted_at > _SECONDS_BETWEEN_NOTES:
                self.note(more())
        except OSError as error:
            self._explain(error)

    def note(self, more: dict[str, Any]) -> None:
        """Note how far the run has come."""
        from hybridcls.engine.checkpoints.files import atomic_write

        self._file.flush()
        os.fsync(self._file.fileno())
        (self.progress.done, self.progress.size), self.progress.more = self._complete, more
        self.progress.files = self._files_done.of(self.progress.done)
        atomic_write(json.dumps(asdict(self.progress)).encode(), self._note)
        self._noted_at = time.monotonic()

    def finish(self) -> None:
        """Give the file its name."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if self._convert is None:
                os.replace(self._rows, self.path)
            else:
                converted = self._rows.with_suffix(self.path.suffix)
                self._convert(self._rows, converted)
                os.replace(converted, self.path)
            self._note.unlink(missing_ok=True)
            self._rows.unlink(missing_ok=True)  # after the note: rows alone are ignored
        except OSError as error:
            self._explain(error)

    def leave(self, done: int, more: dict[str, Any]) -> None:
        """Close the file of a run that ends before its time, for another one to go on from.

        Args:
            done (int): Number of images that are done; if their rows were not all written, the last note holds.
            more (dict): ``Progress.more``.
        """
        with suppress(OSError):  # the disk is full; the note before this one holds
            if done == self._complete[0] > 0:
                self.note(more)
        with suppress(OSError):
            self._file.close()
        if not self._note.is_file():
            self._rows.unlink(missing_ok=True)

    def remove(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._rows.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _read_note(self) -> Optional[Progress]:
        if not self._note.is_file() or not self._rows.is_file():
            return None
        try:
            return Progress(**json.loads(self._note.read_text(encoding='utf8')))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f'{self._caller}: {self._note} is not the progress file of an interrupted run ({error}). Remove it to '
                'start again.'
            ) from error

    def _check(self, before: Progress) -> None:
        if before.digest != self.progress.digest:
            raise ValueError(
                f'{self._caller}: the list of images has changed since the interrupted run ({before.done} are done). '
                'Restore the images, or add --force instead of --resume to start again.'
            )
        changed = [key for key, value in self.progress.settings.items() if before.settings.get(key) != value]
        if changed:
            key = changed[0]
            raise ValueError(
                f'{self._caller}: the interrupted run had {key} {before.settings.get(key)!r}, this one has '
                f'{self.progress.settings[key]!r}. Use the old value, or add --force instead of --resume to start '
                'again.'
            )
        if before.files and before.files != self._files_done.of(before.done):
            raise ValueError(
                f'{self._caller}: expected the images of the interrupted run, but some of the {before.done} that are '
                'done have been written since. Add --force instead of --resume to start again.'
            )

    def _explain(self, error: OSError) -> None:
        raise OSError(
            error.errno,
            f'{self._caller}: {self.path} cannot be written ({error.strerror}). The progress is kept: when the file '
            'can be written again, type the same command with --resume',
        ) from error


def _csv_lines(rows: Sequence[Sequence[Any]]) -> bytes:
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(rows)
    return text.getvalue().encode('utf8', 'surrogateescape')


def _write_parquet(rows: Path, path: Path) -> None:
    """Write JSON lines as a Parquet file, some thousand at once."""
    import pyarrow
    from pyarrow import parquet

    from hybridcls.apis.parquet_texts import raw_columns, text_values

    # All rows are read before: the first thousands may have no label, say, where later ones do.
    raw: set[str] = set()
    schemas = []
    for columns in _groups(rows):
        found = raw_columns(columns)
        raw |= found
        schemas.append(pyarrow.table({name: [''] * len(values) if name in found else values
                                      for name, values in columns.items()}).schema)  # fmt: skip
    schema = pyarrow.schema([
        pyarrow.field(field.name, pyarrow.binary()) if field.name in raw else field
        for field in (pyarrow.unify_schemas(schemas) if schemas else ())  # no row, no column
    ])  # fmt: skip
    with parquet.ParquetWriter(path, schema) as writer:
        for columns in _groups(rows):
            columns.update({name: text_values(columns[name], raw=True) for name in raw})
            writer.write_table(pyarrow.table(columns, schema))


def _groups(rows: Path) -> Iterator[dict[str, Any]]:
    """Yield the columns of some thousand JSON lines after the other, by the keys of the first line of each."""
    from itertools import islice

    with open(rows, encoding='utf8') as lines:
        while group := [json.loads(line) for line in islice(lines, _ROWS_OF_A_GROUP)]:
            yield {name: [row.get(name) for row in group] for name in group[0]}
