"""References: places of a config that repeat a variable, and follow it when it changes."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .tree import ABSENT, Path, same, split, value_at

__all__ = ['Reading', 'assignments_in', 'line_of', 'place_of', 'places_in', 'read_references']


class Reading(NamedTuple):
    """The references and the used names in the text of one config file.

    Args:
        references (dict[Path, Path]): The place of each value that is nothing but a variable, to that variable.
        used (set[str]): Every top-level name that some expression of the file asks for.
    """

    references: dict[Path, Path]
    used: set[str]


def read_references(text: str, own: Mapping[str, Any], placeholders: Mapping[str, str]) -> Reading:
    """Find the references and used names in the text of a ``.py`` file.

    Args:
        text (str): The file.
        own (Mapping): What it wrote when it was run: a place that was changed afterwards repeats nothing.
        placeholders (Mapping[str, str]): The strings that stand for ``{{_base_.x.y}}``, to ``'x.y'``.

    Example:
        >>> text = "views = [1]\\nloader = dict(pipeline=views, size=2)"
        >>> read_references(text, dict(views=[1], loader=dict(pipeline=[1], size=2)), {}).references
        {('loader', 'pipeline'): ('views',)}
    """
    tree = ast.parse(text)
    references: dict[Path, Path] = {}
    assigned: set[str] = set()
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name = node.targets[0].id
        for path, value in places_in(node.value, (name,)):
            if (
                isinstance(value, ast.Name)
                and value.id in assigned
                and same(value_at(own, path), own.get(value.id, ABSENT))
            ):
                references[path] = (value.id,)
            elif isinstance(value, ast.Constant) and str(value.value) in placeholders:
                references[path] = split(placeholders[str(value.value)])
            elif isinstance(value, ast.Attribute) and ast.unparse(value).startswith('_base_.'):
                references[path] = split(ast.unparse(value).removeprefix('_base_.'))
        assigned.add(name)
    # What repeats a dataloader repeats the variables in it: `test_dataloader = val_dataloader`.
    for path, variable in list(references.items()):
        inside = {place: v for place, v in references.items() if place[: len(variable)] == variable}
        references.update({(*path, *place[len(variable) :]): v for place, v in inside.items()})
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}  # of `_base_.x`
    return Reading(references, used | {name.split('.')[0] for name in placeholders.values()})


def places_in(node: ast.expr, path: Path) -> Iterator[tuple[Path, ast.expr]]:
    """Yield each path in literal dicts and lists, with its expression."""
    yield path, node
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        for word in node.keywords:
            if word.arg is not None:
                yield from places_in(word.value, (*path, word.arg))
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, (str, int)):
                yield from places_in(value, (*path, key.value))
    elif isinstance(node, (ast.List, ast.Tuple)) and not any(isinstance(one, ast.Starred) for one in node.elts):
        for number, value in enumerate(node.elts):
            yield from places_in(value, (*path, number))


def line_of(text: str, *paths: Path) -> int:
    """Return the line in which a ``.py`` file sets the value at the first of some paths that it contains.

    A place that repeats a variable of the same file has the line of the variable's. If the file writes none of them out
    (it computes them), it is the line of the nearest place above; 0 if there is none.

    Example:
        >>> line_of("views = [\\n    dict(size=2)]\\nloader = dict(pipeline=views)", ('loader', 'pipeline', 0, 'size'))
        2
    """
    assignments = assignments_in(ast.parse(text))
    found = [(path, *_line_of(assignments, path, frozenset())) for path in paths]
    exact = [line for path, length, line in found if length == len(path)]
    return next((line for line in (*exact, *(line for _, _, line in found)) if line), 0)


def assignments_in(tree: ast.Module) -> list[tuple[Path, ast.expr]]:
    """Return the assignments of a file to names, and to items of them.

    These are ``model['head']['scale'] = 16``, ``model.head.scale = 16`` and ``model.update(head=dict(scale=16))``.
    """
    found = []
    for node in tree.body:
        value = getattr(node, 'value', None)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, 'target', None)]
        place = place_of(targets[0])
        if isinstance(node, ast.Expr) and isinstance(value, ast.Call) and getattr(value.func, 'attr', '') == 'update':
            place = place_of(value.func.value)  # type: ignore[attr-defined]
            found += [((*place, word.arg), word.value) for word in value.keywords if place and word.arg]
            value = value.args[0] if value.args else None
        if place and isinstance(value, ast.expr):
            found.append((place, value))
    return found


def place_of(target: Any) -> Path:
    """Return the path in a variable that an expression denotes; empty if it denotes none."""
    path: Path = ()
    while isinstance(target, (ast.Subscript, ast.Attribute)):
        if isinstance(target, ast.Attribute):
            target, path = target.value, (target.attr, *path)
        elif isinstance(target.slice, ast.Constant) and isinstance(target.slice.value, (str, int)):
            target, path = target.value, (target.slice.value, *path)
        else:
            return ()
    return (target.id, *path) if isinstance(target, ast.Name) else ()


def _line_of(assignments: list[tuple[Path, ast.expr]], path: Path, seen: frozenset[str]) -> tuple[int, int]:
    """Return how many keys of a path a file contains, and the line of the last one."""
    best = (0, 0)
    for start, expression in assignments:
        for place, value in places_in(expression, start):
            if place != path[: len(place)] or len(place) < best[0]:
                continue
            best = len(place), value.lineno
            if isinstance(value, ast.Name) and value.id not in seen:
                length, line = _line_of(assignments, (value.id, *path[len(place) :]), seen | {value.id})
                if line:
                    best = len(place) + length - 1, line
    return best
