"""The section on the two streams: the value of each, and the savings by skipping one."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

from hybridcls.checks import counted
from hybridcls.functional.metrics import share_interval

from .charts import BLUE, ORANGE, histogram_chart, svg_of
from .evaluated_images import EvaluatedImages
from .html_page import Section, Table
from .images_section import picture
from .stream_readings import StreamReadings

__all__ = ['skip_curve', 'stream_numbers', 'streams_section']

_POINTS = 25
_SHOWN_CLASSES = 40
_EXTREMES = 12


def skip_curve(readings: StreamReadings, known: EvaluatedImages, skipped: str) -> list[dict[str, float]]:
    """Return cost and accuracy when a stream is skipped for a growing share of images, the most confident first.

    Returns:
        list[dict]: Of each share of skipped images, from 0 to 100 %: ``skipped_percent``, ``threshold``,
        ``accuracy_percent`` with ``_low`` and ``_high``, ``changed_percent`` (of all images, another answer than by
        both streams), ``gflops`` and ``milliseconds`` an image.
    """
    kept = next(name for name in readings.names if name != skipped)
    labels, confidence = readings.alone[kept]
    order = np.argsort(-confidence, kind='stable')
    count = len(order)
    total = {key: sum(getattr(one, key) for one in readings.costs.values()) for key in ('gflops', 'milliseconds')}
    rows = []
    for number in np.unique(np.linspace(0, count, _POINTS).round().astype(int)):
        answers = known.predicted.copy()
        answers[order[:number]] = labels[order[:number]]
        right = int((answers == known.labels).sum())
        low, high = share_interval(right, count)
        row = dict(
            skipped_percent=100 * number / count,
            threshold=float(confidence[order[number - 1]]) if number else 1.0,
            accuracy_percent=100 * right / count,
            accuracy_percent_low=100 * low,
            accuracy_percent_high=100 * high,
            changed_percent=100 * float((answers != known.predicted).mean()),
        )
        for key, whole in total.items():  # neck and head run once more for images that are not skipped
            again = (1 - number / count) * getattr(readings.costs['rest'], key) if number else 0.0
            row[key] = whole + again - number / count * getattr(readings.costs[skipped], key)
        rows.append(row)
    return rows


def stream_numbers(readings: StreamReadings, known: EvaluatedImages, classes: Sequence[str]) -> dict[str, Any]:
    """Return the numbers of the section, in JSON's types."""
    first = readings.names[0]
    alone = {}
    for name, (labels, _) in readings.alone.items():
        right = int((labels == known.labels).sum())
        low, high = share_interval(right, len(known))
        alone[name] = dict(
            accuracy_percent=100 * right / len(known), low=100 * low, high=100 * high,
            same_answer_percent=100 * float((labels == known.predicted).mean()),
        )  # fmt: skip
    numbers: dict[str, Any] = dict(
        alone=alone,
        costs={name: cost._asdict() for name, cost in readings.costs.items()},
        gates=readings.gates,
        skipping={name: skip_curve(readings, known, name) for name in readings.names},
    )
    if readings.share is not None:
        share = 100 * readings.share
        numbers[f'share_of_{first}_percent'] = dict(
            mean=float(share.mean()),
            classes=[
                {'class': classes[int(one)], 'images': int(own.sum()), **_spread(share[own])}
                for one in np.unique(known.labels)
                for own in [known.labels == one]
            ],
        )
    return numbers


def _spread(values: np.ndarray) -> dict[str, float]:
    return dict(zip(('p10', 'median', 'p90'), np.percentile(values, [10, 50, 90]).tolist(), strict=True))


