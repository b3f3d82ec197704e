"""Find the images of an index that are most similar to query images; or describe an index, or remove images from it.

The search is exact. Queries are images, which the checkpoint of the index embeds, or a file of embeddings. A query
never matches its own file. The exit code is 1 if some queries could not be read (they are listed).
"""

import csv
import itertools
import json
import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, TextIO

from hybridcls.checks import check_file, check_installed, counted, did_you_mean, in_one_line, listed

from .answer_loop import take_answers
from .image_options import add_image_options, check_images, check_model, open_model
from .json_output import own_stdout, tell
from .out_file import add_out_option, check_out, unfinished_out
from .quick_imports import quick_imports

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from hybridcls.apis.embedding_index import EmbeddingIndex
    from hybridcls.apis.index_search import IndexSearch, Match

    _Writer = Callable[[str, str, list[Match]], None]  # the name of a query, its label, its matches

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'find the images of an index that are most similar to query images'
_FORMATS = ('.csv', '.jsonl')
_INDEXES = ('.npz', '.npy', '.parquet')
_QUERIES_AT_ONCE = 4096
_RIGHT, _WRONG, _UNKNOWN = '#2e9e44', '#d03a2f', '#c8c8c8'  # frames of a sheet
_POOLS = ('none', 'max', 'mean', 'prototype', 'quality')


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument('index', help='index of `hybridcls embed`, or another .npz, .npy or .parquet file with vectors')
    parser.add_argument(
        'queries',
        nargs='*',
        help='images, folders, patterns or tables; or one file of embeddings (.npz, .npy, .parquet). Without queries, '
        'the index is described',
    )
    parser.add_argument('--k', type=int, default=5, metavar='K', help='number of matches of each query; default: 5')
    parser.add_argument(
        '--pool',
        choices=_POOLS,
        default='none',
        help='find classes instead of images, and compare a query with the most similar image of the class (max), '
        'with all its images, averaging the similarities (mean), with the mean of its L2-normalized embeddings '
        '(prototype), or with their mean weighted by the norms (quality); default: none, find images',
    )
    parser.add_argument(
        '--distractors', metavar='FILE', help='index of more images to search, which belong to no class'
    )
    parser.add_argument(
        '--threshold',
        type=float,
        metavar='S',
        help='smallest similarity of a match; default: the threshold of the index (`hybridcls calibrate`), if any',
    )
    parser.add_argument(
        '--engine',
        choices=('exact', 'faiss'),
        default='exact',
        help='how to find candidates: both give the same answers, and faiss loads the index into memory; default: '
        'exact',
    )
    add_out_option(parser, 'write the matches to FILE (.csv, .jsonl) instead of printing them')
    parser.add_argument(
        '--sheet', metavar='FILE', help='write a picture of the queries and their matches to FILE (.png, .jpg)'
    )
    parser.add_argument(
        '--sheet-queries', type=int, default=20, metavar='N', help='draw the first N queries; default: 20'
    )
    parser.add_argument(
        '--checkpoint', help='checkpoint that embeds the queries; default: the checkpoint that made the index'
    )
    parser.add_argument(
        '--remove',
        nargs='+',
        metavar='PATH',
        help='remove these images, folders or patterns from the index, and do not search',
    )
    add_image_options(parser)


def run(args: Namespace) -> int:
    """Search; return 1 if some queries could not be read."""
    _check(args)
    with own_stdout() as stdout:
        from hybridcls.apis.embedding_index import EmbeddingIndex

        index = EmbeddingIndex(args.index)
        if args.remove:
            return _remove(args, index, stdout)
        if not args.queries:
            return _describe(args, index, stdout)
        return _search(args, index, stdout)


def _check(args: Namespace) -> None:
    """Find what can be found wrong without the imports that take seconds."""
    check_file('search', 'index', args.index)
    check_out('search', args.out, args.force, _FORMATS)
    check_out('search', args.sheet, args.force, ('.png', '.jpg', '.jpeg'))
    check_model('search', args)
    if args.remove and args.queries:
        raise ValueError('search: --remove changes the index and does not search. Leave out the queries, or --remove.')
    if args.engine == 'faiss':
        check_installed('search', 'faiss', '--engine faiss', 'search')
    if args.distractors is not None:
        check_file('search', 'index of distractors', args.distractors)
    files = [path for path in args.queries if path.lower().endswith(_INDEXES)]
    if files and len(args.queries) > 1:
        raise ValueError(
            f'search: expected images, or one file of embeddings, got {listed(args.queries, 4)}. Search once for each.'
        )
    for path in files:
        check_file('search', 'file of queries', path)
    if not files:
        check_images('search', args.queries)


