"""The table of the comparisons, as text and as the page has it."""

from collections.abc import Iterable, Sequence

from .comparison import Comparison
from .fidelity_case import FidelityCase

__all__ = ['case_text', 'comparison_text', 'page_rows', 'summary']

_HEADER = '     deviation  allowed  case'


def comparison_text(comparisons: Iterable[Comparison]) -> Iterable[str]:
    """Yield the lines of the table, those of each comparison as soon as it is there.

    Args:
        comparisons (Iterable[Comparison]): May be made while the table is printed.
    """
    yield _HEADER
    for one in comparisons:
        mark = {True: 'ok', False: 'FAR', None: '-'}[one.ok]
        far = '-' if one.deviation is None else f'{one.deviation:.1e}'
        yield f'{mark:<4} {far:>9}  {one.tolerance:>7.0e}  {one.case.name}: {one.case.paper}'
        yield from _indented(one.case)
        if one.problem:
            yield f'{"":24}{"skipped" if one.skipped else "failed"}: {one.problem}'


def case_text(case: FidelityCase) -> list[str]:
    """Return the lines about a case that was not run."""
    deviates = [f'{"":24}deviates: {case.deviates}'] if case.deviates else []
    return [f'{case.kind:<10}{case.name}: {case.paper}', *_indented(case), *deviates]


def _indented(case: FidelityCase) -> list[str]:
    return [f'{"":24}against {case.against}', f'{"":24}{case.setting}']


def summary(comparisons: Sequence[Comparison], where: str) -> str:
    """Return one line.

    Args:
        comparisons (Sequence[Comparison]): All of them.
        where (str): The device and the precision.
    """
    counts = {verdict: sum(one.ok is verdict for one in comparisons) for verdict in (True, False, None)}
    skipped = f', {counts[None]} skipped' if counts[None] else ''
    seconds = sum(one.seconds for one in comparisons)
    return (
        f'{len(comparisons)} cases {where}: {counts[True]} within what is allowed, {counts[False]} not{skipped}; '
        f'{seconds:.1f} s.'
    )


def page_rows(comparisons: Sequence[Sequence[Comparison]]) -> list[str]:
    """Return the tables of ``docs/fidelity.md``, one a kind.

    Args:
        comparisons (Sequence[Sequence[Comparison]]): The same cases in float64 and in float32.
    """
    lines: list[str] = []
    kind = ''
    for double, single in sorted(zip(*comparisons, strict=True), key=lambda pair: _KINDS.index(pair[0].case.kind)):
        case = double.case
        if case.kind != kind:
            kind = case.kind
            lines += ['', f'### {_TITLES[kind]}', '']
            lines += ['| case | paper | against | setting | float64 | float32 |', '|---|---|---|---|---|---|']
        cells = [f'**{case.name}**', case.paper, _code(str(case.against)), _code(case.setting), _far(double), _far(single)]
        lines.append(f'| {" | ".join(cells)} |')
    lines += ['', '## What deviates on purpose', '']
    lines += [f'- **{one.case.name}**: {_code(one.case.deviates)}.' for one in comparisons[0] if one.case.deviates]
    return lines


_TITLES = dict(
    margin='Margins', head='Heads', loss='Losses', module='Modules', adapter='Adapters', stage='Stages of the update',
    optimizer='Optimizers', metric='Metrics', function='Functions',
)  # fmt: skip
_KINDS = list(_TITLES)


def _far(one: Comparison) -> str:
    if one.deviation is None:
        return one.problem
    return f'{one.deviation:.0e} of {one.tolerance:.0e}'


def _code(text: str) -> str:
    """Keep underscores and stars of names from being read as emphasis."""
    return text.replace('*', '\\*').replace('_', '\\_').replace('|w|', 'abs(w)')
