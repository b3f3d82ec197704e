"""The charts of a report: SVG with real text, in colours that also work on a dark page."""

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

__all__ = ['BLUE', 'ORANGE', 'boxes_chart', 'curves_chart', 'histogram_chart', 'png_of', 'reliability_chart', 'svg_of']

# Stand-ins of six colours after Okabe and Ito, and a grey: a page has them as variables, lighter ones on a dark page.
BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY, GREY = (
    '#0072b2', '#d55e00', '#00805e', '#a8518a', '#8f6400', '#2f7fa8', '#6b7178',
)  # fmt: skip
_VARIABLES = {BLUE: 'c1', ORANGE: 'c2', GREEN: 'c3', PURPLE: 'c4', YELLOW: 'c5', SKY: 'c6', GREY: 'grey'}
_INK = '#010203'  # replaced by the page's own colour of text


Form = Callable[[Callable[[Any], None], str], Any]
"""What makes a picture of a drawing and its title: :func:`svg_of`, or :func:`png_of`."""


def png_of(draw: Callable[[Any], None], title: str) -> bytes:
    """Return a figure as a PNG file on white."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({'axes.spines.top': False, 'axes.spines.right': False, 'legend.frameon': False}):
        figure = Figure(figsize=(5.6, 3.6), layout='constrained')
        draw(figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format='png', dpi=120, metadata={'Title': title})
    return buffer.getvalue()


def svg_of(draw: Callable[[Any], None], title: str, width: float = 5.6, height: float = 3.6) -> str:
    """Return a figure as an SVG element.

    Args:
        draw (Callable): Draws on the axes.
        title (str): For those who cannot see it.
        width (float), height (float): In inches, of 72 CSS pixels.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    look: Any = {
        'svg.fonttype': 'none', 'font.family': 'sans-serif', 'font.size': 10, 'axes.edgecolor': _INK,
        'axes.labelcolor': _INK, 'xtick.color': _INK, 'ytick.color': _INK, 'text.color': _INK, 'svg.hashsalt': title,
        'axes.spines.top': False, 'axes.spines.right': False, 'legend.frameon': False,
    }  # fmt: skip
    with matplotlib.rc_context(look), warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph .* missing')  # the page's own fonts draw the text
        figure = Figure(figsize=(width, height), layout='constrained')
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format='svg', transparent=True, metadata={'Date': None, 'Title': title})
    text = buffer.getvalue()
    text = re.sub(r'<metadata>.*?</metadata>', '', text[text.index('<svg') :], flags=re.S)
    text = re.sub(r"font: (\S+) [^;\"]*'sans-serif'[^;\"]*", r'font: \1 system-ui, sans-serif', text)
    prefix = re.sub(r'\W+', '-', title.lower())
    text = re.sub(r'id="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r'(href="#|url\(#)', rf'\g<1>{prefix}-', text)
    text = text.replace(_INK, 'currentColor')
    for colour, variable in _VARIABLES.items():  # attributes take no variables
        text = re.sub(rf'((?:fill|stroke): ){colour}', rf'\1var(--{variable}, {colour})', text)
    name = escape(title, quote=True)
    return text.replace('<svg ', f'<svg role="img" aria-label="{name}" class="chart" ', 1)


def _legend(axes: Any) -> None:
    """Draw the legend above the axes, where it hides nothing."""
    axes.figure.legend(loc='outside upper left', ncols=2 if len(axes.get_legend_handles_labels()[1]) > 1 else 1)


def reliability_chart(rows: Mapping[str, Sequence[float]], title: str, form: Form = svg_of) -> Any:
    """Draw a reliability diagram: accuracy over confidence."""

    def draw(axes: Any) -> None:
        largest = max(rows['images'])
        axes.plot([0, 100], [0, 100], color=GREY, linestyle='--', linewidth=1, label='calibrated')
        sizes = [12 + 90 * count / largest for count in rows['images']]
        confidence, right = (100 * np.asarray(rows[key]) for key in ('confidence', 'right'))
        low, high = (np.abs(right - 100 * np.asarray(rows[key])) for key in ('low', 'high'))
        axes.errorbar(confidence, right, yerr=[low, high], fmt='none', ecolor=BLUE, elinewidth=1)
        axes.scatter(confidence, right, s=sizes, color=BLUE, label='answers (area: how many)')
        axes.set_xlabel('probability of the answer, %')
        axes.set_ylabel('right answers, %')
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 102)
        _legend(axes)

    return form(draw, title)


def curves_chart(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    title: str,
    form: Form = svg_of,
    **limits: Any,
) -> Any:
    """Draw several curves on shared axes."""

    def draw(axes: Any) -> None:
        styles = ['-', '--', ':', '-.']
        for number, (name, (places, values)) in enumerate(curves.items()):
            colour = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY)[number % 6]
            marker = 'os^Dv'[number % 5] if len(places) < 12 else None
            style = styles[number // 6 % 4]
            axes.plot(places, values, color=colour, linestyle=style, label=name, linewidth=1.6, marker=marker)
        axes.set(xlabel=x, ylabel=y, **limits)
        if x == 'updates':
            axes.set_xlim(left=0)
            axes.xaxis.get_major_locator().set_params(integer=True)
        if len(curves) > 1 or y == '%':
            _legend(axes)

    return form(draw, title)


def boxes_chart(values: np.ndarray, x: str, y: str, title: str, **limits: Any) -> str:
    """Draw a box plot per column: median, quartiles, and whiskers from 5 to 95 %."""

    def draw(axes: Any) -> None:
        axes.boxplot(
            values, positions=range(values.shape[1]), whis=(5, 95), showfliers=False, widths=0.6, patch_artist=True,
            boxprops=dict(facecolor=BLUE, edgecolor=BLUE, alpha=0.5), medianprops=dict(color=ORANGE, linewidth=2),
            whiskerprops=dict(color=BLUE), capprops=dict(color=BLUE),
        )  # fmt: skip
        axes.set(xlabel=x, ylabel=y, **limits)

    return svg_of(draw, title, 4.4, 3.0)


def histogram_chart(groups: Mapping[str, np.ndarray], x: str, title: str, bins: int = 30) -> str:
    """Draw histograms, each group normalized to 100 %."""

    def draw(axes: Any) -> None:
        values = np.concatenate(list(groups.values()))
        edges = np.linspace(values.min(), values.max() if np.ptp(values) else values.min() + 1, bins + 1)
        for (name, own), colour, hatch in zip(groups.items(), (BLUE, ORANGE, GREEN), ('', '//', '..'), strict=False):
            axes.hist(
                own, edges, weights=np.full(len(own), 100 / len(own)), histtype='stepfilled', alpha=0.55, color=colour,
                label=f'{name} ({len(own)})', hatch=hatch, edgecolor=colour,
            )  # fmt: skip
        axes.set(xlabel=x, ylabel='images, %' if len(groups) == 1 else 'images, % of their group')
        _legend(axes)

    return svg_of(draw, title)
