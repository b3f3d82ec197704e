"""The location of a model: a local folder, or a repository of the Hugging Face Hub."""

import os
import re
from pathlib import Path
from typing import NamedTuple, Optional

__all__ = ['Place', 'read_place']

_HUB = ('hf://', 'hf-hub:')
_REPO = re.compile(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*')


class Place(NamedTuple):
    """The location that a model is pushed to or pulled from.

    Args:
        name (str): The folder, or ``OWNER/NAME`` on the Hub.
        on_hub (bool): Whether it is on the Hub.
        revision (str, optional): A branch, tag or commit of the Hub; None: the main branch.
    """

    name: str
    on_hub: bool
    revision: Optional[str] = None

    def __str__(self) -> str:
        revision = f'@{self.revision}' if self.revision else ''
        return f'hf://{self.name}{revision}' if self.on_hub else self.name


def read_place(caller: str, text: str, revision: Optional[str] = None) -> Place:
    """Parse a location as a user types it.

    ``hf://OWNER/NAME[@REVISION]`` (or timm's ``hf-hub:``) is on the Hub, and so is a bare ``OWNER/NAME`` unless there
    is a folder of that name, or a folder ``OWNER``, here. Everything else is a folder.

    Args:
        caller (str): Name that errors start with.
        text (str): What the user typed.
        revision (str, optional): Of the Hub. Defaults to None.

    Raises:
        ValueError: If it is no name of a repository behind ``hf://``, or a revision of a folder is asked for.
    """
    prefix = next((one for one in _HUB if text.startswith(one)), '')
    name, _, behind = text.removeprefix(prefix).partition('@')
    if behind and revision and behind != revision:
        raise ValueError(f'{caller}: expected one revision, got {behind} in {text!r} and --revision {revision}.')
    is_repo = _REPO.fullmatch(name) is not None
    if prefix and not is_repo:
        raise ValueError(f'{caller}: expected hf://OWNER/NAME, got {text!r}.')
    if prefix or (is_repo and not os.path.exists(text) and not Path(name).parent.exists()):
        return Place(name, True, behind or revision or None)
    if revision:
        raise ValueError(f'{caller}: --revision is for the Hub, got the folder {text!r}. Leave it out.')
    return Place(os.path.expanduser(text), False)
