"""Parse ``--cfg-options KEY=VALUE``, with dicts in Python syntax."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any, Optional, Union

from mmengine.config import DictAction

from hybridcls.literals import read_literal

__all__ = ['ConfigOptions']


class ConfigOptions(DictAction):
    """mmengine's ``DictAction`` that also accepts dicts: ``optimizer="dict(type='SGD', lr=0.1)"``.

    Other values are parsed as by OpenMMLab's tools: ``lr=0.1``, ``betas=0.9,0.99``, ``"topk=[1, 5]"``.
    """

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: Union[str, Sequence[Any], None],
        option_string: Optional[str] = None,
    ) -> None:
        """Parse the options, and add them to the previous ones."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for option in values or ():
            key, equals, text = str(option).partition('=')
            if not equals or not key:
                parser.error(f'{option_string} {option}: expected KEY=VALUE.')
            if 'dict(' in text or '{' in text:
                try:
                    options[key] = read_literal(text)
                except (SyntaxError, ValueError) as error:
                    parser.error(f'{option_string} {option}: expected a dict in Python syntax ({error}).')
            else:
                one = Namespace()
                try:
                    super().__call__(parser, one, [option], option_string)
                except AssertionError:  # of mmengine's parser
                    parser.error(f'{option_string} {option}: expected as many opening as closing brackets.')
                options.update(getattr(one, self.dest))
        setattr(namespace, self.dest, options)
