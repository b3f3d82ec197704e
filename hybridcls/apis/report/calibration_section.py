"""Probabilities before and after calibration, side by side."""

import shlex
from collections.abc import Mapping
from typing import Any, Optional

from hybridcls.structures import Calibration

from .calibration_effect import CalibrationEffect
from .charts import reliability_chart
from .html_page import Section, Table

__all__ = ['calibration_section']

_OTHERS = 'OTHER_IMAGES'
_READ = 'On the line, answers are right as often as they say; bars are 95 % intervals.'


def calibration_section(
    effect: CalibrationEffect, checkpoint: str, data: Optional[str], calibration: Optional[Calibration] = None
) -> Section:
    """Show reliability diagrams on the same axes, and the numbers with the interval of their difference.

    Args:
        effect (CalibrationEffect): What was found.
        checkpoint (str): The path, for a command to type.
        data (str, optional): Where other labelled images are, to calibrate with; None: they have to be found.
        calibration (Calibration, optional): What was applied.
    """
    after = {'applied': 'After calibration', 'cross-validated': 'With a temperature, cross-validated'}
    charts = [dict(svg=reliability_chart(effect.before, 'Before calibration'), caption=f'Before calibration. {_READ}')]
    if effect.after is not None:
        title = after[effect.kind]
        charts.append(dict(svg=reliability_chart(effect.after, title), caption=f'{title}. {_READ}'))
    says = _applied(effect, calibration, data) if calibration is not None else _not_there(effect, checkpoint, data)
    rows = []
    for one in effect.rows:
        unit = f', {one["unit"]}' if one['unit'] else ''
        cells = [_cell(one, part) for part in ('before', 'after', 'difference')]
        rows.append([f'{one["name"]}{unit} ({one["better"]} is better)', *cells])
    tables = [Table('Before and after, with 95 % intervals', ['number', 'before', 'after', 'difference'], rows,
                    {1, 2, 3})]  # fmt: skip
    promises = _promises(effect)
    if promises:
        tables.append(Table('What the thresholds promise, and what these images show', [
            'promise', 'here', '95 % interval'], promises, {1, 2}))  # fmt: skip
    return Section('calibration', 'Calibration', says, charts=charts, tables=tables)


def _cell(row: Mapping[str, Any], part: str) -> Optional[str]:
    found = row.get(part)
    if found is None:
        return None
    digits = 1 if row['unit'] == '%' else 3
    sign = '+' if part == 'difference' else ''
    text = f'{found["value"]:{sign}.{digits}f}'
    if found['low'] is None:
        return text
    return f'{text} [{found["low"]:{sign}.{digits}f}, {found["high"]:{sign}.{digits}f}]'


def _applied(effect: CalibrationEffect, calibration: Calibration, data: Optional[str]) -> list[str]:
    source = f' of {calibration.data["source"]}' if calibration.data else ''
    says = [f'The checkpoint is calibrated: {calibration}{source}. All other numbers of this page are those after it.']
    if effect.why:
        says.append(effect.why)
    if effect.overlap is None:
        says.append(
            'Which images it was fitted on is not recorded (hybridcls calibrate --force records it). If they are those '
            'of this report, "after" is better here than on other images.'
        )
    elif effect.overlap > 0:
        says.append(
            f'Warning: {_most(effect.overlap)} of the images of this report are among those that the calibration was '
            'fitted on, so "after" is better here than on other images. Report on others, or calibrate with others: '
            f'--data {_OTHERS if data is None else shlex.quote(data)}.'
        )
    else:
        says.append('None of the images of this report is among those that it was fitted on.')
    return says


def _most(share: float) -> str:
    return 'all' if share == 1 else f'{100 * share:.2g} %'


def _not_there(effect: CalibrationEffect, checkpoint: str, data: Optional[str]) -> list[str]:
    says = ['The checkpoint has no calibration: the numbers of this page are of the probabilities that it says itself.']
    if effect.kind == 'none':
        return [*says, effect.why]
    *folds, all_images = effect.temperatures
    says.append(
        f'What a temperature would give is cross-validated: each image by one that was fitted on the other '
        f'{len(folds) - 1} of {len(folds)} parts ({min(folds):.2f} to {max(folds):.2f}; that of all images is '
        f'{all_images:.2f}: the model is {"too sure" if all_images > 1 else "not sure enough"}).'
    )
    nll = next(row['difference'] for row in effect.rows if row['key'] == 'calibration/nll')
    command = f'hybridcls calibrate {shlex.quote(checkpoint)} --data {_OTHERS if data is None else shlex.quote(data)}'
    if nll['high'] is not None and nll['high'] < 0:
        says.append(f'It is better by {-nll["value"]:.3f} nats, and the interval says so. To have it: {command}')
    else:
        says.append(f'On these images no improvement can be shown. To apply it anyway: {command}')
    if data is None:
        says.append(
            f'{_OTHERS} are labelled images that did not train the model. Those of this report would do, but a report '
            'of images that calibrated the model says too much: keep some out of it.'
        )
    return says


def _promises(effect: CalibrationEffect) -> list[list[Any]]:
    rows: list[list[Any]] = []
    if effect.threshold is not None:
        found = effect.threshold
        rows.append(['images that are answered, %', *_percent(found['answered'])])
        rows.append([
            f'at most {100 * found["risk"]:g} % of the answers are wrong (with confidence {found["confidence"]:g})',
            *_percent(found['errors']),
        ])  # fmt: skip
    if effect.sets is not None:
        found = effect.sets
        rows.append(
            [f'at most {100 * found["alpha"]:g} % of the sets lack the right class', *_percent(found['missed'])]
        )
        rows.append(['classes in a set, mean', f'{found["size"]:.2f}', None])
    return rows


def _percent(share: Mapping[str, float]) -> list[str]:
    return [f'{100 * share["value"]:.1f}', f'{100 * share["low"]:.1f} to {100 * share["high"]:.1f}']