def streams_section(
    readings: StreamReadings,
    numbers: Mapping[str, Any],
    known: EvaluatedImages,
    classes: Sequence[str],
    skip_sure: Optional[Mapping[str, Any]] = None,
) -> Section:
    """Show accuracy and cost with each stream off, and how much each one contributes.

    Args:
        readings (StreamReadings), numbers (dict): Of :func:`stream_numbers`.
        known (EvaluatedImages): The images.
        classes (Sequence[str]): Names of the classes.
        skip_sure (Mapping, optional): That of the calibration.
    """
    first, second = readings.names
    right = int((known.predicted == known.labels).sum())
    low, high = share_interval(right, len(known))
    rows = [['both streams', f'{100 * right / len(known):.1f}', f'{100 * low:.1f} to {100 * high:.1f}', None]]
    for name, row in numbers['alone'].items():
        rows.append([
            f'{name} alone', f'{row["accuracy_percent"]:.1f}', f'{row["low"]:.1f} to {row["high"]:.1f}',
            f'{row["same_answer_percent"]:.1f}',
        ])  # fmt: skip
    tables = [
        Table('Accuracy with one stream off', ['streams', 'accuracy, %', '95 % interval', 'same answer as both, %'],
              rows, {1, 2, 3}),
        Table('Skipping one stream where the other one is confident',
              ['skipped stream', 'skipped for, % of images', 'accuracy, %', '95 % interval', 'changed answers, %',
               'GFLOPs per image', 'ms per image'], list(_skip_rows(numbers['skipping'])), {1, 2, 3, 4, 5, 6}),
    ]  # fmt: skip
    says = [
        'To switch a stream off, its features are replaced by their mean over these images. Neck and head are not '
        'trained again: these numbers describe this model, not what a model with one stream could reach.',
        _skip_sentence(skip_sure),
    ]
    charts = [
        dict(svg=_curve_chart(numbers['skipping'], 'gflops', 'GFLOPs per image', 'Accuracy against operations'),
             caption='A stream is skipped for no image (right) up to all images (left), the most confident first. '
                     'Bars: 95 % intervals.'),
        dict(svg=_curve_chart(numbers['skipping'], 'milliseconds', 'ms per image in a batch of 32',
                              'Accuracy against time'),
             caption='Estimated from the times of the streams and the rest on this machine. Skipping makes batches '
                     'smaller, which can cost more time per image; hybridcls calibrate --skip-sure measures this.'),
    ]  # fmt: skip
    groups: list[dict] = []
    if readings.share is not None:
        share = 100 * readings.share
        says.append(
            'The share of a stream says how much of the distance between an embedding and the mean embedding comes '
            f'from it. On average, the share of {first} is {share.mean():.1f} %; the rest comes from {second}.'
        )
        if readings.gates:
            opened = ', '.join(f'{name} {value:.2f}' for name, value in readings.gates.items())
            says.append(f'Mean value of the gate, from 0 (closed) to 1 (open): {opened}.')
        by_class = numbers[f'share_of_{first}_percent']['classes']
        charts += [
            dict(svg=histogram_chart({'images': share}, f'share of {first}, %', f'Images by their share of {first}'),
                 caption=f'0: the distance comes from {second} alone; 100: from {first} alone.'),
            dict(svg=_class_chart(by_class, first, f'Share of {first} by class'),
                 caption='Dot: median of a class; line: 10th to 90th percentile.'
                         + (f' Shown: the {_SHOWN_CLASSES} classes farthest from the median of all.'
                            if len(by_class) > _SHOWN_CLASSES else '')),
        ]  # fmt: skip
        tables.append(Table(
            f'Share of {first} by class, %', ['class', 'images', '10th percentile', 'median', '90th percentile'],
            [[row['class'], row['images'], *(f'{row[key]:.1f}' for key in ('p10', 'median', 'p90'))]
             for row in by_class], {1, 2, 3, 4}))  # fmt: skip
        order = np.argsort(share, kind='stable')
        for name, chosen in ((first, order[::-1][:_EXTREMES]), (second, order[:_EXTREMES])):
            pictures = []
            for row in chosen:
                one = picture(known, int(row), classes)
                one['caption'] = f'{first} {share[row]:.0f} %; {one["caption"]}'
                pictures.append(one)
            groups.append(dict(title=f'Images with the largest share of {name}', pictures=pictures))
    return Section('streams', 'The two streams', says, charts=charts, tables=tables, groups=groups)


