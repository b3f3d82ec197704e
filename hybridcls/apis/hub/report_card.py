"""Write the sections of a model card that come from the model's report."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from hybridcls.checks import check_file
from hybridcls.datasets.split_names import split_named

from ..report.norm_section import verdict
from .card_text import as_table, as_text

__all__ = ['REPORT', 'calibration_text', 'card_sections', 'metrics_of', 'model_index', 'read_report']

REPORT = 'report.json'
_WEAK, _PAIRS = 5, 5
_TYPES = {
    'accuracy/top1': 'accuracy',
    'accuracy/top5': 'top_5_accuracy',
    'classes/macro_recall': 'balanced_accuracy',
    'classes/macro_f1': 'f1',
    'calibration/nll': 'nll',
    'calibration/ece': 'ece',
    'calibration/brier': 'brier_score',
}


def read_report(path: Union[str, Path], weights_sha256: str) -> dict[str, Any]:
    """Read the numbers of ``hybridcls report``, and check that they belong to these weights.

    Args:
        path (str | Path): ``report.json``.
        weights_sha256 (str): The digest of the weights that are pushed.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is no report, or that of other weights.
    """
    check_file('push', 'report', str(path), 'Type: hybridcls report CHECKPOINT')
    try:
        report = json.loads(Path(path).read_bytes())
        is_report = isinstance(report, dict) and {'headline', 'images', 'data'} <= {*report}
    except ValueError:
        is_report = False
    if not is_report:
        raise ValueError(f'push: expected the JSON of hybridcls report, got {path}.')
    if report.get('weights_sha256') != weights_sha256:
        of = report.get('checkpoint')
        raise ValueError(
            f'push: expected a report of the weights that are pushed, got {path}, which is of others ({of}, or that '
            'file before it was written again). Type hybridcls report CHECKPOINT --force, or leave it out: --no-report.'
        )
    return report


def metrics_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headline numbers as results: ``value`` and, if available, ``low``, ``high`` and ``unit``."""
    return {
        row['key']: {
            key: value for key in ('value', 'low', 'high', 'unit') if (value := row.get(key)) not in (None, '')
        }
        for row in report['headline']
    }


