"""Write the embeddings of images to an index file, for `hybridcls search`.

The index also stores which model made it. The exit code is 0 if every image has an embedding, 1 if some images could
not be read (they are listed), and 2 if none could be read.
"""

import base64
import json
import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from hybridcls.checks import check_file, check_installed, counted, is_or_are

from .answer_loop import take_answers
from .image_options import add_image_options, check_images, check_model, open_model
from .json_output import print_json, stdout_for_json, tell
from .out_file import add_out_option, check_out
from .unfinished_answers import Progress, UnfinishedAnswers, digest_of, identity_of

if TYPE_CHECKING:
    import numpy as np

    from hybridcls.apis.embedding_index import EmbeddingIndex
    from hybridcls.apis.image_inputs import Item
    from hybridcls.apis.index_file import IndexPart

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'write the embeddings of images to an index file, for `search`'
_FORMATS = ('.npz', '.parquet')
_ROWS_AT_ONCE = 8192


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'checkpoint', help='checkpoint file, or work dir: its best checkpoint, or the last one if there is no best'
    )
    parser.add_argument(
        'images',
        nargs='+',
        help="images, folders (all images below them), patterns ('photos/**/*.jpg'), or tables (.csv, .tsv) with a "
        'column path. The label of an image is the name of its first folder below the given one, or the column label',
    )
    add_out_option(parser, 'index to write (.npz or .parquet), with the columns path, label, norm and vector')
    parser.add_argument(
        '--append',
        action='store_true',
        help='add the images whose paths are not in the index FILE yet; with --force, begin again instead of '
        'continuing an interrupted --append',
    )
    parser.add_argument('--resume', action='store_true', help='continue an interrupted run of the same command')
    add_image_options(parser)


def run(args: Namespace) -> int:
    """Embed; return 1 if some images could not be read."""
    began = time.monotonic()
    if not args.out:
        raise ValueError('embed: expected --out FILE, the index to write (.npz, .parquet).')
    check_model('embed', args)
    check_out('embed', args.out, args.force or args.append, _FORMATS)
    if args.append:
        check_file('embed', 'index', args.out, 'Leave --append out to write a new index.')
    if args.out.endswith('.parquet'):
        check_installed('embed', 'pyarrow', f'--out {args.out}', 'parquet')
    check_images('embed', args.images)
    with stdout_for_json(args.json):
        report = _embed(args)
    report['seconds'] = round(time.monotonic() - began, 3)
    if args.json:
        print_json(report)
    else:
        skipped = f', {len(report["unreadable"])} cannot be read' if report['unreadable'] else ''
        tell(
            f'{counted(report["embedded"], "image")} embedded{skipped} -> {args.out}, which has '
            f'{counted(report["images"], "image")} '
            f'({report["seconds"]:.1f} s)',
            sys.stderr,
        )
    return 1 if report['unreadable'] else 0


