"""Predict the classes of images with a trained model: class, probability, and uncertainties if the head has them.

The exit code is 0 if every image has an answer, 1 if some images could not be read (they are listed), and 2 if none
could be read.
"""

import sys
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any, TextIO

from hybridcls.checks import check_installed, counted, in_one_line, is_or_are

from .answer_loop import take_answers
from .calibration_options import add_calibration_options, add_skip_option
from .device import hide_gpus
from .image_options import add_image_options, check_images, check_model, open_model
from .json_output import json_line, own_stdout, tell
from .out_file import add_out_option, check_out
from .overlay_options import add_overlay_options, chosen_layers
from .quick_imports import quick_imports
from .unfinished_answers import FORMATS, Progress, UnfinishedAnswers, digest_of, identity_of

if TYPE_CHECKING:
    from hybridcls.apis.answer import Answer
    from hybridcls.apis.image_inputs import ImageInputs
    from hybridcls.apis.inferencer import Answers, HybridInferencer

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'predict the classes of images with a trained model'
_TABLES = ('.csv', '.tsv')


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'checkpoint',
        help='checkpoint file, or work dir: its best checkpoint, or the last one if there is no best. The config and '
        'the class names are read from it. Also: a folder of saved LoRA adapters, or the config of an '
        'EnsembleClassifier',
    )
    parser.add_argument(
        'images',
        nargs='+',
        help="images, folders (all images below them), patterns ('photos/**/*.jpg'), or tables (.csv, .tsv) with a "
        'column path. The accuracy is printed if the folders are named after classes or the table has a column label',
    )
    add_calibration_options(parser)
    add_skip_option(parser)
    add_out_option(parser, 'write the answers to FILE (.csv, .jsonl, .parquet) instead of printing them')
    parser.add_argument('--resume', action='store_true', help='continue an interrupted run of the same command')
    parser.add_argument('--show-dir', metavar='FOLDER', help='write each image with its answer to FOLDER')
    add_overlay_options(
        parser, '--overlays', 'write class activation maps (Grad-CAM) of the images to FOLDER', metavar='FOLDER'
    )
    parser.add_argument(
        '--top-k', type=int, default=1, metavar='K', help='give the K most probable classes of each image; default: 1'
    )
    parser.add_argument(
        '--embeddings',
        action='store_true',
        help='also write the embeddings (a model without classes, such as SupCon, always does)',
    )
    parser.add_argument(
        '--fast',
        action='store_true',
        help='compile the model and compute in bfloat16, if the machine supports it and there are enough images to '
        'make up for the compilation; answers may differ by rounding errors of bfloat16',
    )
    add_image_options(parser)


def run(args: Namespace) -> int:
    """Answer; return 1 if some images could not be read."""
    _check(args)
    with own_stdout() as stdout:
        hide_gpus(args.device)
        with quick_imports():
            from hybridcls.apis.image_inputs import read_inputs

            inputs = read_inputs(args.images)
        model = open_model(
            args, args.checkpoint, args.amp or None, calibration=args.calibration, skip_sure=args.skip_sure,
            fast=args.fast,
        )  # fmt: skip
        if model.calibration is not None:
            tell(model.calibration.why, sys.stderr)
        return _answer(args, model, inputs, stdout)


