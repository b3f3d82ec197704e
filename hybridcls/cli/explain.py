"""Print the final config: each value, where it comes from, and which class reads it.

Nothing is built, so this needs no data, weights or GPU. The exit code is 1 if the config sets a key that nothing reads.
"""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from hybridcls.checks import did_you_mean

from .find_config import find_config
from .shared_options import add_shared_options, load_with_options
from .training_options import add_training_options, training_options

if TYPE_CHECKING:
    from mmengine.config import Config

    from .explanation import Explanation

__all__ = ['HELP', 'Report', 'add_arguments', 'final_config', 'reports_of', 'run', 'text_of']

HELP = 'print the final config: each value, where it comes from, and which class reads it'
_WIDTH = 120
_MARKS = {'unread': '!', 'unknown': '?'}


@dataclass
class Report:
    """The explanation of one config.

    Args:
        title (str): ``''``, or the name of a phase.
        config (str): The file.
        keys (list[Explanation]): Its keys.
        notes (list[str]): Notes about the whole config.
    """

    title: str
    config: str
    keys: list['Explanation']
    notes: list[str] = field(default_factory=list)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'config', help='path of a config, or NAME or hybridcls::NAME of a shipped one, such as digits/ce_hybrid'
    )
    parser.add_argument(
        'key',
        nargs='?',
        help='print only this key and the keys below it, such as model.head; in a chain, with the phase: '
        'supcon.model.head',
    )
    add_shared_options(parser)
    add_training_options(parser)
    parser.add_argument(
        '--build',
        action='store_true',
        help='also build the model, datasets, hooks, metrics and optimizer, as far as this machine can, to find the '
        'readers of keys that no signature names',
    )


def run(args: Namespace) -> int:
    """Print the explanation; return 1 if nothing reads a key."""
    args.config = find_config('explain', args.config)
    with redirect_stdout(sys.stderr):
        reports = reports_of(args)
        if args.key is not None:
            reports = _only(reports, args.key)
    if args.json:
        import json

        print(json.dumps(_as_json(args.config, reports), default=repr, indent=2))
    else:
        print(text_of(reports, is_whole=args.key is None))
    return int(any(one.status == 'unread' for report in reports for one in report.keys))


def final_config(args: Namespace) -> tuple['Config', str]:
    """Load a config and complete it for training; a chain is only loaded, since each phase is completed by itself.

    Returns:
        tuple[Config, str]: The config, and a note if it was not completed.
    """
    from hybridcls.engine import is_chain

    cfg = load_with_options(args)
    return cfg, '' if is_chain(cfg) else _complete(cfg, args)


def _complete(cfg: 'Config', args: Namespace) -> str:
    """Complete a config in place; return a note if that is not possible."""
    from hybridcls.engine.training import TRAINING_KEYS, complete

    missing = [key for key in TRAINING_KEYS if cfg.get(key) is None]
    if missing:
        return f'This config has no {", ".join(missing)}: it is shown as written, not completed for a training.'
    complete(cfg, training_options(args))
    return ''


def reports_of(args: Namespace) -> list[Report]:
    """Explain a config, or a chain and each of its phases."""
    from hybridcls.engine import is_chain, load_config
    from hybridcls.engine.config.taker import Taker, Takers
    from hybridcls.engine.config.tree import leaves_in
    from hybridcls.engine.phases.plan import read_phases

    from .explanation import InChain, explain_config

    cfg, note = final_config(args)
    if not is_chain(cfg):
        return [_report('', cfg, args, note)]
    takers = Takers()
    own = ('phases', 'work_dir', 'custom_imports', 'default_scope', 'launcher')
    takers.found.update({path: Taker('run_chain' if path[0] in own else 'each phase') for path, _ in leaves_in(cfg)})
    reports = [Report('', args.config, explain_config(cfg, takers))]
    for phase in read_phases(cfg):
        of_phase = load_config(phase.config, phase.options)
        if of_phase.get('launcher') is None and cfg.get('launcher') is not None:
            args = Namespace(**{**vars(args), 'launcher': args.launcher or cfg.launcher})
        note = _complete(of_phase, args)
        reports.append(_report(phase.name, of_phase, args, note, InChain(cfg, phase.number - 1)))
        if phase.load is not None:
            reports[-1].notes.append(f'This phase starts from load={phase.load!r} instead of load_from.')
    return reports


def _report(title: str, cfg: 'Config', args: Namespace, note: str, phase: Any = None) -> Report:
    from hybridcls.engine.config import provenance_of
    from hybridcls.engine.config.takers import takers_of

    from .explanation import explain_config

    takers, notes = takers_of(cfg), [note] if note else []
    if args.build:
        from hybridcls.apis.build_reads import build_and_record

        notes += build_and_record(cfg, takers)
    return Report(title, str(cfg.filename), explain_config(cfg, takers, phase), [*notes, *provenance_of(cfg).notes])


def _only(reports: list[Report], key: str) -> list[Report]:
    """Select a key and the keys below it, in every report or in that of the phase that it starts with.

    Raises:
        ValueError: If the key does not exist.
    """
    found = []
    for report in reports:
        inside = key.removeprefix(f'{report.title}.') if report.title else key
        keys = [one for one in report.keys if f'{_name(one)}.'.startswith(f'{inside}.') or report.title == key]
        if keys:
            found.append(Report(report.title, report.config, keys))
    if not found:
        raise ValueError(f'explain: expected a key of {reports[0].config}, got {key!r}.{_advice(reports, key)}')
    return found


