"""Contact sheets: places of images and frames, captions that fit, and images that are not there."""

import numpy as np
import pytest
from PIL import Image

from hybridcls.visualization import contact_sheet as module
from hybridcls.visualization.contact_sheet import Cell, contact_sheet
from hybridcls.visualization.text_fonts import text_width


def test_images_are_fitted_into_their_frames():
    wide = Image.new('RGB', (400, 100), 'blue')
    small = Image.new('L', (8, 8), 0)
    sheet = np.asarray(contact_sheet([[Cell(wide, color='#ff0000'), Cell(small)], [Cell(None)]], size=80))
    assert sheet.shape == (10 + 2 * (86 + 10), 2 * 96 + 10, 3)
    blue = (sheet == (0, 0, 255)).all(2)
    rows, columns = np.nonzero(blue)
    assert (columns.min(), columns.max()) == (13, 92)  # behind the gap and the frame, 80 wide
    assert abs(rows.max() - rows.min() + 1 - 20) <= 1
    assert abs((rows.min() + rows.max()) / 2 - (10 + 43)) <= 1
    black = (sheet == 0).all(2)
    assert black.sum() == 80 * 80  # enlarged tenfold, without smoothing
    assert (sheet[10:96, 10:13] == (255, 0, 0)).all()
    assert (sheet[109:189, 13:93] == 255).all()  # an empty frame


def test_transparent_parts_are_white():
    sheet = contact_sheet([[Cell(Image.new('RGBA', (80, 80), (0, 0, 0, 0)))]], size=80)
    assert sheet.getpixel((50, 50)) == (255, 255, 255)


@pytest.mark.parametrize('text', ['short.jpg', 'a very long name of a file that has no room 0123456789.jpg', 'x\udcff'])
def test_captions_fit_and_keep_beginning_and_end(text):
    shown = module._fitting(text, 120)
    assert text_width(shown, module._TEXT_SIZE) <= 120
    if len(text) > 20:
        assert shown[:5] == text[:5]
        assert shown[-5:] == text[-5:]
        assert '…' in shown


def test_titles_and_captions_are_drawn():
    plain = np.asarray(contact_sheet([[Cell(None)]]))
    titled = np.asarray(contact_sheet([[Cell(None, ['a', 'b'])]], ['query']))
    assert titled.shape[0] == plain.shape[0] + 21 + 2 * 17
    assert (titled[10:31] < 100).any()
    assert (titled[-44:] < 100).any()
