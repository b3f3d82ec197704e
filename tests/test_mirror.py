"""Tests lie where the code lies: ``hybridcls/a/b.py`` is tested by ``tests/test_a/test_b.py``."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEAST = 0.95
# They hold no code of their own to test.
EXEMPT = {'__init__.py', '__main__.py', 'version.py'}


def unmirrored(root: Path) -> tuple[list[str], int]:
    """Return the files of the package without a test of their name in its place, and how many should have one."""
    files = [
        path.relative_to(root / 'hybridcls')
        for path in sorted((root / 'hybridcls').rglob('*.py'))
        if path.name not in EXEMPT and '.mim' not in path.parts
    ]
    missing = [
        file.as_posix()
        for file in files
        if not root.joinpath('tests', *(f'test_{part}' for part in file.parts)).is_file()
    ]
    return missing, len(files)


def test_nearly_every_file_has_its_test():
    missing, count = unmirrored(ROOT)
    share = 1 - len(missing) / count
    assert share >= LEAST, f'{share:.1%} of {count} files have a test in their place; without: {", ".join(missing)}'


def test_a_file_without_a_test_is_found(tmp_path):
    for path in ('hybridcls/a/__init__.py', 'hybridcls/a/b.py', 'hybridcls/a/c.py', 'hybridcls/d.py',
                 'tests/test_a/test_b.py', 'tests/test_d.py', 'tests/test_c.py'):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert unmirrored(tmp_path) == (['a/c.py'], 3)


def test_tests_have_names_of_their_own():
    """pytest imports test files without a package by their names alone, so two of one name cannot be collected."""
    names = [path.name for folder in ('tests', 'projects') for path in (ROOT / folder).rglob('test_*.py')]
    assert sorted(names) == sorted(set(names))
