"""Answer for images with a trained model: class, probability and, where the head has them, uncertainties.

The exit code is 0 if every image has an answer, 1 if some could not be read (they are listed), 2 if none could.
"""

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Optional, TextIO

from hybridcls.checks import check_file, check_installed, near_files

from .calibration_options import add_calibration_options
from .device import add_device_option, hide_gpus
from .json_output import stdout_for_json, tell
from .out_file import add_out_option, check_out
from .quick_imports import quick_imports
from .unfinished_answers import FORMATS, Progress, UnfinishedAnswers, digest_of

if TYPE_CHECKING:
    from hybridcls.apis.answer import Answer
    from hybridcls.apis.image_inputs import ImageInputs
    from hybridcls.apis.inferencer import Answers, HybridInferencer

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'answer for images with a trained model: classes, probabilities, uncertainties'
_MOST_LISTED = 20
_TABLES = ('.csv', '.tsv')
_MORE_IMAGES = ('.heic', '.heif', '.hif', '.jxl', '.avif', '.qoi')  # of plugins of Pillow


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'checkpoint',
        help='checkpoint file, or work dir: its best checkpoint, else its last; the config and the class names are in '
        'it. Also a folder of saved LoRA adapters, or the config of an EnsembleClassifier',
    )
    parser.add_argument(
        'images',
        nargs='+',
        help="images, folders (all images below), patterns ('photos/**/*.jpg'), tables (.csv, .tsv) with a column "
        'path. Folders named as classes, or a column label, give the accuracy too',
    )
    parser.add_argument('--config', help='config, for a checkpoint that holds none (bare weights)')
    add_calibration_options(parser)
    add_out_option(parser, 'write the answers to FILE (.csv, .jsonl, .parquet) instead of printing them')
    parser.add_argument('--resume', action='store_true', help='go on with an interrupted run of the same command')
    parser.add_argument('--show-dir', metavar='FOLDER', help='write the images with their answers to FOLDER')
    parser.add_argument('--top-k', type=int, default=1, metavar='K', help='the K most probable classes; default: 1')
    parser.add_argument(
        '--embeddings', action='store_true', help='also write the embeddings (always so without classes: SupCon)'
    )
    parser.add_argument('--batch-size', type=int, metavar='N', help='images at once; default: as in a test')
    parser.add_argument(
        '--workers', type=int, metavar='N', help='threads that read images ahead; default: one a processor, at most 8'
    )
    parser.add_argument(
        '--on-unreadable',
        choices=['skip', 'error'],
        default='skip',
        help='an image that cannot be read is listed and skipped (the default), or ends the run',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision, as in test; default: as the config says')
    add_device_option(parser)
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='run the code in the checkpoint, if it contains some: it may run any command with your rights',
    )


def run(args: Namespace) -> int:
    """Answer; return 1 if some images could not be read."""
    _check(args)
    with _own_stdout() as stdout:
        hide_gpus(args.device)
        with quick_imports():
            from hybridcls.apis.image_inputs import read_inputs
            from hybridcls.apis.inferencer import HybridInferencer
            from hybridcls.checkpoint_reading import trust_checkpoints

            if args.trust_checkpoint:
                trust_checkpoints()
            inputs = read_inputs(args.images)
            model = HybridInferencer(
                args.checkpoint, args.device, args.config, amp=args.amp or None, calibration=args.calibration
            )
        tell(model.why, sys.stderr)
        if model.calibration is not None:
            tell(model.calibration.why, sys.stderr)
        return _answer(args, model, inputs, stdout)


@contextmanager
def _own_stdout() -> Iterator[TextIO]:
    """Keep stdout for the answers; what libraries print goes to stderr."""
    sys.stdout.flush()
    stdout = os.fdopen(os.dup(1), 'w', encoding='utf8', errors='surrogateescape')
    try:
        with stdout_for_json(True):
            yield stdout
        stdout.flush()
    finally:
        with suppress(BrokenPipeError):
            stdout.close()


def _check(args: Namespace) -> None:
    """Find what can be found wrong without the imports that take seconds."""
    if '://' not in args.checkpoint and not os.path.isdir(args.checkpoint):
        check_file('predict', 'checkpoint', args.checkpoint)
    if args.config is not None and '::' not in args.config:
        check_file('predict', 'config', args.config)
    check_out('predict', args.out, args.force, FORMATS)
    if args.resume and not args.out:
        raise ValueError('predict: --resume needs --out FILE, the file of the run that is to go on.')
    if str(args.out).endswith('.parquet'):
        check_installed('predict', 'pyarrow', f'--out {args.out}', 'parquet')
    for path in args.images:
        _check_images(os.path.expanduser(path))


