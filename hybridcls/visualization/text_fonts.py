"""Draw text of any script into a picture with the installed fonts."""

import logging
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from PIL import ImageDraw, ImageFont

__all__ = ['draw_text', 'font_families', 'text_width']


def draw_text(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, fill: str = 'black') -> None:
    """Draw a line of text, each character in matplotlib's own font or else the first installed one that has it.

    What no font has is a box, and a warning says so once.

    Args:
        draw (ImageDraw): Of the picture.
        place (tuple[float, float]): The left upper corner.
        text (str): A line.
        size (int): In pixels.
        fill (str): The colour. Defaults to ``'black'``.
    """
    left, top = place
    base = _font(_own(), size).getmetrics()[0]
    for part, path in _parts(text):
        font = _font(path, size)
        draw.text((left, top + base), part, fill, font, anchor='ls')
        left += font.getlength(part)


def text_width(text: str, size: int) -> float:
    """Return the width of a line of text from :func:`draw_text`, in pixels."""
    return sum(_font(path, size).getlength(part) for part, path in _parts(text))


def font_families(text: str, first: str) -> list[str]:
    """Return the font families for a text in matplotlib, which draws each character in the first that has it.

    Args:
        text (str): Of one line or more.
        first (str): The family that is taken where it has a character, as ``'monospace'``.
    """
    paths = dict.fromkeys([_own(), *map(_font_of, text.replace('\n', ''))])
    return [first, *map(_family, paths)]


@cache
def _family(path: str) -> str:
    """Register a font with matplotlib, and return its family name."""
    from matplotlib.font_manager import FontProperties, fontManager

    fontManager.addfont(path)
    return FontProperties(fname=path).get_name()


def _parts(text: str) -> list[tuple[str, str]]:
    """Split a text where the font changes; a space has the font before it."""
    parts: list[tuple[str, str]] = []
    for one in text:
        path = parts[-1][1] if parts and one.isspace() else _font_of(one)
        if parts and parts[-1][1] == path:
            parts[-1] = parts[-1][0] + one, path
        else:
            parts.append((one, path))
    return parts


@cache
def _font_of(character: str) -> str:
    if ord(character) in _characters(_own()):
        return _own()
    path = next((path for path in _installed() if ord(character) in _characters(path)), None)
    if path is None:
        _warn()
    return path or _own()


@cache
def _warn() -> None:
    warnings.filterwarnings('ignore', 'Glyph .* missing from')  # matplotlib says that of each character
    print_log(
        'No installed font has all characters of the captions: some are drawn as boxes. The Noto fonts have most.',
        'current', logging.WARNING,
    )  # fmt: skip


@cache
def _own() -> str:
    """Return matplotlib's own font, which has letters of many scripts and is always installed."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf')


@cache
def _installed() -> list[str]:
    """Return the fonts of the system, plain ones first."""
    from matplotlib.font_manager import findSystemFonts

    return sorted(findSystemFonts(), key=lambda path: ('Regular' not in path, 'Sans' not in path, path))


@cache
def _characters(path: str) -> frozenset[int]:
    """Return the characters of a font; none for a font that cannot be drawn at any size."""
    from matplotlib.ft2font import FT2Font

    try:
        ImageFont.truetype(path, 13)
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@cache
def _font(path: str, size: int) -> Any:
    return ImageFont.truetype(path, size)
