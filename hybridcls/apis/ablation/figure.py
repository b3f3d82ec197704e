"""Plot what each lever gains against what it costs."""

import io
from collections.abc import Sequence

from .effects import HARMFUL, MIXED, NOISE, WORTH, ArmEffect, Metric

__all__ = ['draw_gain_and_cost']

# Told apart by shape too; the colours are of Okabe and Ito's palette.
_LOOK = {
    WORTH: ('o', '#0072B2'),
    HARMFUL: ('X', '#D55E00'),
    MIXED: ('D', '#CC79A7'),
    NOISE: ('s', '#767676'),
}

_APART = 80, 16  # pixels that a name takes


def draw_gain_and_cost(effects: Sequence[ArmEffect], metrics: Sequence[Metric], title: str, confidence: float) -> bytes:
    """Draw one panel per metric: the gain with its interval (upwards is better) against the time of the steps.

    Args:
        effects (Sequence[ArmEffect]): Those with gains are drawn.
        metrics (Sequence[Metric]): At least one.
        title (str): Of the picture.
        confidence (float): Of the intervals, for the label.

    Returns:
        bytes: A PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(metrics), 4.6), layout='constrained')
    FigureCanvasAgg(figure)
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        drawn = [one for one in effects if metric.key in one.gains and one.step_ratio]
        axes.axhline(0, color='black', linewidth=0.8)
        axes.axvline(1, color='black', linewidth=0.8, linestyle=':')
        for verdict, (marker, colour) in _LOOK.items():
            own = [one for one in drawn if one.verdict == verdict]
            gains = [one.gains[metric.key] for one in own]
            if own:
                ends = [[gain.mean - gain.low for gain in gains], [gain.high - gain.mean for gain in gains]]
                axes.errorbar(
                    [one.step_ratio for one in own], [gain.mean for gain in gains], yerr=ends, fmt=marker,
                    color=colour, label=verdict, capsize=2, markersize=6, linewidth=1.2,
                )  # fmt: skip
        axes.margins(x=0.2)
        axes.autoscale_view()
        points = axes.transData.transform([(one.step_ratio, one.gains[metric.key].mean) for one in drawn] or [(1, 0)])
        for rows in _together(points) if drawn else ():
            first = drawn[rows[0]]
            axes.annotate(
                '\n'.join(drawn[row].arm.name for row in rows), (first.step_ratio, first.gains[metric.key].mean),
                fontsize=8, textcoords='offset points', xytext=(6, 4), va='bottom',
            )  # fmt: skip
        axes.set_xlabel('time of all steps, ratio')
        axes.set_ylabel(f'gain in {metric.name}, {metric.unit} (up is better)')
        if drawn:
            axes.legend(fontsize=8, loc='best')
    figure.suptitle(f'{title}\n(intervals of {confidence:.0%})', fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=110)
    return buffer.getvalue()


def _together(points: Sequence[Sequence[float]]) -> list[list[int]]:
    """Group points (x, y), in pixels, whose names would lie on each other; from the lowest to the highest."""
    groups: list[list[int]] = []
    for row in sorted(range(len(points)), key=lambda row: points[row][1]):
        for group in groups:
            if all(abs(points[row][axis] - points[group[0]][axis]) < _APART[axis] for axis in (0, 1)):
                group.append(row)
                break
        else:
            groups.append([row])
    return groups
