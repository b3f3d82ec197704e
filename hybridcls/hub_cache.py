"""Access the local cache of the Hugging Face Hub, and check whether the Hub answers; fast to import."""

import os
import threading
from pathlib import Path
from typing import Optional, Union

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import get_session

__all__ = ['cache_folder', 'cached_file', 'check_answers', 'unavailable', 'why_unreachable']

_PATIENCE = 1.2  # seconds for an answer; a download without a network would be tried again for most of a minute


def cached_file(
    repo: str, names: list[str], revision: Optional[str] = None, cache_dir: Union[str, Path, None] = None
) -> Optional[str]:
    """Return the first of some files of a repository that is cached, or None."""
    files = (try_to_load_from_cache(repo, name, cache_dir=cache_dir, revision=revision) for name in names)
    return next((file for file in files if isinstance(file, str)), None)


def cache_folder(repo: str, cache_dir: Union[str, Path, None] = None) -> str:
    """Return the Hub library's cache folder of a repository (its documented layout)."""
    return os.path.join(cache_dir or constants.HF_HUB_CACHE, f'models--{repo.replace("/", "--")}')


def check_answers(caller: str, model_name: str, cached: str, address: Optional[str] = None) -> None:
    """Raise unless a server responds soon, be it with an error.

    Args:
        caller (str): Name used as the error prefix.
        model_name (str): The model whose weights are missing, for the message.
        cached (str): Where in the cache they would be, for the message.
        address (str, optional): The server. Defaults to None, the Hub (``HF_ENDPOINT``).

    Raises:
        FileNotFoundError: If it does not, or ``HF_HUB_OFFLINE`` is set.
    """
    why = why_unreachable(address)
    if why:
        raise unavailable(caller, model_name, cached, why)


def why_unreachable(address: Optional[str] = None) -> str:
    """Return why a server cannot be used: it does not respond, or ``HF_HUB_OFFLINE`` is set; '' if it can.

    Args:
        address (str, optional): The server. Defaults to None, the Hub (``HF_ENDPOINT``).

    Returns:
        str: A part of a sentence; empty if it answers.
    """
    address = address or constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        return 'HF_HUB_OFFLINE is set'
    outcome: list[str] = []

    def ask() -> None:
        try:
            get_session().head(address, timeout=_PATIENCE)
            outcome.append('')
        except Exception as error:  # of whichever library the Hub's uses
            outcome.append(type(error).__name__)

    # The lookup of a name has no timeout of its own; a thread that still waits for one ends with the program.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    why = outcome[0] if outcome else f'no answer in {_PATIENCE} s'
    return f'{address} cannot be reached ({why})' if why else ''


def unavailable(caller: str, model_name: str, cached: str, why: str) -> FileNotFoundError:
    """Return the error, with advice, for missing pretrained weights of a model."""
    return FileNotFoundError(
        f'{caller}: the pretrained weights of {model_name} are not in the local cache ({cached}), and {why}. Give a '
        'file or folder of weights (--checkpoint FILE, or checkpoint_path=... in the config), copy that place of the '
        'cache from a machine with a network, or set pretrained=False for random weights.'
    )
