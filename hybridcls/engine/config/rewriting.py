"""Rewrite old spellings in the text of a config file; everything else, comments included, stays as it is."""

import ast
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from mmengine.utils import get_object_from_string

from hybridcls import registry as registries
from hybridcls.renames import new_dotted_name, new_metric_name, new_value

from .change import Renamed
from .references import assignments_in, place_of
from .renamed import spellings_of_part
from .tree import ABSENT, Path, split

__all__ = ['rewritten']


class _Edit(NamedTuple):
    """A replacement of the bytes from ``start`` to ``end`` of a file."""

    start: int
    end: int
    new: bytes


def rewritten(content: bytes, places: Iterable[tuple[tuple[Path, ...], Renamed]]) -> bytes:
    """Return the text of a Python config in the present spelling.

    Imports, names of metrics and dicts with a type are found in the text itself. ``places`` lists what only the bases
    or the readers of the config know, such as that ``head=dict(sub_centres=3)`` is a head with a margin.

    Args:
        content (bytes): The file.
        places (Iterable): What was found when it was read: the paths under which it may be written, of which the first
            that is there counts (an option of a phase is in ``phases.1.cfg_options``, or for all phases), with what it
            is.

    Raises:
        SyntaxError: If it is no Python.

    Example:
        >>> rewritten(b"head = dict(type='ArcFaceHead', sub_centres=3)  # as before", [])
        b"head = dict(type='ArcFaceHead', num_subcenters=3)  # as before"
    """
    text = _Text(content)
    edits = {*text.imports(), *text.strings(), *text.typed_dicts()}
    for paths, one in places:
        edits.update(next(filter(None, ([*text.at_place(path, one)] for path in paths)), []))
    for edit in sorted(edits, reverse=True):
        content = content[: edit.start] + edit.new + content[edit.end :]
    return content


