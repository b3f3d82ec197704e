"""Draw a contact sheet: rows of small images with captions, in one picture."""

from collections.abc import Sequence
from typing import NamedTuple, Optional

from PIL import Image, ImageDraw

from .text_fonts import draw_text, text_width

__all__ = ['Cell', 'contact_sheet']

_TEXT_SIZE = 13  # pixels
_LINE = 17
_GAP = 10
_BORDER = 3


class Cell(NamedTuple):
    """One image of a sheet.

    Args:
        image (PIL.Image.Image, optional): None, an image that cannot be read say, is shown as an empty frame.
        caption (Sequence[str]): Lines below it; what is too long for its width is cut in the middle.
        color (str): Of the frame.
    """

    image: Optional[Image.Image]
    caption: Sequence[str] = ()
    color: str = '#c8c8c8'


def contact_sheet(rows: Sequence[Sequence[Cell]], titles: Sequence[str] = (), size: int = 160) -> Image.Image:
    """Draw the sheet.

    Args:
        rows (Sequence[Sequence[Cell]]): Rows of cells, of any number each.
        titles (Sequence[str]): Above the columns. Defaults to ().
        size (int): The edge of an image, in pixels; images are fitted into a square. Defaults to 160.

    Returns:
        PIL.Image.Image: RGB.

    Example:
        >>> contact_sheet([[Cell(None, ['a.jpg']), Cell(None, ['b.jpg', '0.93'])]], ['query', '1']).size
        (362, 241)
    """
    columns = max([len(titles), *map(len, rows)], default=1)
    lines = [max((len(cell.caption) for cell in row), default=0) for row in rows]
    heights = [size + 2 * _BORDER + of_row * _LINE + _GAP for of_row in lines]
    head = _GAP + (_LINE + 4 if titles else 0)
    pitch = size + 2 * _BORDER + _GAP
    sheet = Image.new('RGB', (columns * pitch + _GAP, head + sum(heights)), 'white')
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw_text(draw, (_GAP + column * pitch, _GAP), _fitting(title, size), _TEXT_SIZE)
    top = head
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            _draw_cell(sheet, draw, cell, _GAP + column * pitch, top, size)
        top += height
    return sheet


def _draw_cell(sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, left: int, top: int, size: int) -> None:
    edge = size + 2 * _BORDER
    draw.rectangle((left, top, left + edge - 1, top + edge - 1), outline=cell.color, width=_BORDER)
    if cell.image is not None:
        image = cell.image.convert('RGBA')
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
        if max(image.size) < size:  # of a few pixels: enlarged without smoothing
            factor = max(1, size // max(image.size))
            image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
        place = (left + (edge - image.width) // 2, top + (edge - image.height) // 2)
        sheet.paste(image, place, image)
    for number, line in enumerate(cell.caption):
        draw_text(draw, (left, top + edge + 2 + number * _LINE), _fitting(line, edge), _TEXT_SIZE)


def _fitting(text: str, width: int) -> str:
    """Shorten a long text in its middle, since beginning and end of names tell most."""
    text = text.encode('utf8', 'replace').decode()
    if text_width(text, _TEXT_SIZE) <= width:
        return text
    kept = len(text)
    while kept > 2:
        kept -= 1
        shorter = f'{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}'
        if text_width(shorter, _TEXT_SIZE) <= width:
            return shorter
    return text[:1]
