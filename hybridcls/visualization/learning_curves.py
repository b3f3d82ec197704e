"""Draw how a training went: losses, scores and the learning rate over the epochs."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

__all__ = ['Curve', 'draw_learning_curves']

Curve = tuple[Sequence[float], Sequence[float]]
"""Positions along the training, in epochs (or iterations), and the values there."""

_HEIGHT, _WIDTH = 2.6, 7.2  # inches of a panel
_RUNNING_MEAN = 1 / 50  # of all points


def draw_learning_curves(
    losses: Mapping[str, Curve],
    scores: Mapping[str, Curve],
    learning_rate: Optional[Curve] = None,
    axis: str = 'epoch',
    title: str = '',
) -> bytes:
    """Draw one panel for the losses, one for the scores and one for the learning rate, below each other.

    A loss or score of more than 100 points is drawn pale, with its running mean over it. The best point of each score
    is marked with its value; the best is the largest. Panels without curves are left out.

    Args:
        losses (Mapping[str, Curve]): Curves whose decrease is good, by name. Values that are not finite leave a gap.
        scores (Mapping[str, Curve]): Curves whose increase is good.
        learning_rate (Curve, optional): Drawn alone, on a logarithmic axis if it spans more than a factor of 10.
        axis (str): What positions count. Defaults to ``'epoch'``.
        title (str): Over the first panel.

    Returns:
        bytes: A PNG.

    Example:
        >>> draw_learning_curves({'train': ([0.5, 1.0], [2.0, 1.5])}, {})[1:4]
        b'PNG'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [(name, curves) for name, curves in (('loss', losses), ('score', scores)) if curves]
    if learning_rate is not None and len(learning_rate[0]):
        panels.append(('learning rate', {'learning rate': learning_rate}))
    rows = max(1, len(panels))
    # Not through pyplot: it would choose a screen, and keep the figure for ever.
    figure = Figure(figsize=(_WIDTH, _HEIGHT * rows), layout='constrained')
    all_axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, curves) in zip(all_axes, panels, strict=False):
        for number, (label, curve) in enumerate(curves.items()):
            _draw_curve(axes, label, curve, f'C{number}', mark_best=name == 'score', smooth=name != 'learning rate')
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        if len(curves) > 1 or name == 'score':
            axes.legend(fontsize='small', frameon=False)
        if name == 'learning rate':
            _maybe_logarithmic(axes, curves['learning rate'])
    all_axes[-1].set_xlabel(axis)
    all_axes[0].set_title(title, fontsize='medium')
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


def _draw_curve(axes: Any, label: str, curve: Curve, colour: str, mark_best: bool, smooth: bool) -> None:
    positions, values = (np.asarray(part, dtype=float) for part in curve)
    many = len(values) > 100
    if many and smooth:
        axes.plot(positions, values, color=colour, alpha=0.25, linewidth=0.8)
        values = _running_mean(values, max(2, round(len(values) * _RUNNING_MEAN)))
    axes.plot(positions, values, color=colour, label=label, linewidth=1.5, marker='' if many else '.')
    finite = np.flatnonzero(np.isfinite(values))
    if mark_best and len(finite):
        best = finite[np.argmax(values[finite])]
        axes.plot(positions[best], values[best], 'o', color=colour, markersize=7, fillstyle='none')
        axes.annotate(
            f'{values[best]:.2f}',
            (positions[best], values[best]),
            xytext=(0, -14),
            textcoords='offset points',
            ha='center',
            fontsize='small',
            color=colour,
        )


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of the ``width`` finite values up to each point, so that nothing of the future is seen."""
    finite = np.isfinite(values)
    sums = np.cumsum(np.where(finite, values, 0))
    counts = np.cumsum(finite)
    sums[width:], counts[width:] = sums[width:] - sums[:-width], counts[width:] - counts[:-width]
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


def _maybe_logarithmic(axes: Any, curve: Curve) -> None:
    values = np.asarray(curve[1], dtype=float)
    values = values[np.isfinite(values) & (values > 0)]
    if len(values) and values.max() > 10 * values.min():
        axes.set_yscale('log')
