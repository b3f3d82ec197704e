"""The curve is that of answers given by hand; the section says what a calibration found."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import beta

from hybridcls.apis.image_inputs import Item
from hybridcls.apis.report.evaluated_images import EvaluatedImages
from hybridcls.apis.report.html_page import render
from hybridcls.apis.report.stream_readings import StreamReadings
from hybridcls.apis.report.streams_section import skip_curve, stream_numbers, streams_section
from hybridcls.apis.stream_cost import StreamCost

COSTS = dict(cnn=StreamCost(2.0, 20.0), vit=StreamCost(3.0, 5.0), rest=StreamCost(0.5, 1.0))


@pytest.fixture
def known():
    scores = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]] * 0.8 + 0.1  # the third is wrong
    return EvaluatedImages([Item(f'{row}.png', b'') for row in range(4)], np.array([0, 0, 0, 1]), scores, None)


@pytest.fixture
def readings():
    alone = dict(
        cnn=(np.array([0, 1, 0, 1]), np.array([0.9, 0.6, 0.7, 0.8])), vit=(np.array([1, 1, 1, 1]), np.full(4, 0.5))
    )
    return StreamReadings(('cnn', 'vit'), np.array([0.9, 0.2, 0.5, 0.6]), dict(cnn=0.4, vit=0.5), alone, COSTS)


def test_the_curve_by_hand(known, readings):
    """The cnn is surest of images 0, 3, 2, 1; it alone is right on 2, and wrong on 1."""
    curve = skip_curve(readings, known, 'vit')
    assert [row['skipped_percent'] for row in curve] == [0, 25, 50, 75, 100]
    assert [row['accuracy_percent'] for row in curve] == [75, 75, 75, 100, 75]
    assert [row['changed_percent'] for row in curve] == [0, 0, 0, 25, 50]
    assert [row['threshold'] for row in curve][1:] == [0.9, 0.8, 0.7, 0.6]
    assert [row['gflops'] for row in curve] == pytest.approx([5.5, 5.5 + 0.375 - 0.75, 5.5 + 0.25 - 1.5, 3.375, 2.5])
    assert [row['milliseconds'] for row in curve][::4] == pytest.approx([26, 21])
    assert curve[0]['accuracy_percent_low'] == pytest.approx(100 * beta.ppf(0.025, 3, 2))
    assert [row['accuracy_percent'] for row in skip_curve(readings, known, 'cnn')][-1] == 25


def test_the_section(known, readings):
    numbers = stream_numbers(readings, known, ('a', '<b>'))
    assert numbers['alone']['cnn']['accuracy_percent'] == 75
    assert numbers['alone']['cnn']['same_answer_percent'] == 50
    assert numbers['share_of_cnn_percent']['classes'][0]['median'] == pytest.approx(50)
    section = streams_section(readings, numbers, known, ('a', '<b>'))
    assert 'a threshold read from them guarantees nothing' in ' '.join(section.says)
    skip = dict(stream='vit', threshold=0.8, skipped=30, images=40, confidence=0.95, rate=0.02)
    says = ' '.join(streams_section(readings, numbers, known, ('a', '<b>'), skip).says)
    assert (
        'skips the stream vit if the probability without it is at least 0.8000. This was so for 75.0 % of the 40 images'
        in says
    )
    assert [group['title'] for group in section.groups] == [
        'Images with the largest share of cnn',
        'Images with the largest share of vit',
    ]
    assert section.groups[0]['pictures'][0]['caption'].startswith('cnn 90 %; ')
    assert section.groups[1]['pictures'][0]['alt'].startswith('1.png')
    page = render('t', 's', [section])
    assert '<b>' not in page
    assert '&lt;b&gt;' in page
    none = readings._replace(share=None, gates={})
    assert streams_section(none, stream_numbers(none, known, ('a', 'b')), known, ('a', 'b')).groups == []


def test_the_names_of_the_curves_are_above_them(known, readings, monkeypatch):
    figures = []

    def drawn(draw, *_):
        figures.append(Figure(layout='constrained'))
        draw(figures[-1].add_subplot())
        return ''

    monkeypatch.setattr('hybridcls.apis.report.streams_section.svg_of', drawn)
    streams_section(readings, stream_numbers(readings, known, ('a', 'b')), known, ('a', 'b'))
    for figure in figures[:2]:
        assert figure.axes[0].get_legend() is None  # where it would hide curves
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ['cnn skipped', 'vit skipped']