def _check_images(path: str) -> None:
    """Raise if there is no image for a path, as far as names tell: a folder without any is found out at once."""
    if os.path.isdir(path):
        from PIL import Image

        endings = tuple(Image.registered_extensions()) + _MORE_IMAGES
        others: Counter[str] = Counter()
        for here, folders, files in os.walk(path):
            if any(os.path.islink(os.path.join(here, name)) for name in folders):
                return  # links may lead in circles: the listing itself knows how to follow them
            for name in files:
                if name.lower().endswith(endings):
                    return
                others[os.path.splitext(name)[1].lower() or 'without extension'] += 1
        there = ', '.join(f'{what} ({count})' for what, count in others.most_common(8))
        raise FileNotFoundError(
            f'predict: expected images below {path!r}, got none{f"; there are other files: {there}" if there else ""}.'
        )
    if not os.path.exists(path) and '://' not in path and not any(mark in path for mark in '*?['):
        raise FileNotFoundError(f'predict: the image {path!r} does not exist.{near_files(path)}')


def _answer(args: Namespace, model: 'HybridInferencer', inputs: 'ImageInputs', stdout: TextIO) -> int:
    began = time.monotonic()
    if not model.classes:
        args.embeddings = True
        if not args.out:
            raise ValueError(
                f'predict: the head of the model ({model.head_name}) has no classes, so there are only embeddings. Add '
                '--out FILE to write them.'
            )
        tell(f'The head ({model.head_name}) has no classes: only embeddings are written.', sys.stderr)
    items = list(inputs.items)
    batch_size = args.batch_size or model.batch_size
    file = None
    if args.out:
        settings = dict(
            checkpoint=_identity(model.checkpoint_path), batch_size=batch_size, top_k=args.top_k,
            embeddings=args.embeddings, amp=model.amp,
            calibration=_identity(model.calibration.path) if model.calibration else None,
        )  # fmt: skip
        file = UnfinishedAnswers(
            args.out, Progress(digest_of(str(item.path) for item in items), settings), args.resume, args.force
        )
        if file.progress.done:
            tell(f'{file.progress.done} of {len(items)} images are done; going on from there.', sys.stderr)
    answers = model(
        inputs, batch_size=batch_size, workers=args.workers, top_k=args.top_k, embeddings=args.embeddings,
        on_unreadable=args.on_unreadable, skip=file.progress.done if file else 0, show_dir=args.show_dir,
    )  # fmt: skip
    if file is not None:
        answers.restore(file.progress.more)
    labelled = any(model.class_of(item.label) is not None for item in items)
    writer: Any = _ToFile(file) if file is not None else _JsonList(stdout) if args.json else _Lines(stdout, model)
    listed = len(answers.unreadable)
    try:
        with _bar(len(items), answers.done) as advance:
            for batch in answers.batches():
                for one in answers.unreadable[listed:]:
                    listed += 1
                    if listed <= _MOST_LISTED:
                        advance.say(f'cannot be read: {one.path}: {one.reason}')
                writer.write([_row(answer, labelled, args.embeddings) for answer in batch], batch, answers)
                advance(answers.done)
    except BaseException as error:
        if file is not None:
            file.leave(answers.done, answers.state())
            if isinstance(error, KeyboardInterrupt):
                tell(
                    f'{file.progress.done} of {len(items)} images are done: the same command with --resume goes on.',
                    sys.stderr,
                )
        raise
    if len(answers.unreadable) == len(items):
        if file is not None:
            file.remove()
        first = answers.unreadable[0]
        raise ValueError(
            f'predict: none of the {len(items)} images can be read. The first, {first.path}: {first.reason}'
        )
    if file is not None:
        file.finish()
    _report(args, model, answers, stdout, len(items), labelled, time.monotonic() - began)
    return 1 if answers.unreadable else 0


def _identity(path: str) -> list[Any]:
    """Return what tells a checkpoint from one that was written over it."""
    if not os.path.exists(path):
        return [path]
    status = os.stat(path)
    return [os.path.abspath(path), status.st_size, status.st_mtime_ns]