class _Text:
    """The text of a Python file with its syntax tree, whose nodes are mapped to byte positions."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.tree = ast.parse(content)
        self.assignments = assignments_in(self.tree)
        self._starts = [3 if content.startswith(b'\xef\xbb\xbf') else 0]
        for line in content[self._starts[0] :].split(b'\n'):
            self._starts.append(self._starts[-1] + len(line) + 1)

    def span(self, node: Any) -> tuple[int, int]:
        """Return the byte range of a node."""
        start = self._starts[node.lineno - 1] + node.col_offset
        return start, self._starts[node.end_lineno - 1] + node.end_col_offset

    def replace(self, node: Any, old: str, new: str) -> Iterator[_Edit]:
        """Replace the first occurrence of ``old`` in a node's text; of a dotted key, the last one."""
        start, end = self.span(node)
        piece = self.content[start:end]
        at = piece.index(old.encode()) if isinstance(node, ast.keyword) else piece.rfind(old.encode())
        if old != new and at >= 0:
            yield _Edit(start + at, start + at + len(old.encode()), new.encode())

    # ------------------------------------------------------------------ what the text shows

    def imports(self) -> Iterator[_Edit]:
        """Yield edits of imported modules and names; code that uses an old name still finds it."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname:
                        yield from self.replace(alias, alias.name, new_dotted_name(alias.name))
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield from self._import_from(node, node.module)

    def _import_from(self, node: ast.ImportFrom, module: str) -> Iterator[_Edit]:
        wanted: dict[str, list[str]] = {}
        for alias in node.names:
            if alias.name == '*':
                place, name = new_dotted_name(module), '*'
            else:
                place, _, name = new_dotted_name(f'{module}.{alias.name}').rpartition('.')
            kept = alias.asname or alias.name
            wanted.setdefault(place, []).append(kept if name == kept else f'{name} as {kept}')
        start, end = self.span(node)
        if len(wanted) == 1 and [one for names in wanted.values() for one in names] == [
            alias.asname or alias.name for alias in node.names
        ]:
            at = self.content.index(module.encode(), start)
            yield _Edit(at, at + len(module), next(iter(wanted)).encode())
        elif b'#' not in self.content[start:end]:
            lines = [f'from {place} import {", ".join(names)}' for place, names in wanted.items()]
            yield _Edit(start, end, f'\n{" " * node.col_offset}'.join(lines).encode())

    def strings(self) -> Iterator[_Edit]:
        """Yield edits of strings that can only be the name of a metric's result, or a dotted name of this package."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from self.replace(node, node.value, new_metric_name(new_dotted_name(node.value)))

    def typed_dicts(self) -> Iterator[_Edit]:
        """Yield edits in dicts that name their class."""
        for node in ast.walk(self.tree):
            entries = {key: (place, value) for key, place, value in _entries(node)}
            kind = self._class_of(entries['type'][1]) if 'type' in entries else None
            if kind is None:
                continue
            values = {key: _literal(value) for key, (_, value) in entries.items()}
            for one in spellings_of_part((), values, kind):
                key = str(one.path[-1])
                yield from self._entry(*entries[key], key, one.key, values[key], new_value(values[key], one.replace))

    def _class_of(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = (getattr(registries, name) for name in registries.__all__)
            return next((one.get(node.value) for one in found if node.value in one), None)
        if isinstance(node, ast.Name):
            for one in ast.walk(self.tree):
                if isinstance(one, ast.ImportFrom) and not one.level:
                    names = {alias.asname or alias.name: alias.name for alias in one.names}
                    if node.id in names:
                        return get_object_from_string(f'{one.module}.{names[node.id]}')
        return None

    def _entry(self, place: Any, value: ast.expr, old: str, new: str, before: Any, after: Any) -> Iterator[_Edit]:
        """Yield edits that give a dict's key and its value the new spelling."""
        yield from self.replace(place, old, new)
        pairs = zip(_strings_in(before), _strings_in(after), strict=True)
        renamed = {was: now for was, now in pairs if was != now}
        for node in ast.walk(self._variable(value)) if renamed else ():
            if isinstance(node, ast.Constant) and node.value in renamed:
                yield from self.replace(node, node.value, renamed[node.value])

    def _variable(self, node: ast.expr) -> ast.expr:
        """Return the expression assigned to a name of the file, or the node itself."""
        if not isinstance(node, ast.Name):
            return node
        return next((value for path, value in self.assignments if path == (node.id,)), node)

    # ------------------------------------------------------------------ what its readers know

    def at_place(self, path: Path, one: Renamed) -> Iterator[_Edit]:
        """Yield edits at a path of the config."""
        for statement in self.tree.body:
            for target in statement.targets if isinstance(statement, ast.Assign) else ():
                if isinstance(target, (ast.Subscript, ast.Attribute)) and place_of(target) == path:
                    yield from self.replace(target, str(path[-1]), str(one.new_path[-1]))
            call = getattr(statement, 'value', None)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == 'update':
                start = place_of(call.func.value)
                if start and path[: len(start)] == start:
                    yield from self._inside(call, path[len(start) :], one)
        for start, expression in self.assignments:
            if path[: len(start)] == start:
                yield from self._inside(expression, path[len(start) :], one)

    def _inside(self, node: ast.expr, path: Path, one: Renamed) -> Iterator[_Edit]:
        node = self._variable(node)
        if isinstance(node, (ast.List, ast.Tuple)):
            is_plain = not any(isinstance(item, ast.Starred) for item in node.elts)
            if is_plain and path and isinstance(path[0], int) and path[0] < len(node.elts):
                yield from self._inside(node.elts[path[0]], path[1:], one)
        for key, place, value in _entries(node):
            parts = (key,) if path[:1] == (key,) else split(key)
            if parts == path[: len(parts)]:
                if len(parts) < len(path):
                    yield from self._inside(value, path[len(parts) :], one)
                else:
                    old, new = str(one.path[-1]), str(one.new_path[-1])
                    yield from self._entry(place, value, old, new, one.old, one.new)


def _entries(node: Any) -> Iterator[tuple[str, Any, ast.expr]]:
    """Yield key, its node, and value of a literal dict: ``dict(...)``, ``{...}`` or the arguments of ``update``."""
    if isinstance(node, ast.Call) and getattr(node.func, 'id', getattr(node.func, 'attr', '')) in ('dict', 'update'):
        yield from ((word.arg, word, word.value) for word in node.keywords if word.arg)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, key, value


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ABSENT


def _strings_in(value: Any) -> list[str]:
    if isinstance(value, (list, tuple)):
        return [text for one in value for text in _strings_in(one)]
    return [value] if isinstance(value, str) else []
