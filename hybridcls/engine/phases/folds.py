"""Cross-validation as a chain: one training per fold, each with another fold as its validation."""

import re
import statistics
from collections.abc import Sequence

from mmengine.config import Config

from ..config import is_chain, provenance_of
from .plan import read_phases
from .record import PhaseRecord

__all__ = ['fold_summary', 'in_folds']

_FOLD = re.compile(r'fold(\d+)(_.+)?')


def in_folds(cfg: Config) -> Config:
    """Return the chain that trains a config once per fold, if its ``data_split`` has folds; else the config itself.

    ``data_split=dict(folds=5)`` makes the phases ``fold1`` to ``fold5``; of a chain of phases all are trained for the
    first fold (``fold1_supcon``, ``fold1_adaface``), then for the next.

    Args:
        cfg (Config): From :func:`~hybridcls.engine.config.load_config`.
    """
    if is_chain(cfg):  # for all phases, or, from the command line, for each
        told = [phase.options for phase in read_phases(cfg)]
        asked = {key: options.get(f'data_split.{key}') for options in told[:1] for key in ('folds', 'fold')}
    else:
        asked = cfg.get('data_split') or {}
    folds = asked.get('folds')
    if not folds or asked.get('fold') is not None:
        return cfg
    if is_chain(cfg):
        entries = [dict(entry) for entry in cfg.phases]
        chain = {key: value for key, value in cfg.items() if key != 'phases'}
    else:
        entries = [dict(name='', config=str(cfg.filename), cfg_options=provenance_of(cfg).options, test=False)]
        chain = {key: cfg[key] for key in ('work_dir', 'launcher') if cfg.get(key) is not None}
    chain['phases'] = [
        {
            **entry,
            'name': f'fold{fold}_{entry["name"]}'.removesuffix('_'),
            'cfg_options': {
                **(entry.get('cfg_options') or {}),
                'data_split.folds': folds,
                'data_split.fold': fold,
            },
            'load': entry.get('load', 'last' if number else None),
            'test': entry.get('test', False),
        }
        for fold in range(1, folds + 1)
        for number, entry in enumerate(entries)
    ]
    return Config(chain, filename=cfg.filename)


def fold_summary(records: Sequence[PhaseRecord]) -> str:
    """Return the mean and the standard deviation over the folds of each validation result that all folds have.

    Args:
        records (Sequence[PhaseRecord]): Of all phases; of several phases in a fold, those of the same name are
            compared.

    Returns:
        str: A line for each phase; empty if these are no folds.

    Example:
        >>> folds = [PhaseRecord(f'fold{n}', '', {}, metrics={'val/accuracy/top1': 80.0 + n}) for n in (1, 2, 3)]
        >>> fold_summary(folds)
        'mean ± sd of 3 folds: accuracy/top1 82.00 ± 1.00 (validation)'
    """
    of_phase: dict[str, list[PhaseRecord]] = {}
    for record in records:
        match = _FOLD.fullmatch(record.name)
        if match is None:
            return ''
        of_phase.setdefault((match[2] or '')[1:], []).append(record)
    lines = []
    for name, folds in of_phase.items():
        shared = [
            metric
            for metric in folds[0].metrics
            if metric.startswith('val/') and all(metric in fold.metrics for fold in folds)
        ]
        results = []
        for metric in sorted(shared, key=lambda metric: 'loss' in metric):
            values = [fold.metrics[metric] for fold in folds]
            digits = 4 if 'loss' in metric else 2
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            results.append(f'{metric.removeprefix("val/")} {statistics.mean(values):.{digits}f} ± {spread:.{digits}f}')
        head = f'{name}, ' if name else ''
        lines.append(f'{head}mean ± sd of {len(folds)} folds: {", ".join(results) or "not validated"} (validation)')
    return '\n'.join(lines)
