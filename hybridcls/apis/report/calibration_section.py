"""The section on calibration: probabilities before and after, side by side."""

import shlex
from collections.abc import Mapping
from typing import Any, Optional

from hybridcls.structures import Calibration

from .calibration_effect import CalibrationEffect, guarantee_holds
from .charts import reliability_chart
from .headline_section import OUTSIDE
from .html_page import Section, Table

__all__ = ['calibration_section']

_OTHERS = 'OTHER_IMAGES'
_READ = 'On the dashed line, answers are right as often as their probability says. Bars: 95 % intervals.'


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
    if any(_is_outside(one[part]) for one in effect.rows for part in ('before', 'after') if one.get(part)):
        says.append(f'{OUTSIDE} (ECE)')
    rows = []
    for one in effect.rows:
        unit = f', {one["unit"]}' if one['unit'] else ''
        cells = [_cell(one, part) for part in ('before', 'after', 'difference')]
        rows.append([f'{one["name"]}{unit} ({one["better"]} is better)', *cells])
    tables = [Table('Before and after, with 95 % intervals', ['number', 'before', 'after', 'difference'], rows,
                    {1, 2, 3})]  # fmt: skip
    promises = _promises(effect)
    if promises:
        tables.append(Table('What the calibration guarantees, and what these images show', [
            'guarantee', 'here', '95 % interval', 'result'], promises, {1, 2}))  # fmt: skip
    return Section('calibration', 'Calibration', says, charts=charts, tables=tables)


def _is_outside(found: Mapping[str, Any]) -> bool:
    return found['low'] is not None and not found['low'] <= found['value'] <= found['high']


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
    says = [
        f'The checkpoint is calibrated: {calibration}{source}. All other numbers on this page are after calibration.'
    ]
    if effect.why:
        says.append(effect.why)
    if effect.overlap is None:
        says.append(
            'It is not recorded which images the calibration was fitted on (hybridcls calibrate --force records it). '
            'If they are in this report, "after" is better here than on other images.'
        )
    elif effect.overlap > 0:
        says.append(
            f'Warning: The calibration was fitted on {_most(effect.overlap)} of the images of this report, so "after" '
            'is better here than on other images. Use other images for the report or for the calibration: '
            f'--data {_OTHERS if data is None else shlex.quote(data)}.'
        )
    else:
        says.append('The calibration was fitted on none of the images of this report.')
    return says


def _most(share: float) -> str:
    return 'all' if share == 1 else f'{100 * share:.2g} %'


def _not_there(effect: CalibrationEffect, checkpoint: str, data: Optional[str]) -> list[str]:
    says = ['The checkpoint is not calibrated. The numbers on this page are those of its own probabilities.']
    if effect.kind == 'none':
        return [*says, effect.why]
    *folds, all_images = effect.temperatures
    says.append(
        f'The effect of a temperature is estimated by {len(folds)}-fold cross-validation: the probabilities of each '
        f'image are scaled by a temperature that was fitted on the other folds ({min(folds):.2f} to {max(folds):.2f}; '
        f'fitted on all images: {all_images:.2f}). A temperature above 1 makes the model less confident, one below 1 '
        'more confident.'
    )
    nll = next(row['difference'] for row in effect.rows if row['key'] == 'calibration/nll')
    command = f'hybridcls calibrate {shlex.quote(checkpoint)} --data {_OTHERS if data is None else shlex.quote(data)}'
    if nll['high'] is not None and nll['high'] < 0:
        says.append(
            f'The temperature lowers the NLL by {-nll["value"]:.3f} nats (the interval excludes 0). To calibrate the '
            f'model: {command}'
        )
    else:
        says.append(f'On these images, the temperature shows no clear gain. To calibrate the model anyway: {command}')
    if data is None:
        says.append(
            f'{_OTHERS} are labelled images that the model was not trained on. Do not use images that you report on '
            'later: results on images that the calibration was fitted on are too good.'
        )
    return says


def _promises(effect: CalibrationEffect) -> list[list[Any]]:
    rows: list[list[Any]] = []
    if effect.threshold is not None:
        found = effect.threshold
        rows.append(['images that are answered, %', *_percent(found['answered']), ''])
        rows.append([
            f'at most {100 * found["risk"]:g} % of the answers are wrong (with confidence {found["confidence"]:g})',
            *_percent(found['errors']), guarantee_holds(found['errors'], found['risk']) if found['images'] else '',
        ])  # fmt: skip
    if effect.sets is not None:
        found = effect.sets
        rows.append([
            f'at most {100 * found["alpha"]:g} % of the sets do not contain the right class',
            *_percent(found['missed']),
            guarantee_holds(found['missed'], found['alpha']),
        ])  # fmt: skip
        rows.append(['mean number of classes in a set', f'{found["size"]:.2f}', None, ''])
    return rows


def _percent(share: Mapping[str, float]) -> list[str]:
    return [f'{100 * share["value"]:.1f}', f'{100 * share["low"]:.1f} to {100 * share["high"]:.1f}']
