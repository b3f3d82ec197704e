"""Text is drawn by an installed font that has its characters."""

import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from PIL import Image, ImageDraw, ImageFont

from hybridcls.visualization import text_fonts

FONTS = Path(matplotlib.get_data_path()) / 'fonts' / 'ttf'


@pytest.fixture
def other(monkeypatch):
    """An installed font, a file that is none, and a character that matplotlib's own font lacks."""
    path = str(FONTS / 'STIXNonUni.ttf')
    monkeypatch.setattr(text_fonts, '_installed', lambda: [__file__, path])
    text_fonts._font_of.cache_clear()
    text_fonts._warn.cache_clear()
    yield path, chr(min(text_fonts._characters(path) - text_fonts._characters(text_fonts._own())))
    text_fonts._font_of.cache_clear()
    text_fonts._warn.cache_clear()


def drawn(text):
    image = Image.new('L', (120, 30), 255)
    text_fonts.draw_text(ImageDraw.Draw(image), (0, 0), text, 20)
    return np.asarray(image)


def test_a_font_that_has_a_character_is_found(other):
    path, character = other
    assert text_fonts._parts(f'a {character} b') == [('a ', text_fonts._own()), (f'{character} ', path),
                                                     ('b', text_fonts._own())]  # fmt: skip
    expected = Image.new('L', (120, 30), 255)
    base = text_fonts._font(text_fonts._own(), 20).getmetrics()[0]
    ImageDraw.Draw(expected).text((0, base), character, 'black', ImageFont.truetype(path, 20), anchor='ls')
    assert (drawn(character) == np.asarray(expected)).all()
    assert text_fonts.text_width(character, 20) == ImageFont.truetype(path, 20).getlength(character)


def test_matplotlib_draws_by_that_font(other):
    path, character = other
    assert text_fonts.font_families('a\nb', 'monospace') == ['monospace', 'DejaVu Sans']
    families = text_fonts.font_families(f'a{character}', 'monospace')
    assert families == ['monospace', 'DejaVu Sans', FontProperties(fname=path).get_name()]
    figure = Figure()
    figure.text(0, 0.5, character, family=families)
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # of a character that no font has
        FigureCanvasAgg(figure).draw()


def test_what_no_font_has_is_told(other, monkeypatch):
    said = []
    monkeypatch.setattr(text_fonts, 'print_log', lambda text, *more: said.append(text))
    for text in ('\U0010fffd', '\U0010fffc'):
        assert (drawn(text) < 128).any()  # a box
    assert len(said) == 1
    assert 'drawn as boxes' in said[0]
