"""Write the model card of a pushed model from the records in its ``model.json``."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

from hybridcls.checks import counted
from hybridcls.structures import Calibration

from .card_text import as_table, as_text
from .report_card import calibration_text, card_sections, metrics_of, model_index

__all__ = ['README', 'model_card']

README = 'README.md'
_MOST_CLASSES = 200
_WEIGHTS = {
    'ema': 'the exponential moving average (EMA) of the weights of the training',
    'slow': 'the slow weights of Lookahead',
}


def model_card(
    sidecar: Mapping[str, Any],
    name: str,
    source: str,
    calibration: Optional[Mapping[str, Any]] = None,
    license: Optional[str] = None,
    report: Optional[Mapping[str, Any]] = None,
    figures: Optional[Mapping[str, str]] = None,
) -> str:
    """Return the text of a model card.

    Args:
        sidecar (Mapping): The content of ``model.json``; of a checkpoint or of an artifact.
        name (str): The title.
        source (str): What one types to pull it.
        calibration (Mapping, optional): The content of its calibration.
        license (str, optional): An identifier of the Hub, for its filter. Defaults to None: not said.
        report (Mapping, optional): Of :func:`~hybridcls.apis.hub.report_card.read_report`: its numbers are in the card,
            and in its ``model-index``. Defaults to None.
        figures (Mapping, optional): Captions of charts of the report, by their paths. Defaults to None.
    """
    classes = sidecar.get('classes') or []
    is_artifact = 'meta' not in sidecar
    tags = ['hybridcls', *(['onnx'] if (sidecar.get('model') or {}).get('format') == 'onnx' else [])]
    head = [
        'library_name: hybridcls',
        f'pipeline_tag: {"image-classification" if classes else "image-feature-extraction"}',
        f'tags: {json.dumps(tags)}',
        *([f'license: {json.dumps(license)}'] if license else []),
        *([f'model-index: {json.dumps(model_index(report, name))}'] if report else []),
    ]
    count = counted(len(classes), 'class', 'classes')
    what = f'An image classifier of {count}' if classes else 'A model that embeds images'
    parts = [
        '---\n' + '\n'.join(head) + '\n---',
        f'# {as_text(name)}',
        f'{what}, trained with hybridcls. This page is written from {_written_from(report)}.',
        *(card_sections(report, classes, figures or {}) if report else []),
        '## Use\n\n' + (_use_of_artifact if is_artifact else _use_of_checkpoint)(source),
        '## What it is\n\n' + as_table(('', ''), _facts(sidecar)),
    ]
    metrics = sidecar.get('metrics') or {}
    if metrics and not (report and metrics == metrics_of(report)):
        parts.append('## Measured\n\n' + as_table(('result', 'value', 'interval'), _results(metrics)))
    texts = [f'{as_text(_calibration(calibration))}.'] if calibration else []
    texts += [calibration_text(report, bool(calibration))] if report else []
    if any(texts):
        parts.append('## Calibration\n\n' + '\n\n'.join(filter(None, texts)))
    pretrained = (sidecar.get('provenance') or {}).get('pretrained') or {}
    if pretrained:
        parts.append(
            '## Pretrained weights\n\nThe training started from these; their licences hold for what was made of them, '
            'too.\n\n' + as_table(('part', 'model', 'licence', 'from'), _sources(pretrained))
        )
    if classes:
        more = f' and {len(classes) - _MOST_CLASSES} more, in `model.json`' if len(classes) > _MOST_CLASSES else ''
        parts.append('## Classes\n\n' + ', '.join(map(as_text, classes[:_MOST_CLASSES])) + more)
    return '\n\n'.join(parts) + '\n'


def _written_from(report: Optional[Mapping[str, Any]]) -> str:
    if not report:
        return 'what `model.json` records'
    return f'what `model.json` records, and from the report of {report.get("date", "these weights")}'


def _use_of_checkpoint(source: str) -> str:
    return (
        f'```bash\nhybridcls pull {source} --out model\nhybridcls predict model photos/\n```\n\n'
        "```python\nimport hybridcls\n\nmodel = hybridcls.load('model')\nprint(model.predict('photo.jpg'))\n```"
    )


def _use_of_artifact(source: str) -> str:
    return (
        f'```bash\nhybridcls pull {source} --out model\npython model/runtime.py photo.jpg\n```\n\n'
        '`runtime.py` needs numpy, Pillow and onnxruntime alone.'
    )


def _facts(sidecar: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    model, provenance = sidecar.get('model') or {}, sidecar.get('provenance') or {}
    yield 'file', f'{model.get("file")} ({model.get("format")}, {model.get("dtype")})'
    if model.get('values'):
        yield 'values in it', f'{model["values"]:,}'
    kind = model.get('weights') or (model.get('levers') or {}).get('weights')
    if kind in _WEIGHTS:
        yield 'weights', _WEIGHTS[kind]
    size = (sidecar.get('preprocessing') or {}).get('size')
    meta = sidecar.get('meta') or {}
    if size is None:
        match = re.search(r'^img_size = (\S.*)$', str(meta.get('cfg', '')), re.MULTILINE)
        size = match[1] if match else None
    if size is not None:
        yield 'image size', ' × '.join(map(str, size)) if isinstance(size, (list, tuple)) else size
    for key, what in (('epoch', 'epochs'), ('iter', 'iterations'), ('seed', 'seed'), ('time', 'trained')):
        if meta.get(key) is not None:
            yield what, meta[key]
    for key, what in (('checkpoint', 'checkpoint'), ('weights_sha256', 'SHA-256 of the weights'), ('date', 'date')):
        if provenance.get(key):
            yield what, provenance[key]
    data = provenance.get('data')
    if data:
        yield 'fingerprint of the data', data.get('fingerprint') if isinstance(data, Mapping) else data
    versions = {'hybridcls': provenance.get('hybridcls'), **(provenance.get('versions') or {})}
    yield 'written with', ', '.join(f'{package} {version}' for package, version in versions.items() if version)


def _results(metrics: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    for name, found in metrics.items():
        known = found if isinstance(found, Mapping) else dict(value=found)
        low, high, confidence = (known.get(key) for key in ('low', 'high', 'confidence'))
        interval = '' if low is None or high is None else f'{low:.4g} to {high:.4g}'
        if interval and confidence:
            interval += f' ({100 * confidence:g} %)'
        value = known.get('value')
        unit = f' {known["unit"]}' if known.get('unit') else ''
        yield name, f'{value:.4g}{unit}' if isinstance(value, (int, float)) else value, interval


def _sources(pretrained: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    for part, one in pretrained.items():
        yield part, one.get('model'), one.get('license') or 'not recorded', one.get('url') or one.get('file') or ''


def _calibration(calibration: Mapping[str, Any]) -> str:
    try:
        return str(Calibration.from_json(calibration, 'the calibration'))
    except (ValueError, KeyError, TypeError):
        return 'recorded in `model.json`'
