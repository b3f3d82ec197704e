"""``--json``: one object on stdout, and everything else on stderr."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, Optional, TextIO

from hybridcls.plain_numbers import plain_results

__all__ = ['json_line', 'own_stdout', 'print_json', 'stdout_for_json', 'tell']


@contextmanager
def stdout_for_json(asked: bool) -> Iterator[None]:
    """Send to stderr what is written to stdout in the block, by this process and by those that it starts.

    Args:
        asked (bool): Without it the block runs as it is.
    """
    if not asked:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)  # for workers of the start method spawn, and for libraries below Python
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def own_stdout() -> Iterator[TextIO]:
    """Keep stdout for the answers; what libraries print goes to stderr."""
    sys.stdout.flush()
    stdout = os.fdopen(os.dup(1), 'w', encoding='utf8', errors='surrogateescape')
    try:
        with stdout_for_json(True):
            yield stdout
        stdout.flush()
    finally:
        with suppress(BrokenPipeError):
            stdout.close()


def json_line(content: Mapping[str, Any]) -> str:
    """Return an object in one line. Non-finite numbers are null, since JSON has none.

    Example:
        >>> json_line(dict(path='a.png', probability=float('nan')))
        '{"path": "a.png", "probability": null}'
    """
    try:
        return json.dumps(content, allow_nan=False)
    except ValueError:  # a copy of every row would cost more than it saves: embeddings have a thousand numbers
        return json.dumps(plain_results(content, finite=True))


def print_json(content: Mapping[str, Any]) -> None:
    """Print one object; the first of several processes does it. Non-finite numbers are null."""
    tell(json.dumps(plain_results(content, finite=True), indent=2))


def tell(text: str, stream: Optional[TextIO] = None) -> None:
    """Print a text to stdout or another stream; the first of several processes does it."""
    if os.environ.get('RANK', '0') == '0':
        print(text, file=stream, flush=True)