def model_index(report: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the numbers in the Hub's format, ``model-index``; percentages become shares in [0, 1].

    Args:
        report (Mapping): Of :func:`read_report`.
        name (str): Of the model.
    """
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    results = []
    for row in report['headline']:
        if row['key'] not in _TYPES:
            continue
        scale = 0.01 if row['unit'] == '%' else 1.0
        ends = {f'{end}_95': round(scale * row[end], 6) for end in ('low', 'high') if row.get(end) is not None}
        results.append(
            EvalResult(
                task_type='image-classification', dataset_type='imagefolder', dataset_name=_place(report['data']),
                metric_type=_TYPES[row['key']], metric_name=row['name'], metric_value=round(scale * row['value'], 6),
                metric_args=ends or None,
            )
        )  # fmt: skip
    return eval_results_to_model_index(name, results) if results else []


def card_sections(report: Mapping[str, Any], classes: Sequence[str], figures: Mapping[str, str]) -> list[str]:
    """Return the sections of a card, in Markdown.

    Args:
        report (Mapping): Of :func:`read_report`.
        classes (Sequence[str]): Of the model.
        figures (Mapping): Captions of pictures of the report, by their paths in the folder.
    """
    parts = [
        f'## Intended use\n\n{_purpose(classes)}',
        f'## Results\n\n{_measured_on(report)}\n\n' + as_table(
            ('', 'value', '95 % interval', 'what'), _headline(report['headline'])),
        '## Limits\n\n' + '\n\n'.join(_limits(report)),
        f'## Data\n\n{_data(report)}',
        f'## To train it again\n\n{_REPEAT}',
    ]  # fmt: skip
    if figures:
        pictures = '\n\n'.join(f'![{as_text(caption)}]({path})' for path, caption in figures.items())
        parts.insert(3, f'## Charts\n\n{pictures}')
    return parts


def _place(path: str) -> str:
    """Return the last part of a path, of a split also the part above; the rest describes the machine, not the data."""
    parts = Path(path).parts
    return '/'.join(parts[-2:] if split_named(parts[-1]) and len(parts) > 2 else parts[-1:])


def _purpose(classes: Sequence[str]) -> str:
    if not classes:
        return 'It embeds images: alike images have alike vectors. What it was not measured on is not promised.'
    return (
        f'It says which of its {len(classes):,} classes an image shows, of images like those that it was trained and '
        'measured on. It always answers with one of them, whatever the image shows.'
    )


def _measured_on(report: Mapping[str, Any]) -> str:
    return (
        f'Measured on {report["images"]:,} labelled images ({as_text(_place(report["data"]))}) that did not train it, '
        'as far as its work dir tells. Intervals say how far other images of the same kind may differ; of images of '
        'another kind they say nothing.'
    )


def _headline(rows: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Any]]:
    for row in rows:
        digits = 1 if row['unit'] == '%' else 3
        unit = f' {row["unit"]}' if row['unit'] else ''
        low, high = row.get('low'), row.get('high')
        interval = '' if low is None or high is None else f'{low:.{digits}f} to {high:.{digits}f}'
        yield row['name'], f'{row["value"]:.{digits}f}{unit}', interval, f'{row["what"]}; {row["better"]} is better'


def _limits(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the failures that the report found, and what it did not evaluate."""
    weak = [row for row in report.get('classes') or () if row.get('recall_percent') is not None]
    weak = sorted(weak, key=lambda row: row['recall_percent_high'])[:_WEAK]  # the surest to be weak
    if weak and weak[0]['recall_percent'] < 100:
        rows = ((row['class'], row['images'], f'{row["recall_percent"]:.0f} %',
                 f'{row["recall_percent_low"]:.0f} to {row["recall_percent_high"]:.0f}') for row in weak)  # fmt: skip
        yield 'Classes that it finds least often:\n\n' + as_table(('class', 'images', 'found', '95 % interval'), rows)
    pairs = (report.get('confusions') or ())[:_PAIRS]
    if pairs:
        rows = ((row['class'], row['predicted_as'], row['images'], f'{row["percent"]:.0f} %') for row in pairs)
        yield 'Taken for another class most often:\n\n' + as_table(
            ('class', 'taken for', 'images', 'of the class'), rows
        )
    unknown = report.get('ood') or []
    if unknown:
        best = unknown[0]
        yield (
            f'Images of none of its classes: {best["score"].replace("_", " ")} tells most of those that were tried, '
            f'AUROC {best["auroc"]:.1f} %; where 95 % of the known images are accepted, so are {best["fpr95"]:.1f} % '
            'of the unknown ones. Other unknown images may be harder.'
        )
    else:
        yield 'Images of none of its classes were not tried.'
    worst = _worst_corruption(report.get('robustness') or [])
    yield worst or 'Corrupted images (blur, noise, compression) were not tried.'
    norm = [row for row in (report.get('norm') or {}).get('severity', ()) if row['score'] == 'norm']
    falls, rises = ([row['kind'] for row in norm if verdict(row) == what] for what in ('falls clearly', 'rises'))
    if norm:
        text = (
            f'The norm of its embedding falls with {", ".join(falls)}, and can be taken as a sign of quality there'
            if falls
            else 'The norm of its embedding is no sign of the quality of an image'
        )
        yield text + (f'; it rises with {", ".join(rises)}.' if rises else '.')


def _worst_corruption(rows: Sequence[Mapping[str, Any]]) -> Optional[str]:
    hardest = [row for row in rows if row['severity'] == max(one['severity'] for one in rows) and row['kind']]
    if not hardest:
        return None
    worst = min(hardest, key=lambda row: row['accuracy'])
    return (
        f'Of images with the most severe {worst["kind"]} that was tried, {worst["accuracy"]:.1f} % are right, of '
        f'{rows[0]["accuracy"]:.1f} % as they are.'
    )


def calibration_text(report: Mapping[str, Any], calibrated: bool) -> str:
    """Return the report's results on calibrated probabilities in Markdown; ``''`` if it has none.

    Args:
        report (Mapping): Its JSON.
        calibrated (bool): Whether the model that is pushed has a calibration. The report may be of before.
    """
    found = report.get('calibration')
    if not found:
        return ''
    rows = (
        (f'{row["name"]}{", " + row["unit"] if row["unit"] else ""}', _ends(row, 'before'), _ends(row, 'after'))
        for row in found['rows']
    )
    applied = found['kind'] == 'applied'
    overlap = (found.get('overlap') or 0) > 0
    what = (
        'The report was made without that calibration: the numbers of this page are those before it.'
        if calibrated and not applied
        else 'The report was made with a calibration, which the model does not come with.'
        if applied and not calibrated
        else 'The model comes with a calibration, which is applied unless it is left off.'
        if applied
        else 'The model comes without a calibration; "after" is what a temperature would give, cross-validated.'
        if found['kind'] == 'cross-validated'
        else 'The model comes without a calibration.'
    )
    warning = ' Some of these images fitted it, so "after" is too good here.' if applied and overlap else ''
    return f'{what}{warning}\n\n' + as_table(('', 'before', 'after'), rows)


def _ends(row: Mapping[str, Any], part: str) -> str:
    found = row.get(part)
    if not found:
        return ''
    digits = 1 if row['unit'] == '%' else 3
    ends = '' if found['low'] is None else f' ({found["low"]:.{digits}f} to {found["high"]:.{digits}f})'
    return f'{found["value"]:.{digits}f}{ends}'


def _data(report: Mapping[str, Any]) -> str:
    counts = [row['images'] for row in report.get('classes') or () if row.get('images')]
    phases = report['training'] if isinstance(report.get('training'), list) else [report.get('training') or {}]
    trained = [str(phase['data']) for phase in phases if phase.get('data')]
    texts = []
    if trained:
        texts.append(f'Trained on {as_text(", ".join(map(_place, dict.fromkeys(trained))))}.')
    texts.append(f'Measured on {as_text(_place(report["data"]))}: {report["images"]:,} images')
    if counts:
        texts[-1] += f' of {len(counts):,} classes, {min(counts):,} to {max(counts):,} of each'
    texts[-1] += '.'
    texts.append(
        'No image of the data is in this repository. Where they come from and whom they show is to be added here.'
    )
    return ' '.join(texts)


_REPEAT = """```python
import hybridcls

hybridcls.load('model').config.dump('again.py')
```

```bash
hybridcls train again.py --data YOUR_COPY_OF_THE_DATA --work-dir again
hybridcls report again --data THE_TEST_IMAGES
```"""
