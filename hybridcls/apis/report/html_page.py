"""The page of a report: a single HTML file without external resources."""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np

__all__ = ['Matrix', 'Section', 'Table', 'isolated', 'percent', 'render', 'shown_probability']

_FILTER_FROM = 20  # rows
_HEAT, _PAPER = ('#0072B2', '#56B4E9'), ('#ffffff', '#0d1117')  # on a light and on a dark page, as in page.html
_LEAST = 0.005  # of a share that is written


@dataclass
class Table:
    """A table that sorts by a click on a column head; a long one can be filtered by text.

    Args:
        title (str): Above it.
        head (Sequence[str]): Names of the columns.
        rows (Sequence[Sequence]): Cells; None is shown as a dash.
        numbers (set[int]): Columns that are set as numbers.
        sorts (bool): Whether a click on a head sorts. Defaults to True.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    numbers: set[int] = field(default_factory=set)
    sorts: bool = True

    def __post_init__(self) -> None:
        self.rows = [['-' if cell is None else cell for cell in row] for row in self.rows]

    @property
    def is_long(self) -> bool:
        """Whether the table scrolls and has a text filter."""
        return len(self.rows) > _FILTER_FROM


@dataclass
class Matrix:
    """A square matrix of shares, as shades and percentages.

    Args:
        title (str): Says what rows and columns are.
        names (Sequence[str]): Of the rows, and of the columns.
        shares (np.ndarray): In [0, 1], (N, N).
    """

    title: str
    names: Sequence[str]
    shares: np.ndarray

    @property
    def rows(self) -> list[tuple[str, list[tuple[str, str, str]]]]:
        """The name of each row, and of each cell its text, its shade and the class of its text colour."""
        return [
            (name, [_cell(float(share)) for share in line]) for name, line in zip(self.names, self.shares, strict=True)
        ]


@dataclass
class Section:
    """A section of the page; empty parts are left out.

    Args:
        id (str): Of the link.
        title (str): The heading.
        says (list[str]): Sentences.
        cards (list[dict]): ``name``, ``value``, ``interval``, ``what``.
        charts (list[dict]): ``svg``, ``caption``.
        matrix (Matrix, optional): Of confusions.
        tables (list[Table]): Tables.
        groups (list[dict]): ``title`` and ``pictures``: ``image`` (a ``data:`` address or None), ``alt``, ``caption``.
            With ``large``, a number of columns, the pictures are larger, in rows of so many.
        rows (list[dict]): ``title`` and ``rows``, each a ``query`` (a picture as in groups) and ``found``: pictures
            with ``right``, whether it is of the query's class.
        map (dict, optional): ``alt``, ``dots`` and ``pictures``.
        details (list[dict]): ``title`` and ``text``, shown by a click, or at once if ``open``.
    """

    id: str
    title: str
    says: list[str] = field(default_factory=list)
    cards: list[dict] = field(default_factory=list)
    charts: list[dict] = field(default_factory=list)
    matrix: Optional[Matrix] = None
    tables: list[Table] = field(default_factory=list)
    groups: list[dict] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)
    map: Optional[dict] = None
    details: list[dict] = field(default_factory=list)


def percent(value: Optional[float]) -> Optional[str]:
    """Format a percentage for a cell."""
    return None if value is None else f'{value:.1f}'


def shown_probability(value: float) -> str:
    """Format a probability for a caption, with a no-break space.

    Example:
        >>> shown_probability(0.871), shown_probability(0.001)
        ('87\\xa0%', '<\\xa01\\xa0%')
    """
    return f'{100 * value:.0f}\u00a0%' if value >= 0.005 else '<\u00a01\u00a0%'


def isolated(name: str) -> str:
    """Isolate a name in bidirectional text, so that it does not reorder the sentence around it.

    Example:
        >>> isolated('cat').encode('unicode_escape').decode()
        '\\\\u2068cat\\\\u2069'
    """
    return f'\u2068{name}\u2069'


def _cell(share: float) -> tuple[str, str, str]:
    if share < _LEAST:
        return '', '', ''
    return f'{100 * share:.0f}', f'{share:.2f}', ' '.join(
        f'{theme}{_ink(share, heat, paper)}' for theme, heat, paper in zip('ld', _HEAT, _PAPER, strict=True)
    )  # fmt: skip


def _ink(share: float, heat: str, paper: str) -> str:
    """Return the text colour, black (``k``) or white (``w``), that is more legible on a shade."""
    mixed = [share * one + (1 - share) * other for one, other in zip(_channels(heat), _channels(paper), strict=True)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in mixed]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return 'k' if (luminance + 0.05) ** 2 > 1.05 * 0.05 else 'w'


def _channels(colour: str) -> list[float]:
    return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Render the page as HTML whose content security policy allows its own script alone and loads nothing."""
    from jinja2 import Environment

    template = Path(__file__).with_name('page.html').read_text(encoding='utf8')
    environment = Environment(autoescape=True, trim_blocks=False)
    html = environment.from_string(template).render(
        title=title, subtitle=subtitle, sections=sections, policy='SCRIPT_HASH'
    )
    script = re.findall(r'<script>(.*?)</script>', template, re.DOTALL)[-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    html = html.replace('SCRIPT_HASH', digest, 1)
    return re.sub('[\ud800-\udfff]', '\ufffd', html)  # in names of files that are not UTF-8: a page is
