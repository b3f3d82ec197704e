"""Benchmark the parts of hybridcls against plain alternatives, interleaved, on this machine.

python tools/benchmark.py                 # lists the benchmarks
python tools/benchmark.py NAME [options]  # runs tools/benchmarks/NAME.py; --help shows its options
"""

import ast
import runpy
import sys
from pathlib import Path

from hybridcls.checks import did_you_mean
from hybridcls.command_line import run_tool

FOLDER = Path(__file__).resolve().parent / 'benchmarks'


def benchmarks() -> dict[str, Path]:
    """Return the file of each benchmark, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob('*.py'))}


def first_line(path: Path) -> str:
    """Return the first line of a file's docstring, without importing it."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding='utf8'))) or '').split('\n')[0]


def main() -> None:
    """List the benchmarks, or run one."""
    known = benchmarks()
    if len(sys.argv) < 2 or sys.argv[1] in ('-h', '--help'):
        print(__doc__)
        print('\n'.join(f'  {name:<20} {first_line(path)}' for name, path in known.items()))
        return
    name = sys.argv[1]
    if name not in known:
        raise ValueError(f'benchmark: expected one of {", ".join(known)}, got {name!r}.{did_you_mean(name, known)}')
    sys.argv = [str(known[name]), *sys.argv[2:]]
    runpy.run_path(str(known[name]), run_name='__main__')


if __name__ == '__main__':
    run_tool(main)
