"""Read Python literals without running code."""

import ast
from typing import Any

__all__ = ['read_assignments', 'read_literal']


def read_literal(text: str) -> Any:
    """Read numbers, strings, lists, tuples, sets, dicts and ``dict(...)``.

    Raises:
        ValueError, SyntaxError: If it is something else.

    Example:
        >>> read_literal("dict(type='SGD', lr=0.1, betas=(0.9, 0.99))")
        {'type': 'SGD', 'lr': 0.1, 'betas': (0.9, 0.99)}
    """
    return _read(ast.parse(text.strip(), mode='eval').body)


def read_assignments(text: str) -> dict[str, Any]:
    """Read the top-level names of a dumped config; values that are no literals are left out.

    Raises:
        SyntaxError: If it is no Python.

    Example:
        >>> read_assignments("model = dict(type='M')\\nimport os\\nx = os.getcwd()")
        {'model': {'type': 'M'}}
    """
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = _read(node.value)
            except ValueError:
                continue
    return found


def _read(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        if any(word.arg is None for word in node.keywords):
            raise ValueError('** has no meaning here')
        return {word.arg: _read(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict):
        if any(key is None for key in node.keys):
            raise ValueError('** has no meaning here')
        return {_read(key): _read(value) for key, value in zip(node.keys, node.values, strict=True) if key is not None}
    if isinstance(node, (ast.List, ast.Tuple)):
        inner = [_read(one) for one in node.elts]
        return inner if isinstance(node, ast.List) else tuple(inner)
    return ast.literal_eval(node)
