"""Inference settings: precision, memory layout, compilation, token merging; the config key ``inference``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Optional, Union

import torch

from hybridcls.checks import check_choice, check_known_keys, check_number, did_you_mean

__all__ = ['PRECISIONS', 'InferenceSettings']

PRECISIONS = ('float32', 'bfloat16', 'float16')
_SHORT = dict(bf16='bfloat16', fp16='float16')
_WORDS = ('eager', *_SHORT, 'channels_last', 'compiled', 'tome=RATIO')


@dataclass(frozen=True)
class InferenceSettings:
    """The settings of inference; by default a model computes as in training, and as in a test.

    A config has them as ``inference = dict(precision='bfloat16', compile=True)``: ``hybridcls predict --config`` and
    all other commands that run a trained model over images take them from there.

    Args:
        precision (str): ``'float32'``; ``'bfloat16'`` or ``'float16'``: mixed precision (autocast), as ``--amp``.
            Defaults to ``'float32'``.
        channels_last (bool): Weights and images have their channels innermost in memory. Defaults to False.
        compile (bool | str): Whether ``torch.compile`` builds the streams, once the images that are left pay for it; a
            string is the name of a backend. Defaults to False.
        token_merging_ratio (float, optional): As the backbone's key. Defaults to None: as the model has it.

    Raises:
        ValueError: If a value is none of these.

    Example:
        >>> InferenceSettings.of_name('compiled+bf16')
        InferenceSettings(precision='bfloat16', channels_last=False, compile=True, token_merging_ratio=None)
        >>> InferenceSettings(channels_last=True, token_merging_ratio=0.1).name
        'tome=0.1+channels_last'
    """

    precision: str = 'float32'
    channels_last: bool = False
    compile: Union[bool, str] = False
    token_merging_ratio: Optional[float] = None

    def __post_init__(self) -> None:
        check_choice('inference', 'precision', self.precision, PRECISIONS)
        for name in ('channels_last', 'compile'):
            value = getattr(self, name)
            if not isinstance(value, bool) and not (name == 'compile' and isinstance(value, str)):
                raise ValueError(f'inference: expected {name}=True or False, got {value!r}.')
        if self.token_merging_ratio is not None:
            check_number('inference', 'token_merging_ratio', self.token_merging_ratio, 0, 1)

    @classmethod
    def of_config(cls, cfg: Mapping[str, Any]) -> 'InferenceSettings':
        """Read the key ``inference`` of a config; without it, the settings of a test."""
        written = cfg.get('inference') or {}
        if not isinstance(written, Mapping):
            raise ValueError(f"inference: expected a dict, dict(precision='bfloat16'), got {written!r}.")
        check_known_keys('inference', written, [one.name for one in fields(cls)])
        return cls(**written)

    @classmethod
    def of_name(cls, name: str) -> 'InferenceSettings':
        """Parse a name: ``eager``, or parts of ``compiled``, ``bf16``, ``channels_last``, ``tome=0.1`` joined by +."""
        found: dict[str, Any] = {}
        for part in name.split('+'):
            word, _, value = part.partition('=')
            if word == 'tome' and value:
                try:
                    found['token_merging_ratio'] = float(value)
                except ValueError as error:
                    raise ValueError(f'settings: expected a number in {part!r}, such as tome=0.1.') from error
            elif part in _SHORT:
                found['precision'] = _SHORT[part]
            elif part in ('channels_last', 'compiled'):
                found['compile' if part == 'compiled' else part] = True
            elif part != 'eager':
                raise ValueError(
                    f'settings: expected parts out of {", ".join(_WORDS)}, joined by +, got {part!r} in {name!r}.'
                    f'{did_you_mean(part, _WORDS)}'
                )
        return cls(**found)

    @property
    def name(self) -> str:
        """The name that :meth:`of_name` parses."""
        short = {long: name for name, long in _SHORT.items()}
        parts = [] if self.token_merging_ratio is None else [f'tome={self.token_merging_ratio:g}']
        parts += ['compiled'] * bool(self.compile) + ['channels_last'] * self.channels_last
        parts += [short[self.precision]] if self.precision in short else []
        return '+'.join(parts) or 'eager'

    @property
    def dtype(self) -> Optional[torch.dtype]:
        """The dtype of autocast; None without autocast."""
        return None if self.precision == 'float32' else getattr(torch, self.precision)

    @property
    def computes_the_same(self) -> bool:
        """Whether the predictions differ only by the order of float32 sums."""
        return self.precision == 'float32' and self.token_merging_ratio is None

    @property
    def uncompiled(self) -> 'InferenceSettings':
        """The same settings without compilation."""
        return replace(self, compile=False)

    def as_key(self) -> dict[str, Any]:
        """Return the value of the key ``inference``: the settings that differ from a test's."""
        plain = asdict(InferenceSettings())
        return {name: value for name, value in asdict(self).items() if value != plain[name]}
