"""Everything that is shown is escaped, long or not, and images are in the page itself."""

import base64
import io

import numpy as np
from PIL import Image

from hybridcls.apis.demo.answer_html import Thumbnail, answer_html, data_uri, images_html, message_html
from hybridcls.apis.demo.shown_answer import ShownAnswer

HOSTILE = '<script>alert(1)</script>" onload="x'


def test_text_of_anyone_is_text():
    shown = ShownAnswer(
        HOSTILE, False, HOSTILE, ((HOSTILE, 0.5, True),), (3, 0.25), uncertainties=((HOSTILE, 0.1, HOSTILE),),
        prediction_set=(HOSTILE,), set_why=HOSTILE, heads=((HOSTILE, ShownAnswer(HOSTILE, False, '')),),
    )  # fmt: skip
    html = answer_html(shown, [Thumbnail(HOSTILE, 0.5, f'/a/{HOSTILE}', None)]) + message_html(HOSTILE)
    assert '<script' not in html
    assert '" onload' not in html
    assert '3 other classes: 25.0 %' in html


def test_long_sets_are_counted():
    html = answer_html(ShownAnswer('a', False, '', prediction_set=tuple(map(str, range(1000)))))
    assert html.count('class=tag ') == 40
    assert 'and 960 more' in html


def test_what_the_network_sees_is_shown_to_the_pixel():
    seen = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    content = base64.b64decode(data_uri(seen).partition(',')[2])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), seen)
    html = images_html(np.zeros((900, 1800, 3), np.uint8), seen)
    assert 'as read, 1,800 × 900' in html
    assert 'as the network sees it, 5 × 6' in html
    small = Image.open(
        io.BytesIO(base64.b64decode(data_uri(np.zeros((900, 1800, 3), np.uint8), 100).partition(',')[2]))
    )
    assert small.size == (100, 50)
