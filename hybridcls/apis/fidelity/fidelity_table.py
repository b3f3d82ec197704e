"""Format the comparisons as a table, for the terminal and for the documentation page."""

import re
from collections.abc import Iterable, Mapping, Sequence

from .case_comparison import Comparison
from .fidelity_case import FidelityCase

__all__ = ['case_text', 'comparison_text', 'page_rows', 'summary']

_HEADER = '     deviation  allowed  case'


def comparison_text(comparisons: Iterable[Comparison]) -> Iterable[str]:
    """Yield the lines of the table, each comparison as soon as it is done.

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
    """Return the lines about a case, without running it."""
    deviates = [f'{"":24}deviates: {case.deviates}'] if case.deviates else []
    return [f'{case.kind:<10}{case.name}: {case.paper}', *_indented(case), *deviates]


def _indented(case: FidelityCase) -> list[str]:
    return [f'{"":24}against {case.against}', f'{"":24}{case.setting}']


def summary(comparisons: Sequence[Comparison], where: str) -> str:
    """Return a summary in one line.

    Args:
        comparisons (Sequence[Comparison]): All of them.
        where (str): The device and the precision.
    """
    counts = {verdict: sum(one.ok is verdict for one in comparisons) for verdict in (True, False, None)}
    skipped = f', {counts[None]} skipped' if counts[None] else ''
    seconds = sum(one.seconds for one in comparisons)
    return (
        f'{len(comparisons)} cases {where}: {counts[True]} within the allowed deviation, {counts[False]} beyond '
        f'it{skipped}; {seconds:.1f} s.'
    )


def page_rows(comparisons: Sequence[Sequence[Comparison]], reasons: Mapping[str, str]) -> list[str]:
    """Return the tables of ``docs/fidelity.md``: the cases of each kind, what deviates, and what is not compared.

    Args:
        comparisons (Sequence[Sequence[Comparison]]): The same cases in float64 and in float32.
        reasons (Mapping[str, str]): Of what has no case.
    """
    lines: list[str] = []
    kind = ''
    for double, single in sorted(zip(*comparisons, strict=True), key=lambda pair: _KINDS.index(pair[0].case.kind)):
        case = double.case
        if case.kind != kind:
            kind = case.kind
            lines += ['', f'### {_TITLES[kind]}', '']
            lines += ['| case | paper | against | setting | float64 | float32 |', '|---|---|---|---|---|---|']
        cells = [f'**{case.name}**', _linked(case.paper), _source(case), _plain(case.setting)]
        lines.append(f'| {" | ".join([*cells, _far(double), _far(single)])} |')
    lines += ['', '## What deviates on purpose', '']
    lines += _grouped({one.case.name: one.case.deviates for one in comparisons[0] if one.case.deviates})
    lines += ['', '## What has no numbers of its own', '']
    return lines + _grouped(reasons)


_TITLES = dict(
    margin='Margins', head='Heads', loss='Losses', module='Modules', adapter='Adapters', stage='Stages of the update',
    optimizer='Optimizers', metric='Metrics', function='Functions',
)  # fmt: skip
_KINDS = list(_TITLES)


def _grouped(texts: Mapping[str, str]) -> list[str]:
    """Return one line per text, with all names that it applies to."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(f'**{name}**')
    return [f'- {"; ".join(of_text)}: {_plain(text)}.' for text, of_text in names.items()]


def _far(one: Comparison) -> str:
    return one.problem if one.deviation is None else f'{one.deviation:.0e} of {one.tolerance:.0e}'


def _source(case: FidelityCase) -> str:
    if isinstance(case.against, str):
        return _plain(case.against)
    code = case.against
    return f'[{_plain(str(code))}](https://github.com/{code.repository}/blob/{code.commit}/{code.file})'


def _linked(paper: str) -> str:
    return re.sub(r'(.*), arXiv (\d{4}\.\d{5})', r'[\1](https://arxiv.org/abs/\2)', paper)


def _plain(text: str) -> str:
    """Escape stars, underscores and bars of names for Markdown."""
    return re.sub(r'([*_|])', r'\\\1', text)