def _advice(reports: list[Report], key: str) -> str:
    above = key.rpartition('.')[0]
    names = {prefix for report in reports for one in report.keys for prefix in _prefixes(_name(one))}
    beside = [name for name in names if name.rpartition('.')[0] == above]
    return did_you_mean(key, beside) or did_you_mean(key, sorted(names))


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split('.')
    yield from ('.'.join(parts[:length]) for length in range(1, len(parts) + 1))


def _name(one: 'Explanation') -> str:
    from hybridcls.engine.config.tree import dotted

    return dotted(one.path)


def text_of(reports: list[Report], is_whole: bool = True) -> str:
    """Format the reports, at most 120 columns wide if keys and values fit.

    Args:
        reports (list[Report]): Of a config, or of a chain and its phases.
        is_whole (bool): Group the keys, shorten long values, and add notes and a count. Defaults to True.
    """
    files = sorted({one.file for report in reports for one in report.keys if one.file and os.sep in one.file})
    names = {file: _short(file, files) if is_whole else _relative(file) for file in files}
    lines = []
    if is_whole:
        width = max((len(name) for name in names.values()), default=0)
        lines += ['files', *(f'  {name:<{width}}  {_relative(file)}' for file, name in names.items()), '']
    for report in reports:
        if report.title:
            lines += [f'===== phase {report.title}: {_relative(report.config)}', '']
        lines += _lines(report.keys, names, is_whole)
        if is_whole:
            lines += ['notes', *(f'  {note}' for note in report.notes), ''] if report.notes else []
            lines += [_count(report.keys), '']
    return '\n'.join(lines).rstrip()


def _lines(keys: list['Explanation'], names: dict[str, str], is_whole: bool) -> Iterator[str]:
    groups: dict[Any, list] = {}
    for one in _without_repeats(keys) if is_whole else keys:
        groups.setdefault(one.path[0] if len(one.path) > 1 and is_whole else '', []).append(one)
    for group, members in groups.items():
        rows = []
        for one in members:
            value = repr(one.value)
            if is_whole and len(value) > 44:
                value = f'{value[:41]}...'
            key = _name(one).removeprefix(f'{group}.')
            equals = '' if one.value is ... else f' = {value}'
            rows.append((f'{_MARKS.get(one.status, " ")} {key}{equals}', f'# {_origin(one, names)} -> {_taker(one)}'))
        if is_whole:
            yield str(group or 'top level')
        width = min(max(len(left) for left, _ in rows), 50)
        for left, right in rows:
            lines = (f'{left:<{width}}  {right}', f'{left}  {right}')
            fitting = next((line for line in lines if len(line) <= _WIDTH), None)
            yield from [fitting] if fitting else [left, f'      {right}']
        if is_whole:
            yield ''


def _without_repeats(keys: list['Explanation']) -> Iterator['Explanation']:
    """Reduce a variable that is a dict or a list to one line: its values are shown where it is used."""
    seen = set()
    for one in keys:
        if one.status not in ('variable', 'passed over') or len(one.path) == 1:
            yield one
        elif one.path[0] not in seen:
            seen.add(one.path[0])
            yield replace(one, path=one.path[:1], value=..., why='')


def _origin(one: 'Explanation', names: dict[str, str]) -> str:
    file = names.get(one.file or '', one.file or '')
    place = f'{file}:{one.line}' if one.line else file
    if one.source == 'code':
        return 'set by code'
    if one.source in ('filled', 'adapted'):
        was = f'was {one.old!r}: ' if one.source == 'adapted' else ''
        return f'{was}{one.why}' + (f' ({place})' if place else '')
    return f'{place}, {one.why}' if one.why else place


def _taker(one: 'Explanation') -> str:
    label = dict(unread='READ BY NOTHING: ', unknown='unknown: ')
    return label.get(one.status, '') + one.taker


def _count(keys: Iterable['Explanation']) -> str:
    numbers: dict[str, int] = {}
    for one in keys:
        numbers[one.status] = numbers.get(one.status, 0) + 1
    label = dict(inside='inside a dict that is one argument', unread='read by nothing', variable='variables')
    parts = [f'{number} {label.get(status, status)}' for status, number in numbers.items()]
    return f'{sum(numbers.values())} keys: {", ".join(parts)}'


def _short(file: str, files: list[str]) -> str:
    """Return the shortest ending of a path that is unique among the files."""
    parts = FilePath(file).parts
    for length in range(1, len(parts)):
        end = parts[-length:]
        if sum(FilePath(other).parts[-length:] == end for other in files) == 1:
            return str(FilePath(*end))
    return file


def _relative(file: str) -> str:
    path = os.path.relpath(file)
    return file if path.startswith('..') else path


def _as_json(config: str, reports: list[Report]) -> dict[str, Any]:
    from hybridcls.engine.config.tree import ABSENT

    def plain(value: Any) -> Any:
        if hasattr(value, 'to_dict'):
            return value.to_dict()
        return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value

    def as_row(one: 'Explanation') -> dict[str, Any]:
        row = dict(key=_name(one), value=plain(one.value), source=one.source, file=one.file, line=one.line or None)
        row.update(why=one.why or None, taker=one.taker, status=one.status)
        return row if one.old is ABSENT else {**row, 'old': plain(one.old)}

    as_dicts = [
        dict(phase=report.title or None, config=report.config, keys=list(map(as_row, report.keys)), notes=report.notes)
        for report in reports
    ]
    unread = [(report.title, one) for report in reports for one in report.keys if one.status == 'unread']
    return dict(
        config=config, reports=as_dicts, unread=[f'{title}.{_name(one)}'.removeprefix('.') for title, one in unread]
    )
