"""The page of a report: one file, without a network."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

__all__ = ['Section', 'Table', 'percent', 'render']


@dataclass
class Table:
    """A table that sorts by a click on a head.

    Args:
        title (str): Above it.
        head (Sequence[str]): Names of the columns.
        rows (Sequence[Sequence]): Cells; None is shown as a dash.
        numbers (set[int]): Columns that are set as numbers.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    numbers: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rows = [['-' if cell is None else cell for cell in row] for row in self.rows]


@dataclass
class Section:
    """A section of the page; each part is left out where it is empty.

    Args:
        id (str): Of the link.
        title (str): The heading.
        says (list[str]): Sentences.
        cards (list[dict]): ``name``, ``value``, ``interval``, ``what``.
        charts (list[dict]): ``svg``, ``caption``.
        tables (list[Table]): Tables.
        groups (list[dict]): ``title`` and ``pictures``: ``image`` (a ``data:`` address or None), ``alt``, ``caption``.
        map (dict, optional): ``alt``, ``dots`` and ``pictures``.
        details (list[dict]): ``title`` and ``text``, shown by a click.
    """

    id: str
    title: str
    says: list[str] = field(default_factory=list)
    cards: list[dict] = field(default_factory=list)
    charts: list[dict] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    groups: list[dict] = field(default_factory=list)
    map: Optional[dict] = None
    details: list[dict] = field(default_factory=list)


def percent(value: Optional[float]) -> Optional[str]:
    """Return a percentage as it stands in a cell."""
    return None if value is None else f'{value:.1f}'


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment

    template = Path(__file__).with_name('page.html').read_text(encoding='utf8')
    environment = Environment(autoescape=True, trim_blocks=False)
    return environment.from_string(template).render(title=title, subtitle=subtitle, sections=sections)