def _check(args: Namespace) -> None:
    """Find what can be found wrong without the imports that take seconds."""
    check_model('predict', args)
    check_out('predict', args.out, args.force, FORMATS)
    if args.resume and not args.out:
        raise ValueError('predict: --resume needs --out FILE, the output file of the interrupted run.')
    if str(args.out).endswith('.parquet'):
        check_installed('predict', 'pyarrow', f'--out {args.out}', 'parquet')
    check_images('predict', args.images)
    chosen_layers('predict', args)


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
    if args.overlays is not None:
        from hybridcls.apis.overlays import check_overlays, write_overlays

        check_overlays(model, items, chosen_layers('predict', args))
    batch_size = args.batch_size or model.batch_size
    file = None
    if args.out:
        settings = dict(
            checkpoint=identity_of(model.checkpoint_path), batch_size=batch_size, top_k=args.top_k,
            embeddings=args.embeddings, amp=model.amp, inference=model.wanted_settings.as_key(),
            calibration=identity_of(model.calibration.path) if model.calibration else None, skip_sure=model.skips,
            preprocessing=[model.preprocessing_version, ' '.join(repr(model.pipeline).split())],
        )  # fmt: skip
        listed = digest_of(text for item in items for text in (str(item.path), item.label or ''))
        file = UnfinishedAnswers(
            args.out, Progress(listed, settings), args.resume, args.force, images=[str(item.source) for item in items]
        )
        if file.progress.done:
            tell(
                f'{counted(file.progress.done, "image", of=len(items))} {is_or_are(file.progress.done)} done; '
                'continuing from there.',
                sys.stderr,
            )
    answers = model(
        inputs, batch_size=batch_size, workers=args.workers, top_k=args.top_k, embeddings=args.embeddings,
        on_unreadable=args.on_unreadable, skip=file.progress.done if file else 0, show_dir=args.show_dir,
    )  # fmt: skip
    if file is not None:
        answers.restore(file.progress.more)
    labelled = any(model.class_of(item.label) is not None for item in items)
    writer: Any = _ToFile(file) if file is not None else _JsonList(stdout) if args.json else _Lines(stdout, model)
    take_answers(
        'predict', answers, len(items),
        lambda batch: writer.write([_row(one, labelled, args.embeddings) for one in batch], batch, answers), file,
    )  # fmt: skip
    if file is not None:
        file.finish()
    if args.overlays is not None:
        count = write_overlays(model, items, args.overlays, chosen_layers('predict', args), batch_size)
        tell(f'{counted(count, "picture")} with overlays -> {args.overlays}', sys.stderr)
    _report(args, model, answers, stdout, len(items), labelled, time.monotonic() - began)
    return 1 if answers.unreadable else 0


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
    if answer.streams is not None:
        row['streams'] = '|'.join(answer.streams)
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
        for row in rows:
            self.stdout.write(self._between + json_line(row))
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
            if answer.streams is not None:
                others.append(f'by {" and ".join(answer.streams)}')
            others += [f'{name}={value:.3g}' for name, value in answer.uncertainties.items()]
            more = f'  ({", ".join(others)})' if others else ''
            name = answer.class_name or '(none)'  # of several labels an image
            path = in_one_line(str(answer.path))
            self.stdout.write(f'{answer.probability:.4f}  {name:<{self._width}}{more}  {path}\n')
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
    if not args.json:
        if labelled:
            tell(str(answers.accuracy), sys.stderr)
        written = f' -> {args.out}' if args.out else ''
        skipped = f', {len(unreadable)} cannot be read' if unreadable else ''
        unknown = f", {answers.accuracy.unanswered} of them with 'unknown'" if answers.accuracy.unanswered else ''
        one = f', {answers.skipped} of them with one stream only' if model.skips else ''
        tell(
            f'{counted(total - len(unreadable), "image")} answered{unknown}{one}{skipped}{written} ({seconds:.1f} s)',
            sys.stderr,
        )
        return
    import json

    content = dict(
        command='predict', checkpoint=model.checkpoint_path, why=model.why, images=total,
        answered=total - len(unreadable), unknown=answers.accuracy.unanswered, out=args.out,
        calibration=model.calibration.path if model.calibration else None,
        by_one_stream=answers.skipped if model.skips else None,
        unreadable=[one._asdict() for one in unreadable],
        accuracy=answers.accuracy.as_dict() if labelled else None, inference=answers.inference,
        seconds=round(seconds, 3),
    )  # fmt: skip
    text = json.dumps(content, indent=2)
    stdout.write(f'{text}\n' if args.out else '\n],\n' + text.removeprefix('{\n') + '\n')
