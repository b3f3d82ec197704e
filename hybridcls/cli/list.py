"""List the shipped recipes, the models of timm, or the registered parts (heads, losses, hooks, ...).

The exit code is 1 if nothing matches.
"""

import ast
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from typing import Any, Optional

from hybridcls.checks import did_you_mean, listed

from .find_config import shipped_configs
from .json_output import print_json, stdout_for_json

__all__ = ['HELP', 'add_arguments', 'models', 'parts', 'recipes', 'run']

HELP = 'list the shipped recipes, the models of timm, or the registered parts'
_WIDTH = 120


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'kind', nargs='?', choices=list(_KINDS), default='recipes', help='what to list; default: recipes'
    )
    parser.add_argument(
        'pattern',
        nargs='?',
        help="list only names that match: '*vit*tiny*' is compared with whole names, 'convnext' with parts of them. "
        'For parts, also a kind, such as heads',
    )


def run(args: Namespace) -> int:
    """Print what matches; return 1 if nothing does."""
    with stdout_for_json(args.json):
        rows = _KINDS[args.kind](args.pattern)
    found = [row for row in rows if _matches(row, args.pattern)]
    if args.json:
        print_json(dict(kind=args.kind, pattern=args.pattern, items=found))
    elif found:
        print(_parts_text(found) if args.kind == 'parts' else _table(found))
    if not found:
        names = [row['name'] for row in rows]
        near = did_you_mean(args.pattern or '', [*names, *(row.get('kind', '') for row in rows)], most=5)
        print(f'No {args.kind} match {args.pattern!r}.{near}', file=sys.stderr)
    return int(not found)


def recipes(pattern: Optional[str] = None) -> list[dict[str, Any]]:
    """Return the configs that are shipped, those for own images first, with the first line of the docstring."""
    rows = []
    for name, file in sorted(shipped_configs().items(), key=lambda one: not one[0].startswith('finetune/')):
        about = ast.get_docstring(ast.parse(file.read_text(encoding='utf8'))) or ''
        rows.append(dict(name=name, about=about.partition('\n')[0]))
    return rows


def models(pattern: Optional[str] = None) -> list[dict[str, Any]]:
    """Return timm's models, with the tag, the size of the images (pixels) and the licence of their default weights.

    Other weights of a model, ``name.tag``, are there for a pattern with a dot.
    """
    import timm
    from timm.models import get_pretrained_cfg

    rows = []
    for name in timm.list_models(include_tags=bool(pattern and '.' in pattern)):
        known = get_pretrained_cfg(name)
        row: dict[str, Any] = dict(name=name, weights=None, img_size=None, license=None)
        if known is not None:
            row['img_size'] = known.input_size[-1]
            if known.has_weights:
                row.update(weights=known.tag or 'yes', license=known.license)
        rows.append(row)
    return rows


def parts(pattern: Optional[str] = None) -> list[dict[str, Any]]:
    """Return all that a config can name by ``type``, by kind; in each kind the parts of hybridcls come first."""
    from hybridcls import registry

    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for kind in registry.__all__:
        known = getattr(registry, kind)
        known.import_from_location()
        while known is not None:
            for name, part in known.module_dict.items():
                package = name.partition('/')[0] if '/' in name else part.__module__.partition('.')[0]
                row = dict(kind=_kind_of(part, kind), name=name, package=package, about=_about(part))
                rows.setdefault((row['kind'], name), row)  # of two of one name the nearer registry's is built
            known = known.parent
    return sorted(rows.values(), key=lambda row: (row['kind'], row['package'] != 'hybridcls', row['name'].lower()))


def _kind_of(part: Any, registry: str) -> str:
    """The name of a registry; the parts of models by the room that they lie in: heads, losses."""
    rooms = part.__module__.split('.')
    if registry == 'MODELS' and rooms[0] in ('hybridcls', 'mmpretrain') and rooms[1] == 'models' and len(rooms) > 3:
        return rooms[2].replace('_', ' ')
    return registry.lower().replace('_', ' ')


def _about(part: Any) -> str:
    """The first line of a docstring of ours, without the marks for the pages."""
    if not part.__module__.startswith('hybridcls.'):
        return ''
    line = (part.__doc__ or '').strip().partition('\n')[0]
    return re.sub(r':[\w:]+:`~?([^`]*)`|`+([^`<]*?)(?: <[^>]*>)?`+_?', r'\1\2', line)


_KINDS: dict[str, Callable[[Optional[str]], list[dict[str, Any]]]] = dict(recipes=recipes, models=models, parts=parts)


def _matches(row: dict[str, Any], pattern: Optional[str]) -> bool:
    if pattern is None or row.get('kind') == pattern:
        return True
    name, pattern = row['name'].lower(), pattern.lower()
    return fnmatch(name, pattern) if {*'*?['} & {*pattern} else pattern in name


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(rows[0])
    lines = [['' if row[column] is None else str(row[column]) for column in columns] for row in rows]
    if len(columns) > 2:
        lines.insert(0, columns)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return '\n'.join(_short('  '.join(map(str.ljust, line, widths))) for line in lines)


def _parts_text(rows: list[dict[str, Any]]) -> str:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(row['kind'], []).append(row)
    return '\n\n'.join(f'{kind}\n{_of_kind(of_kind)}' for kind, of_kind in kinds.items())


def _of_kind(rows: Iterable[dict[str, Any]]) -> str:
    ours = [row for row in rows if row['package'] == 'hybridcls']
    width = max((len(row['name']) for row in ours), default=0)
    lines = [_short(f'  {row["name"]:<{width}}  {row["about"]}') for row in ours]
    others: dict[str, list[str]] = {}
    for row in rows:
        if row['package'] != 'hybridcls':
            others.setdefault(row['package'], []).append(row['name'])
    lines += [f'  of {package}: {listed(names, 200)}' for package, names in others.items()]
    return '\n'.join(lines)


def _short(line: str) -> str:
    line = line.rstrip()
    return line if len(line) <= _WIDTH else f'{line[: _WIDTH - 3]}...'
