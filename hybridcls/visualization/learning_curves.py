"""Draw the learning curves of a training: a panel for each kind of value, over the epochs."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

__all__ = ['Curve', 'Panel', 'draw_learning_curves']

Curve = tuple[Sequence[float], Sequence[float]]
"""Positions in epochs (or iterations), and the values there."""

_WIDTH, _LEAST_HEIGHT, _LINE_HEIGHT = 9.6, 2.6, 0.19  # inches: of the picture, a panel, and a line of its legend
_RUNNING_MEAN = 1 / 50  # of all points
_COLOURS = [f'C{number}' for number in range(10)]
_STYLES = ['-', '--', ':', '-.']


class Panel(NamedTuple):
    """A panel of curves with one axis.

    Args:
        name (str): Label of the axis, with its unit.
        curves (dict[str, Curve]): By name. Non-finite values leave a gap.
        directions (dict[str, str | None]): ``'greater'`` or ``'less'``, whichever is better, by name: the best point
            of these curves is marked, with its value in the legend. Others have no best point.
        is_schedule (bool): The values are set, not measured: no running mean is drawn, and the axis is logarithmic if
            they span more than a factor of 10.
    """

    name: str
    curves: dict[str, Curve]
    directions: dict[str, Optional[str]] = {}
    is_schedule: bool = False


def draw_learning_curves(panels: Sequence[Panel], axis: str = 'epoch', title: str = '') -> bytes:
    """Draw the panels below each other, each with its legend beside it.

    A curve of more than 100 points is drawn pale, with its running mean over it. Panels without curves are left out.

    Args:
        panels (Sequence[Panel]): The panels, from the top.
        axis (str): Unit of the positions. Defaults to ``'epoch'``.
        title (str): Title above the first panel.

    Returns:
        bytes: A PNG.

    Example:
        >>> draw_learning_curves([Panel('loss', {'train': ([0.5, 1.0], [2.0, 1.5])})])[1:4]
        b'PNG'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [panel for panel in panels if panel.curves]
    heights = [max(_LEAST_HEIGHT, _LINE_HEIGHT * (len(panel.curves) + 2)) for panel in panels] or [_LEAST_HEIGHT]
    # Not through pyplot: it would choose a screen, and keep a reference to the figure.
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout='constrained')
    all_axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=False):
        for number, (name, curve) in enumerate(panel.curves.items()):
            look = dict(color=_COLOURS[number % 10], linestyle=_STYLES[number // 10 % len(_STYLES)])
            _draw_curve(axes, name, curve, look, panel.directions.get(name), smooth=not panel.is_schedule)
        axes.set_ylabel(panel.name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize='small', frameon=False, loc='upper left', bbox_to_anchor=(1.0, 1.02), borderaxespad=0.2)
        if panel.is_schedule:
            _maybe_logarithmic(axes, panel.curves)
    all_axes[-1].set_xlabel(axis)
    all_axes[0].set_title(title, fontsize='medium')
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


def best_point(values: np.ndarray, direction: Optional[str]) -> Optional[int]:
    """Return the position of the best finite value, the first of equal ones; None without a direction or a value.

    Example:
        >>> best_point(np.array([3.0, np.nan, 1.0, 2.0]), 'less'), best_point(np.array([3.0, 1.0]), 'greater')
        (2, 0)
    """
    finite = np.flatnonzero(np.isfinite(values))
    if direction is None or not len(finite):
        return None
    return int(finite[values[finite].argmax() if direction == 'greater' else values[finite].argmin()])


def _draw_curve(
    axes: Any, name: str, curve: Curve, look: dict[str, Any], direction: Optional[str], smooth: bool
) -> None:
    positions, values = (np.asarray(part, dtype=float) for part in curve)
    best = best_point(values, direction)
    if best is not None:
        axes.plot(positions[best], values[best], 'o', color=look['color'], markersize=8, fillstyle='none')
        name = f'{name} (best {values[best]:.4g})'
    many = len(values) > 100
    if many and smooth:
        axes.plot(positions, values, **look, alpha=0.25, linewidth=0.8)
        values = _running_mean(values, max(2, round(len(values) * _RUNNING_MEAN)))
    axes.plot(positions, values, **look, label=name, linewidth=1.5, marker='' if many else '.')


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Return the trailing mean of the last ``width`` finite values at each point."""
    finite = np.isfinite(values)
    sums = np.cumsum(np.where(finite, values, 0))
    counts = np.cumsum(finite)
    sums[width:], counts[width:] = sums[width:] - sums[:-width], counts[width:] - counts[:-width]
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


def _maybe_logarithmic(axes: Any, curves: Mapping[str, Curve]) -> None:
    values = np.concatenate([np.asarray(values, dtype=float) for _, values in curves.values()])
    values = values[np.isfinite(values) & (values > 0)]
    if len(values) and values.max() > 10 * values.min():
        axes.set_yscale('log')