def _skip_rows(curves: Mapping[str, list[dict[str, float]]]) -> list[list[Any]]:
    rows = []
    for name, curve in curves.items():
        for wanted in (0, 25, 50, 75, 100):
            row = min(curve, key=lambda one: abs(one['skipped_percent'] - wanted))
            rows.append([
                name, f'{row["skipped_percent"]:.0f}', f'{row["accuracy_percent"]:.1f}',
                f'{row["accuracy_percent_low"]:.1f} to {row["accuracy_percent_high"]:.1f}',
                f'{row["changed_percent"]:.1f}', f'{row["gflops"]:.3g}', f'{row["milliseconds"]:.3g}',
            ])  # fmt: skip
    return rows


def _skip_sentence(skip_sure: Optional[Mapping[str, Any]]) -> str:
    if skip_sure is None:
        return (
            'The curves are computed from these images, so a threshold read from them guarantees nothing for others. '
            'hybridcls calibrate --skip-sure RATE finds a threshold with a guarantee, for hybridcls predict '
            '--skip-sure.'
        )
    share = 100 * skip_sure['skipped'] / skip_sure['images']
    return (
        f'With this calibration, hybridcls predict --skip-sure skips the stream {skip_sure["stream"]} if the '
        f'probability without it is at least {skip_sure["threshold"]:.4f}. This was so for {share:.1f} % of the '
        f'{counted(skip_sure["images"], "image")} of the calibration. With a confidence of '
        f'{skip_sure["confidence"]:.3g}, at most {100 * skip_sure["rate"]:.3g} % of all images get another class.'
    )


def _curve_chart(curves: Mapping[str, list[dict[str, float]]], key: str, x: str, title: str) -> str:
    def draw(axes: Any) -> None:
        for (name, curve), colour, style, marker in zip(curves.items(), (ORANGE, BLUE), ('-', '--'), 'os', strict=True):
            places = [row[key] for row in curve]
            middle, low, high = (
                np.array([row[f'accuracy_percent{end}'] for row in curve]) for end in ('', '_low', '_high')
            )
            axes.plot(places, middle, color=colour, linestyle=style, linewidth=1.6, label=f'{name} skipped')
            some = np.unique(np.linspace(0, len(curve) - 1, 7).round().astype(int))
            axes.errorbar(
                np.array(places)[some], middle[some], yerr=[(middle - low)[some], (high - middle)[some]], fmt=marker,
                color=colour, markersize=4, elinewidth=1, capsize=2,
            )  # fmt: skip
        axes.set_xlim(left=0)
        axes.set(xlabel=x, ylabel='accuracy, %')
        axes.figure.legend(loc='outside upper left', ncols=2)  # above the curves: it hides none

    return svg_of(draw, title)


def _class_chart(rows: Sequence[Mapping[str, Any]], first: str, title: str) -> str:
    middle = float(np.median([row['median'] for row in rows]))
    chosen = sorted(rows, key=lambda row: -abs(row['median'] - middle))[:_SHOWN_CLASSES]
    chosen = sorted(chosen, key=lambda row: row['median'])

    def draw(axes: Any) -> None:
        for place, row in enumerate(chosen):
            axes.plot([row['p10'], row['p90']], [place, place], color=BLUE, linewidth=1.4)
            axes.plot([row['median']], [place], 'o', color=BLUE, markersize=5)
        names = [row['class'] if len(row['class']) <= 18 else f'{row["class"][:16]}…' for row in chosen]
        axes.set_yticks(range(len(chosen)), names, fontsize=8)
        axes.set(xlabel=f'share of {first}, %', ylim=(-0.6, len(chosen) - 0.4))

    return svg_of(draw, title, 5.6, 1.2 + 0.22 * len(chosen))