def _row(answer: 'Answer', labelled: bool, embeddings: bool) -> dict[str, Any]:
    """Return the columns of an answer."""
    row: dict[str, Any] = dict(path=answer.path)
    if answer.class_name is not None:
        row.update({'class': answer.class_name, 'probability': answer.probability})
        for number, (name, score) in enumerate(answer.top[1:], 2):
            row.update({f'class_{number}': name, f'probability_{number}': score})
    if answer.answered is not None:
        row['answered'] = answer.answered
    if answer.prediction_set is not None:
        row['set'] = '|'.join(answer.prediction_set)
    row.update(answer.uncertainties)
    for name, of_head in answer.heads.items():
        if of_head.class_name is not None:
            row.update({f'{name}.class': of_head.class_name, f'{name}.probability': of_head.probability})
        row.update({f'{name}.{key}': value for key, value in of_head.uncertainties.items()})
    if labelled:
        row['label'] = answer.label
    if embeddings and answer.embedding is not None:
        row['embedding'] = answer.embedding.tolist()
    return row


class _ToFile:
    def __init__(self, file: UnfinishedAnswers) -> None:
        self._file = file

    def write(self, rows: list[dict], batch: list['Answer'], answers: 'Answers') -> None:
        if self._file.path.suffix == '.csv':
            rows = [_flat(row) for row in rows]
        self._file.write(rows, answers.done, answers.state)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Give each number of an embedding a column of its own."""
    vector = row.pop('embedding', ())
    return {**row, **{f'embedding_{number}': value for number, value in enumerate(vector)}}


class _JsonList:
    """Print ``{"predictions": [...`` while the answers come; the report closes the object."""

    def __init__(self, stdout: TextIO) -> None:
        self.stdout = stdout
        self._between = '{"predictions": [\n'

    def write(self, rows: list[dict], batch: list['Answer'], answers: 'Answers') -> None:
        import json

        for row in rows:
            self.stdout.write(self._between + json.dumps(row))
            self._between = ',\n'


class _Lines:
    """Print a line an image: probability, class, other classes and uncertainties, path."""

    def __init__(self, stdout: TextIO, model: 'HybridInferencer') -> None:
        self.stdout = stdout
        self._width = min(30, max(map(len, model.classes)))

    def write(self, rows: list[dict], batch: list['Answer'], answers: 'Answers') -> None:
        for answer in batch:
            others = [f'{name} {score:.4f}' for name, score in answer.top[1:]]
            if answer.prediction_set is not None:
                others.append(f'one of {"|".join(answer.prediction_set)}')
            others += [f'{name}={value:.3g}' for name, value in answer.uncertainties.items()]
            more = f'  ({", ".join(others)})' if others else ''
            name = answer.class_name or '(none)'  # of several labels an image
            self.stdout.write(f'{answer.probability:.4f}  {name:<{self._width}}{more}  {answer.path}\n')
        self.stdout.flush()


def _report(
    args: Namespace,
    model: 'HybridInferencer',
    answers: 'Answers',
    stdout: TextIO,
    total: int,
    labelled: bool,
    seconds: float,
) -> None:
    """Say what was done."""
    unreadable = answers.unreadable
    if len(unreadable) > _MOST_LISTED:
        tell(f'... and {len(unreadable) - _MOST_LISTED} more that cannot be read', sys.stderr)
    if not args.json:
        if labelled:
            tell(str(answers.accuracy), sys.stderr)
        written = f' -> {args.out}' if args.out else ''
        skipped = f', {len(unreadable)} cannot be read' if unreadable else ''
        tell(f'{total - len(unreadable)} images answered{skipped}{written} ({seconds:.1f} s)', sys.stderr)
        return
    import json

    content = dict(
        command='predict', checkpoint=model.checkpoint_path, why=model.why, images=total,
        answered=total - len(unreadable), out=args.out,
        calibration=model.calibration.path if model.calibration else None,
        unreadable=[one._asdict() for one in unreadable],
        accuracy=answers.accuracy.as_dict() if labelled else None, seconds=round(seconds, 3),
    )  # fmt: skip
    text = json.dumps(content, indent=2)
    stdout.write(f'{text}\n' if args.out else '\n],\n' + text.removeprefix('{\n') + '\n')


class _Bar:
    """A progress bar on stderr, where that is a terminal."""

    def __init__(self, progress: Optional[Any], task: Any) -> None:
        self._progress, self._task = progress, task

    def __call__(self, done: int) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=done)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            tell(text, sys.stderr)


@contextmanager
def _bar(total: int, done: int) -> Iterator[_Bar]:
    if not sys.stderr.isatty() or total < 2:
        yield _Bar(None, None)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn('images'), BarColumn(bar_width=None), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(progress, progress.add_task('', total=total, completed=done))
