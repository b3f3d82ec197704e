"""Escape text for Markdown."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ['as_table', 'as_text']


def as_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [header, ['---'] * len(header), *([as_text(value) for value in row] for row in rows)]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def as_text(value: Any) -> str:
    """Escape a value so that Markdown shows it literally; class names may hold any text."""
    text = ''.join(mark if mark.isprintable() else ' ' for mark in str(value))
    return re.sub(r'([\\`*\[\]<>|#&]|(?<!\w)_|_(?!\w))', r'\\\1', text)