def _describe(args: Namespace, index: 'EmbeddingIndex', stdout: TextIO) -> int:
    import numpy as np

    labels, counts = np.unique(index.labels[index.labels != ''], return_counts=True)
    about = {key: value for key, value in index.about.items() if key not in ('format', 'version')}
    by_label = dict(zip(labels.tolist(), counts.tolist(), strict=True))
    content = dict(command='search', index=args.index, images=len(index), width=index.width, labels=by_label) | about
    if args.json:
        stdout.write(f'{json.dumps(content, indent=2)}\n')
        return 0
    stdout.write(f'{args.index}: {counted(len(index), "image")}, {counted(index.width, "number")} each\n')
    stdout.write(f'model   {about.get("checkpoint", "not known")}  ({str(about.get("digest", "no digest"))[:12]})\n')
    of_each = listed((f'{name} ({count})' for name, count in by_label.items()), 12)
    stdout.write(f'labels  {of_each or "none"}\n')
    if about.get('threshold') is not None:
        stdout.write(f'matches at a similarity of {about["threshold"]} or more\n')
    return 0


def _remove(args: Namespace, index: 'EmbeddingIndex', stdout: TextIO) -> int:
    from hybridcls.apis.embedding_index import absolute

    places = index.absolute_paths()
    rows: set[int] = set()
    for wanted in args.remove:
        here = absolute(os.path.expanduser(wanted), os.getcwd())
        found = [
            row
            for row, (place, path) in enumerate(zip(places, index.paths.tolist(), strict=True))
            if wanted == path or place == here or place.startswith(here.rstrip(os.sep) + os.sep)
            or fnmatchcase(place, here) or fnmatchcase(path, wanted)
        ]  # fmt: skip
        if not found:
            raise ValueError(
                f'search: expected images of {args.index} for --remove {wanted}, got none; nothing is removed.'
                f'{did_you_mean(wanted, index.paths[:10_000].tolist())}'
            )
        rows.update(found)
    index.remove(rows)
    left = len(index) - len(rows)
    if args.json:
        content = dict(command='search', index=args.index, removed=[str(index.paths[row]) for row in sorted(rows)],
                       images=left)  # fmt: skip
        stdout.write(f'{json.dumps(content, indent=2)}\n')
    else:
        tell(f'{counted(len(rows), "image")} removed from {args.index}, which has {left}', sys.stderr)
    return 0


class _Queries(NamedTuple):
    """Some queries: their names, their labels (``''``: none), where they are, and their embeddings (N, D)."""

    names: Sequence[str]
    labels: Sequence[str]
    places: Sequence[str]
    vectors: 'np.ndarray'


def _search(args: Namespace, index: 'EmbeddingIndex', stdout: TextIO) -> int:
    began = time.monotonic()
    with quick_imports():
        from hybridcls.apis.embedding_index import EmbeddingIndex
        from hybridcls.apis.index_search import IndexSearch

    distractors = EmbeddingIndex(args.distractors) if args.distractors else None
    search = IndexSearch(index, args.k, args.pool, distractors, args.threshold, args.engine, _device(args.device))
    if search.threshold is not None and args.threshold is None:
        tell(f'Matches have a similarity of {search.threshold:.4f} or more (the threshold of the index).', sys.stderr)
    if search.threshold is None and index.about.get('threshold') is not None:
        made_for = index.about['threshold_for']['pool']
        tell(f'The threshold of the index is for --pool {made_for}, and is not used.', sys.stderr)
    of_file = args.queries[0].lower().endswith(_INDEXES)
    with _opened(args.out) as file:
        answers = _Answers(args, search, _writer(args, file, stdout))
        unreadable = _ask_file(args.queries[0], index, answers) if of_file else _ask_images(args, index, answers)
    if args.sheet:
        _draw(args.sheet, answers.shown, search)
    _report(args, answers, stdout, unreadable, time.monotonic() - began)
    return 1 if unreadable else 0


def _device(name: str) -> str:
    if name != 'auto':
        return name
    from mmengine.device import get_device

    return get_device()


@contextmanager
def _opened(path: Optional[str]) -> Iterator[Optional[TextIO]]:
    if path is None:
        yield None
        return
    with (
        unfinished_out(path) as unfinished,
        open(unfinished, 'w', encoding='utf8', errors='surrogateescape', newline='') as file,
    ):
        yield file


