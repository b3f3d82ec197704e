"""Where a config file repeats a variable of its own or of its bases, so that a change of the variable can follow."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .tree import ABSENT, Path, split, value_at

__all__ = ['Reading', 'line_of', 'read_references']


class Reading(NamedTuple):
    """What the text of one file says about names.

    Args:
        references (dict[Path, Path]): The place of each value that is nothing but a variable, to that variable.
        used (set[str]): Every top-level name that some expression of the file asks for.
    """

    references: dict[Path, Path]
    used: set[str]


def read_references(text: str, own: Mapping[str, Any], placeholders: Mapping[str, str]) -> Reading:
    """Find them in the text of a ``.py`` file.

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
        for path, value in _places(node.value, (name,)):
            if (
                isinstance(value, ast.Name)
                and value.id in assigned
                and value_at(own, path) == own.get(value.id, ABSENT)
            ):
                references[path] = (value.id,)
            elif isinstance(value, ast.Constant) and value.value in placeholders:
                references[path] = split(placeholders[value.value])
        assigned.add(name)
    # What repeats a dataloader repeats the variables in it: `test_dataloader = val_dataloader`.
    for path, variable in list(references.items()):
        inside = {place: v for place, v in references.items() if place[: len(variable)] == variable}
        references.update({(*path, *place[len(variable) :]): v for place, v in inside.items()})
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return Reading(references, used | {name.split('.')[0] for name in placeholders.values()})


def _places(node: ast.expr, path: Path) -> Iterator[tuple[Path, ast.expr]]:
    """Yield each place in nested dicts and lists that are written out, with the expression that stands there."""
    yield path, node
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        for word in node.keywords:
            if word.arg is not None:
                yield from _places(word.value, (*path, word.arg))
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant):
                yield from _places(value, (*path, key.value))
    elif isinstance(node, (ast.List, ast.Tuple)) and not any(isinstance(one, ast.Starred) for one in node.elts):
        for number, value in enumerate(node.elts):
            yield from _places(value, (*path, number))


def line_of(text: str, path: Path) -> int:
    """Return the line in which a ``.py`` file writes the value at a path, or the nearest one above; 0 if none does."""
    line = 0
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == path[0]:
            inside = [value for place, value in _places(node.value, path[:1]) if place == path[: len(place)]]
            line = inside[-1].lineno if len(inside) > 1 else node.lineno
    return line
