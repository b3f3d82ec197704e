"""Images of any kind become small pictures."""

import pytest
from PIL import Image

from hybridcls.apis.image_inputs import Item
from hybridcls.apis.report.thumbnails import thumbnail


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGBA', 'CMYK', 'I;16', 'LA'])
def test_images_of_any_mode_have_a_thumbnail(tmp_path, mode):
    image = Image.new('L', (7, 200), 130)
    path = tmp_path / ('a.tif' if mode == 'CMYK' else 'a.png')
    (Image.new('I;16', (7, 200), 30000) if mode == 'I;16' else image.convert(mode)).save(path)
    assert thumbnail(Item(str(path), str(path))).startswith('data:image/jpeg;base64,')


def test_what_cannot_be_read_has_none(tmp_path):
    assert thumbnail(Item('x', str(tmp_path / 'x.png'))) is None
    assert thumbnail(Item('x', 'https://example.org/x.png')) is None