class _Answers:
    """The matches of all queries: written down, counted, and the first ones kept for the sheet."""

    def __init__(
        self, args: Namespace, search: 'IndexSearch', write: Callable[[str, str, list['Match']], None]
    ) -> None:
        self.search, self._write = search, write
        self._most_shown = args.sheet_queries if args.sheet else 0
        self.count = self.matched = 0
        self.shown: list[tuple[str, str, str, list[Match]]] = []

    def ask(self, queries: _Queries) -> None:
        """Search for some queries."""
        found = self.search(queries.vectors, queries.places, queries.labels)
        for name, label, place, matches in zip(queries.names, queries.labels, queries.places, found, strict=True):
            self._write(name, label, matches)
            self.count += 1
            self.matched += bool(matches)
            if len(self.shown) < self._most_shown:
                self.shown.append((name, label, place, matches))


def _ask_file(path: str, index: 'EmbeddingIndex', answers: _Answers) -> list[Any]:
    from hybridcls.apis.embedding_index import EmbeddingIndex

    queries = EmbeddingIndex(path)
    if not len(queries):
        raise ValueError(f'search: expected a file with embeddings of queries, and {path} is empty.')
    width = _width_of_queries(index, queries.described, path)
    places = queries.absolute_paths()
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        rows = slice(start, start + _QUERIES_AT_ONCE)
        vectors = queries.vectors[rows, :width]
        answers.ask(_Queries(queries.paths[rows].tolist(), queries.labels[rows].tolist(), places[rows], vectors))
    return []


def _width_of_queries(index: 'EmbeddingIndex', queries: dict[str, Any], of_queries: str) -> Optional[int]:
    """Return how many numbers of the queries are compared (None: all), or raise if they are of another model."""
    from hybridcls.apis.embedding_index import check_same_model, compatible_width

    width = compatible_width(index.about, queries)
    if width is None:
        check_same_model('search', index.described, index.path, queries, of_queries)
        return None
    tell(
        f'The queries were embedded by {queries.get("checkpoint")}, which was trained to be backward-compatible with '
        f'the model of the index ({index.about.get("checkpoint")}): {width} dimensions are compared.',
        sys.stderr,
    )
    return width


def _ask_images(args: Namespace, index: 'EmbeddingIndex', answers: _Answers) -> list[Any]:
    """Embed the queries with the checkpoint of the index; return those that cannot be read."""
    import numpy as np

    from hybridcls.apis.answer import checked_embedding
    from hybridcls.apis.embedding_index import about_model, absolute
    from hybridcls.apis.image_inputs import ImageInputs, read_inputs

    items = list(read_inputs(args.queries, 'search').items)
    checkpoint = args.checkpoint or index.about.get('checkpoint')
    if checkpoint is None:
        raise ValueError(
            f'search: expected an index that knows its checkpoint, and {args.index} does not. Type --checkpoint FILE, '
            'or pass a file of embeddings as the queries.'
        )
    if args.checkpoint is None and '://' not in checkpoint and not os.path.exists(checkpoint):
        raise FileNotFoundError(
            f'search: the checkpoint of {args.index} was {checkpoint}, which does not exist. If it was moved, type '
            '--checkpoint FILE'
        )
    model = open_model(args, checkpoint, args.amp or index.about.get('amp'), calibration=False)
    width = _width_of_queries(index, about_model(model), f'the model of {checkpoint}')
    label_of = {item.path: item.label or '' for item in items}
    waiting: list[Any] = []

    def ask() -> None:
        names = [answer.path for answer in waiting]
        places = [absolute(name, os.getcwd()) for name in names]
        vectors = np.stack([checked_embedding('search', answer, model.head_name)[:width] for answer in waiting])
        answers.ask(_Queries(names, [label_of[name] for name in names], places, vectors))
        waiting.clear()

    def take(batch: list) -> None:
        waiting.extend(batch)
        if len(waiting) >= _QUERIES_AT_ONCE:
            ask()

    found = model(
        ImageInputs(items, len(items)), batch_size=args.batch_size, workers=args.workers, top_k=1, embeddings=True,
        on_unreadable=args.on_unreadable,
    )  # fmt: skip
    take_answers('search', found, len(items), take)
    if waiting:
        ask()
    return found.unreadable