def _embed(args: Namespace) -> dict[str, Any]:
    from hybridcls.apis.embedding_index import EmbeddingIndex
    from hybridcls.apis.image_inputs import read_inputs

    index = EmbeddingIndex(args.out, 'embed') if args.append else None
    items = _new_items(list(read_inputs(args.images, 'embed').items), index, args.out)
    if not items:
        return dict(command='embed', out=args.out, embedded=0, images=len(index or ()), unreadable=[])
    amp = args.amp or (index.about.get('amp') if index is not None else None)
    model = open_model(args, args.checkpoint, amp, calibration=False)
    from hybridcls.apis.answer import checked_embedding
    from hybridcls.apis.embedding_index import about_model, check_same_model
    from hybridcls.apis.image_inputs import ImageInputs

    about = about_model(model)
    report: dict[str, Any] = dict(command='embed', checkpoint=model.checkpoint_path, why=model.why, out=args.out,
                                  embedded=0, images=len(index or ()), unreadable=[])  # fmt: skip
    if index is not None:
        check_same_model('embed', index.about, args.out, about, args.checkpoint)
    batch_size = args.batch_size or model.batch_size
    settings = dict(checkpoint=about['digest'], batch_size=batch_size, amp=model.amp,
                    preprocessing=about['preprocessing'], inference=about['inference'],
                    index=identity_of(args.out) if args.append else None)  # fmt: skip
    listed = digest_of(text for item in items for text in (str(item.path), item.label or ''))
    file = UnfinishedAnswers(
        args.out, Progress(listed, settings), args.resume, args.force, 'embed', partial(_write_index, about, index),
        [str(item.source) for item in items],
    )  # fmt: skip
    if file.progress.done:
        tell(
            f'{counted(file.progress.done, "image", of=len(items))} {is_or_are(file.progress.done)} done; continuing '
            'from there.',
            sys.stderr,
        )
    answers = model(
        ImageInputs(items, len(items)), batch_size=batch_size, workers=args.workers, top_k=1, embeddings=True,
        on_unreadable=args.on_unreadable, skip=file.progress.done,
    )  # fmt: skip
    answers.restore(file.progress.more)
    label_of = {item.path: item.label or '' for item in items}

    def write(batch: list) -> None:
        vectors = [checked_embedding('embed', one, model.head_name) for one in batch]
        if index is not None and vectors:
            check_same_model('embed', index.described, args.out, about | dict(width=len(vectors[0])), args.checkpoint)
        rows = [_row(one, vector, label_of) for one, vector in zip(batch, vectors, strict=True)]
        file.write(rows, answers.done, answers.state)

    take_answers('embed', answers, len(items), write, file)
    file.finish()
    report['embedded'] = len(items) - len(answers.unreadable)
    report['images'] += report['embedded']
    report['unreadable'] = [one._asdict() for one in answers.unreadable]
    return report


def _new_items(items: list['Item'], index: Optional['EmbeddingIndex'], out: str) -> list['Item']:
    """Leave out images that are there twice, or in the index; give paths from where the index has its own."""
    from hybridcls.apis.embedding_index import absolute, resolved

    here = os.getcwd()
    known = set(resolved(index.absolute_paths())) if index is not None else set()
    first = len(known)
    new: list[Item] = []
    twice = 0
    places = [absolute(str(item.path), here) for item in items]
    for item, place, file in zip(items, places, resolved(places), strict=True):
        if file in known:
            twice += 1
            continue
        known.add(file)
        if index is not None and index.about.get('folder', here) != here:
            item = item._replace(path=place)
        new.append(item)
    if twice:
        where = f' or in {out}' if first else ''
        tell(
            f'{counted(twice, "image", of=len(items))} {is_or_are(twice)} given twice{where}, and not embedded again.',
            sys.stderr,
        )
    return new


def _row(answer: Any, vector: 'np.ndarray', label_of: dict[Any, str]) -> dict[str, Any]:
    """Return a row as it waits for the file to be complete."""
    import numpy as np

    content = base64.b64encode(np.ascontiguousarray(vector, '<f4').tobytes()).decode()
    return dict(path=answer.path, label=label_of[answer.path], vector=content)


def _write_index(about: dict[str, Any], index: Optional['EmbeddingIndex'], rows: Path, out: Path) -> None:
    """Write the index of rows that waited, behind those that it has."""
    from hybridcls.apis.embedding_index import described
    from hybridcls.apis.index_file import write_index_file

    with open(rows, 'rb') as lines:
        count = sum(1 for _ in lines)
    width = next(_parts(rows, 1)).vectors.shape[1]

    def parts() -> Iterator['IndexPart']:
        if index is not None:
            yield from index.parts()
        yield from _parts(rows)

    described_by = described(about if index is None else index.about, width)
    write_index_file(out, described_by, parts(), count + len(index or ()))


def _parts(rows: Path, at_once: int = _ROWS_AT_ONCE) -> Iterator['IndexPart']:
    import numpy as np

    from hybridcls.apis.index_file import IndexPart

    with open(rows, encoding='utf8') as lines:
        while group := [json.loads(line) for line in islice(lines, at_once)]:
            vectors = np.stack([np.frombuffer(base64.b64decode(row['vector']), '<f4') for row in group])
            norms = np.linalg.norm(vectors, axis=1)
            yield IndexPart([row['path'] for row in group], [row['label'] for row in group], norms, vectors)
