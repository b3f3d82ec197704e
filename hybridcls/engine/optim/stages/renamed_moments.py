"""Old names (version 0.1) of the methods of stages."""

from collections.abc import Mapping
from typing import Any

from hybridcls.renames import warn_renamed

__all__ = ['adopt_renamed']

_RENAMED = dict(
    probe='second_pass',
    transform='before_step',
    settle='after_step',
    wants_regrad='needs_second_pass',
    probes='has_second_pass',
)


def adopt_renamed(cls: Any) -> None:
    """Make the methods of a stage's class available under their old and new names.

    An old name in the class itself, or in a base that is no stage, is taken for the new one, with one warning. The
    old names of what it defines under a new name lead there, for a class that calls ``super().settle(update)``.
    """
    for old, new in _RENAMED.items():
        owner: Mapping[str, Any] = next(
            (vars(base) for base in cls.__mro__ if old in vars(base) or new in vars(base)), {}
        )
        if new not in owner and old in owner:
            setattr(cls, new, owner[old])
            warn_renamed(old, new, f'{cls.__module__}.{cls.__name__}')
        elif new in vars(cls) and _leads_to(cls, old, new):
            setattr(cls, old, vars(cls)[new])


def _leads_to(cls: type, old: str, new: str) -> bool:
    """Return whether the old name is free, or an alias of the new one; a class may use it for its own method."""
    owner = next((vars(base) for base in cls.__mro__ if old in vars(base)), None)
    return owner is None or owner[old] is owner.get(new)