def _writer(args: Namespace, file: Optional[TextIO], stdout: TextIO) -> '_Writer':
    """Return what writes the matches of a query: to a file, as JSON or as lines."""
    if file is not None and args.out.endswith('.csv'):
        return _csv_writer(args, file)
    if file is not None or args.json:
        return _json_writer(
            args, stdout if file is None else file, *(('{"queries": [\n', ',\n') if file is None else ())
        )

    def write(name: str, label: str, matches: list['Match']) -> None:
        stdout.write(f'{in_one_line(name)}{f"  ({label})" if label else ""}{"" if matches else "  no match"}\n')
        for match in matches:
            note = '  distractor' if match.distractor else ''
            stdout.write(f'  {match.similarity:7.4f}  {match.label or "-":<16}  {in_one_line(match.path)}{note}\n')
        stdout.flush()

    return write


def _csv_writer(args: Namespace, file: TextIO) -> '_Writer':
    """Write a row a match; a query without a match has one, of rank 0."""
    rows = csv.writer(file, lineterminator='\n')
    distractors = ['distractor'] if args.distractors else []
    rows.writerow(['query', 'query_label', 'rank', 'path', 'label', 'similarity', *distractors])

    def write(name: str, label: str, matches: list['Match']) -> None:
        for rank, match in enumerate(matches, 1):
            more = [int(match.distractor)] if distractors else []
            rows.writerow([name, label, rank, match.path, match.label, match.similarity, *more])
        if not matches:
            rows.writerow([name, label, 0, '', '', '', *[''] * len(distractors)])

    return write


def _json_writer(args: Namespace, file: TextIO, first: str = '', between: str = '') -> '_Writer':
    """Write an object a query."""
    leads = iter(itertools.chain([first], itertools.repeat(between)))
    end = '' if between else '\n'

    def write(name: str, label: str, matches: list['Match']) -> None:
        found = [
            dict(path=match.path, label=match.label, similarity=match.similarity,
                 **(dict(distractor=match.distractor) if args.distractors else {}))
            for match in matches
        ]  # fmt: skip
        file.write(f'{next(leads)}{json.dumps(dict(query=name, label=label, matches=found))}{end}')

    return write


def _draw(path: str, shown: list[tuple[str, str, str, list['Match']]], search: 'IndexSearch') -> None:
    """Draw the contact sheet: a row a query, with its matches; frames say what is of the query's class."""
    from hybridcls.visualization.contact_sheet import Cell, contact_sheet

    rows = []
    for name, label, place, matches in shown:
        row = [Cell(_read(place), [os.path.basename(name), label])]
        for match in matches:
            color = _RIGHT if match.label == label else _WRONG if match.label or match.distractor else _UNKNOWN
            said = 'distractor' if match.distractor else match.label
            caption = [os.path.basename(match.path), said, f'{match.similarity:.4f}']
            row.append(Cell(_read(search.located(match)), caption, color if label else _UNKNOWN))
        rows.append(row if matches else [*row, Cell(None, ['no match'])])
    absent = sum(cell.image is None and cell.caption != ['no match'] for row in rows for cell in row)
    if absent:
        tell(f'Images that are missing or cannot be read, shown as empty frames on the sheet: {absent}.', sys.stderr)
    sheet = contact_sheet(rows, ['query', *(str(rank) for rank in range(1, search.k + 1))])
    with unfinished_out(path) as unfinished:
        sheet.save(unfinished)


def _read(path: str) -> Optional['Image']:
    """Open an image for the sheet; None if it cannot be read, as one that an index has and the disk no more."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert('RGBA')
    except (OSError, ValueError, SyntaxError):
        return None


def _report(args: Namespace, answers: _Answers, stdout: TextIO, unreadable: list[Any], seconds: float) -> None:
    """Say what was done."""
    scores = answers.search.scores
    labelled = scores.queries + scores.without_match
    if not args.json:
        if labelled:
            tell(str(scores), sys.stderr)
        missing = f', {answers.count - answers.matched} without a match' if answers.matched < answers.count else ''
        skipped = f', {len(unreadable)} cannot be read' if unreadable else ''
        written = ''.join(f' -> {path}' for path in (args.out, args.sheet) if path)
        tell(f'{counted(answers.count, "query", "queries")}{missing}{skipped}{written} ({seconds:.1f} s)', sys.stderr)
        return
    content = dict(
        command='search', index=args.index, answered=answers.count, matched=answers.matched, k=args.k, pool=args.pool,
        engine=args.engine, threshold=answers.search.threshold, out=args.out, sheet=args.sheet,
        scores=scores.as_dict() if labelled else None, unreadable=[one._asdict() for one in unreadable],
        seconds=round(seconds, 3),
    )  # fmt: skip
    text = json.dumps(content, indent=2)
    begun = not args.out and answers.count
    stdout.write('\n],\n' + text.removeprefix('{\n') + '\n' if begun else f'{text}\n')
