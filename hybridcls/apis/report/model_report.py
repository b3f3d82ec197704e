"""One report of a trained model: a page, and the same numbers as JSON."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from hybridcls.checks import listed

from ..held_out_images import held_out_images
from ..image_inputs import read_inputs
from ..inferencer import HybridInferencer
from .charts import confusion_chart, curves_chart, histogram_chart, reliability_chart
from .cost import model_cost
from .embedding_map import embedding_places, spread_places
from .evaluated_images import EvaluatedImages, evaluate_images
from .gate import GateReadings, read_gates
from .html_page import Section, Table, render
from .numbers import class_numbers, headline, rejection_numbers, reliability, risk_curve
from .thumbnails import thumbnail
from .training_facts import TrainingFacts, training_facts

__all__ = ['Report', 'make_report']

_MATRIX = 40  # classes that a matrix shows
_PAIRS, _OF_A_PAIR, _UNSURE = 8, 8, 24


class Report(NamedTuple):
    """What was found.

    Args:
        html (str): The page.
        numbers (dict): The same numbers, in JSON's types.
    """

    html: str
    numbers: dict[str, Any]


def make_report(
    model: HybridInferencer,
    data: str,
    ood: Optional[str] = None,
    batch_size: Optional[int] = None,
    workers: Optional[int] = None,
    tell: Callable[[str], None] = print,
) -> Report:
    """Evaluate a model, and make its report.

    Args:
        model (HybridInferencer): With classes, one an image.
        data (str): Labelled images, as for :func:`held_out_images`.
        ood (str, optional): Images of none of the classes. Defaults to None.
        batch_size (int, optional), workers (int, optional): As for a call of the model.
        tell (Callable): Takes lines about the progress.

    Raises:
        ValueError: If the model has no classes, or several an image; or no image has one of them.
        FileNotFoundError: If there are no images.
    """
    if not model.classes or model.multi_label:
        raise ValueError(
            f'report: expected a model with one class an image, got {model.head_name}. Its embeddings: hybridcls embed.'
        )
    began = time.monotonic()
    items, notes = held_out_images(data, model.checkpoint_path, model.config)
    if not any(model.class_of(item.label) for item in items):
        raise ValueError(
            f'report: expected images of the classes of the model ({listed(model.classes, 5)}), got none in {data}. '
            'Name class folders as the classes, or a table with path and label.'
        )
    images = evaluate_images(model, items, batch_size, workers)
    known = images.part(images.known)
    unknown = None
    if ood is not None:
        unknown = evaluate_images(model, list(read_inputs(ood, 'report').items), batch_size, workers, unknown=True)
    inference = time.monotonic() - began
    tell(f'{len(images)} images in {inference:.0f} s; making the page.')
    facts = training_facts(model)
    gates = read_gates(model, known.items, batch_size)
    rows = headline(known, model.classes)
    table, confusions = class_numbers(known, model.classes)
    rejection = rejection_numbers(known, unknown, model.classes) if unknown is not None else []
    sections = [
        _headline(rows, known, images, model, notes),
        _training(facts),
        _confusion(confusions, known, model.classes),
        _images(known, model.classes),
        _classes(table),
        _trust(known, unknown, rejection),
        *([_gate(gates, known, model.classes)] if gates is not None else []),
        *_map(known, model.classes),
        _cost(model, known),
    ]
    name = Path(model.checkpoint_path).name
    html = render(
        f'{Path(model.checkpoint_path).resolve().parent.name}: {name}',
        f'{len(known)} labelled images of {data}, {time.strftime("%Y-%m-%d %H:%M")}. Numbers in [ ] are 95 % '
        'confidence intervals over these images.',
        sections,
    )
    numbers = dict(
        checkpoint=model.checkpoint_path,
        data=data,
        images=len(known),
        headline=rows,
        classes=table,
        confusions=confusions,
        reliability=reliability(known),
        ood=rejection,
        training=dict(facts.facts),
        inference_seconds=inference,
        seconds=time.monotonic() - began,
    )
    return Report(html, numbers)


def _percent(value: Any) -> Optional[str]:
    return None if value is None else f'{value:.1f}'


def _headline(
    rows: Sequence[dict[str, Any]],
    known: EvaluatedImages,
    images: EvaluatedImages,
    model: HybridInferencer,
    notes: list[str],
) -> Section:
    cards = []
    for row in rows:
        unit = ' %' if row['unit'] == '%' else f' {row["unit"]}'.rstrip()
        digits = 1 if row['unit'] == '%' else 3
        interval = (
            f'[{row["low"]:.{digits}f}, {row["high"]:.{digits}f}], {row["better"]} is better'
            if row['low'] is not None
            else f'{row["better"]} is better; no interval'
        )
        cards.append(
            dict(name=row['name'], value=f'{row["value"]:.{digits}f}{unit}', interval=interval, what=row['what'])
        )
    says = list(notes)
    left = len(images) - len(known)
    if left:
        says.append(f'{left} images have no label that the model has a class for: left out here.')
    if images.unreadable:
        says.append(f'{images.unreadable} images could not be read.')
    if model.calibration is not None:
        says.append(f'Probabilities are calibrated: {model.calibration.calibration}.')
    return Section('numbers', 'In numbers', says, cards)


def _training(facts: TrainingFacts) -> Section:
    tables = [Table('What was trained', ['what', 'value'], facts.facts)]
    if facts.recipe is not None:
        tables.append(
            Table(f'Where the config differs from {facts.recipe}', ['key', 'here', 'there'], facts.differences)
        )
    losses = {name: curve for name, curve in facts.curves.items() if 'loss' in name}
    percent = {name: curve for name, curve in facts.curves.items() if 'accuracy/' in name and '_low' not in name}
    charts = []
    if losses:
        charts.append(dict(
            svg=curves_chart(losses, 'updates', 'loss, nats', 'Losses of the training'), caption='Losses'))  # fmt: skip
    if percent:
        charts.append(dict(svg=curves_chart(
            percent, 'updates', 'accuracy, %', 'Accuracy of the validations'), caption='Accuracy'))  # fmt: skip
    return Section(
        'training', 'Training', [f'To train it again: {facts.repeat}'], charts=charts, tables=tables,
        details=[dict(title='The whole config', text=facts.config)],
    )  # fmt: skip


def _confusion(pairs: Sequence[dict[str, Any]], known: EvaluatedImages, classes: Sequence[str]) -> Section:
    count = len(classes)
    rows = [
        [row['class'], row['predicted_as'], row['images'], _percent(row['percent']),
         f'{_percent(row["percent_low"])} to {_percent(row["percent_high"])}' if row.get('percent_low') else None]
        for row in pairs
    ]  # fmt: skip
    head = ['class', 'predicted as', 'images', '% of the class', '95 % interval']
    tables = [Table('Confused pairs, the most frequent first', head, rows, {2, 3, 4})] if rows else []
    matrix = np.zeros((count, count))
    np.add.at(matrix, (known.labels, known.predicted), 1)
    shown = np.arange(count)
    says = []
    if count > _MATRIX:
        wrong = matrix - np.diag(np.diag(matrix))
        shown = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind='stable')[:_MATRIX])
        says.append(f'Of {count} classes, the matrix shows the {_MATRIX} that are confused most.')
    if not rows:
        says.append('No image is confused.')
    totals = matrix.sum(1, keepdims=True)
    shares = (matrix / np.maximum(totals, 1))[np.ix_(shown, shown)]
    chart = confusion_chart(shares, [classes[int(one)] for one in shown], 'Confusion matrix, percent of each class')
    return Section('confusion', 'Confusion', says, charts=[dict(
        svg=chart, caption='Rows: the class of the image; columns: what was predicted. Percent of the row.')],
        tables=tables)  # fmt: skip


def _picture(images: EvaluatedImages, row: int, classes: Sequence[str]) -> dict[str, Any]:
    item = images.items[row]
    own, said = classes[int(images.labels[row])], classes[int(images.predicted[row])]
    text = f'{own}: {100 * images.scores[row, images.labels[row]]:.0f} %'
    if own != said:
        text = f'{said} {100 * images.confidence[row]:.0f} %, is {text}'
    return dict(image=thumbnail(item), alt=f'{item.path}: {text}', caption=text)


def _images(known: EvaluatedImages, classes: Sequence[str]) -> Section:
    wrong = np.flatnonzero(known.predicted != known.labels)
    groups = []
    by_pair: dict[tuple[int, int], list[int]] = {}
    for row in wrong:
        by_pair.setdefault((int(known.labels[row]), int(known.predicted[row])), []).append(int(row))
    for (own, said), rows in sorted(by_pair.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:_PAIRS]:
        surest = sorted(rows, key=lambda row: -known.confidence[row])[:_OF_A_PAIR]
        groups.append(
            dict(
                title=f'{classes[own]} taken for {classes[said]} ({len(rows)} images, the surest first)',
                pictures=[_picture(known, row, classes) for row in surest],
            )
        )
    unsure = np.argsort(known.confidence, kind='stable')[:_UNSURE]
    groups.append(dict(title='Least certain images', pictures=[_picture(known, int(row), classes) for row in unsure]))
    say = f'{len(wrong)} of {len(known)} images are wrong.'
    return Section('images', 'Images to look at', [say], groups=groups)


def _classes(table: Sequence[dict[str, Any]]) -> Section:
    rows = []
    for row in table:
        ends = (row.get('recall_percent_low'), row.get('recall_percent_high'))
        interval = None if ends[0] is None else f'{ends[0]:.1f} to {ends[1]:.1f}'
        rows.append([
            row['class'], row['images'], _percent(row['recall_percent']), interval,
            _percent(row['precision_percent']), _percent(row['f1_percent']), row['predictions'],
            'few images' if row.get('insufficient_data') else '',
        ])  # fmt: skip
    head = ['class', 'images', 'recall, %', '95 % interval', 'precision, %', 'F1, %', 'predictions', 'note']
    return Section('classes', 'Class by class', tables=[Table('Classes', head, rows, {1, 2, 3, 4, 5, 6})])


def _trust(
    known: EvaluatedImages, unknown: Optional[EvaluatedImages], rejection: Sequence[Mapping[str, Any]]
) -> Section:
    charts = [
        dict(
            svg=reliability_chart(reliability(known), 'Reliability diagram'),
            caption='On the line, answers are right as often as they say.',
        )
    ]
    curve = risk_curve(known)
    charts.append(
        dict(
            svg=curves_chart(
                {'error': ([100 * x for x in curve['coverage']], [100 * y for y in curve['risk']])},
                'images answered, the surest first, %', 'error among them, %', 'Error against coverage',
            ),
            caption='What is gained by answering the surest images alone.',
        )
    )  # fmt: skip
    tables, says = [], []
    if unknown is not None:
        charts.append(
            dict(
                svg=histogram_chart(
                    {'known': 100 * known.confidence, 'unknown': 100 * unknown.confidence},
                    'probability of the answer, %', 'Known and unknown images',
                ),
                caption='How sure the model is of images of its classes, and of others.',
            )
        )  # fmt: skip
        tables.append(Table(
            'Which score rejects these unknown images best',
            ['score', 'AUROC, %', '95 % interval', 'unknown accepted where 95 % of the known are, %'],
            [[row['score'].replace('_', ' '), _percent(row['auroc']),
              None if row['low'] is None else f'{row["low"]:.1f} to {row["high"]:.1f}', _percent(row['fpr95'])]
             for row in rejection], {1, 2, 3}))  # fmt: skip
        best = rejection[0]
        says.append(
            f'Of these {len(unknown)} unknown images, {best["score"].replace("_", " ")} tells most: AUROC '
            f'{best["auroc"]:.1f} %. On other unknown images another score may be the best.'
        )
    return Section('trust', 'How far to trust an answer', says, charts=charts, tables=tables)


def _gate(gates: GateReadings, known: EvaluatedImages, classes: Sequence[str]) -> Section:
    first, second = gates.names
    share = 100 * gates.shares[:, 0]
    both = 100 * float((known.predicted == known.labels).mean())
    rows = [['both streams', f'{both:.1f}']]
    for name, predicted in gates.alone.items():
        rows.append([f'{name} alone (the other set to zero)', f'{100 * float((predicted == known.labels).mean()):.1f}'])
    by_class = [
        [classes[int(one)], int((known.labels == one).sum()), f'{share[known.labels == one].mean():.1f}']
        for one in np.unique(known.labels)
    ]
    chart = histogram_chart({'images': share}, f'share of {first}, %', f'How much the gate leans on {first}')
    return Section(
        'gate', 'The gate', [
            f'On average {share.mean():.1f} % of what passes the gate is of {first}, the rest of {second}: '
            'the norm of its gated vector, over the sum of both.'],
        charts=[dict(svg=chart, caption=f'0: {second} alone; 100: {first} alone.')],
        tables=[Table('Accuracy with a stream off', ['streams', 'accuracy, %'], rows, {1}),
                Table(f'Share of {first} by class', ['class', 'images', 'share, %'], by_class, {1, 2})],
    )  # fmt: skip


def _map(known: EvaluatedImages, classes: Sequence[str]) -> list[Section]:
    found = embedding_places(known)
    if found is None:
        return []
    chosen, places = found
    wrong = known.predicted != known.labels

    def at(place: int) -> dict[str, Any]:
        row = int(chosen[place])
        x, y = (4 + 92 * places[place]).round(2)
        title = f'{known.items[row].path}: {classes[known.labels[row]]}'
        return dict(x=float(x), y=float(y), wrong=bool(wrong[row]), title=title)

    pictures = []
    for place in spread_places(places):
        image = thumbnail(known.items[int(chosen[place])], 40)
        if image is not None:
            pictures.append(dict(at(int(place)), image=image))
    say = (
        f'{len(chosen)} of {len(known)} images by t-SNE of their embeddings: what lies near each other is alike for '
        'the model; distances between groups mean nothing. Orange squares are wrong.'
    )
    alt = f'Map of {len(chosen)} images by their embeddings'
    dots = [at(place) for place in range(len(chosen))]
    return [Section('map', 'Map of the embeddings', [say], map=dict(alt=alt, dots=dots, pictures=pictures))]


def _cost(model: HybridInferencer, known: EvaluatedImages) -> Section:
    size = next(iter(model.preprocess(known.items[:1])))[0][0][1]['inputs'].shape[-2:]
    rows = model_cost(model, (int(size[0]), int(size[1])))
    return Section('cost', 'Cost', ['Measured on this machine, while the report was made.'], tables=[
        Table('Size and time', ['what', 'value'], rows, {1})])  # fmt: skip
