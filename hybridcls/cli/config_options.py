"""``--cfg-options KEY=VALUE``: values as Python writes them, dicts included."""

import ast
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any, Optional, Union

from mmengine.config import DictAction

__all__ = ['ConfigOptions']


class ConfigOptions(DictAction):
    """mmengine's action, which also takes dicts: ``optimizer="dict(type='SGD', lr=0.1)"``.

    Other values are read as OpenMMLab's tools read them: ``lr=0.1``, ``betas=0.9,0.99``, ``"topk=[1, 5]"``.
    """

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: Union[str, Sequence[Any], None],
        option_string: Optional[str] = None,
    ) -> None:
        """Read the options, and add them to those that were given before."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for option in values or ():
            key, equals, text = str(option).partition('=')
            if not equals or not key:
                parser.error(f'{option_string} {option}: expected KEY=VALUE.')
            if 'dict(' in text or '{' in text:
                try:
                    options[key] = _read(ast.parse(text.strip(), mode='eval').body)
                except (SyntaxError, ValueError) as error:
                    parser.error(f'{option_string} {option}: expected a dict as Python writes it ({error}).')
            else:
                one = Namespace()
                super().__call__(parser, one, [option], option_string)
                options.update(getattr(one, self.dest))
        setattr(namespace, self.dest, options)


def _read(node: ast.expr) -> Any:
    """Evaluate literals and ``dict(...)``, and nothing else."""
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
