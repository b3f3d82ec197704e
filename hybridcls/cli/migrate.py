"""Update configs of version 0.1: replace old keys, values and names, or print what would change.

Comments, order and layout of the file stay. The command checks that the new text means the same as the old one. The
exit code is 0 if nothing is left to do, and 1 if there are changes to make and --write is not given, or if some must be
made by hand.
"""

import difflib
import logging
import os
import sys
from argparse import ArgumentParser, Namespace
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridcls.checks import check_file

if TYPE_CHECKING:
    from mmengine.config import Config

    from hybridcls.engine.config.change import Renamed
    from hybridcls.engine.config.origins import Layer

__all__ = ['HELP', 'Migration', 'add_arguments', 'migration_of', 'run']

HELP = 'update a config of version 0.1: old keys, values and names'


@dataclass
class Migration:
    """What becomes of one file.

    Args:
        file (Path): Its place.
        old (bytes): What is in it.
        new (bytes): The same in the spellings of today.
        left (list[str]): Sentences about old spellings that the text does not write out.
    """

    file: Path
    old: bytes
    new: bytes
    left: list[str] = field(default_factory=list)

    @property
    def diff(self) -> str:
        """The changes, as ``diff -u`` prints them."""
        old, new = (text.decode('utf8').splitlines(keepends=True) for text in (self.old, self.new))
        return ''.join(difflib.unified_diff(old, new, str(self.file), str(self.file)))


@dataclass
class _Reading:
    """What reading a config shows.

    Args:
        facts (list): What it says: itself, or the phases of a chain.
        renamed (list[tuple[int, Renamed]]): What is written in old spellings; the position of the phase that is told so
            by an option of its chain, else -1.
        files (list[Path]): The files that have written something.
    """

    facts: list[dict[str, str]]
    renamed: list[tuple[int, 'Renamed']]
    files: list[Path]


def add_arguments(parser: ArgumentParser) -> None:
    """Say what the subcommand takes."""
    parser.add_argument('config', nargs='+', help='path of a config file')
    parser.add_argument('--write', action='store_true', help='rewrite the files instead of printing the changes')
    parser.add_argument(
        '--bases', action='store_true', help='also update their base configs, except those that hybridcls ships'
    )


def run(args: Namespace) -> int:
    """Print the changes or make them, and return 1 if something is left to do."""
    for config in args.config:
        check_file('migrate', 'config', config)
    done: dict[Path, Migration] = {}
    logging.disable(logging.WARNING)  # which would say of each old spelling what the diff says
    try:
        with redirect_stdout(sys.stderr):
            for config in args.config:
                done.update({one.file: one for one in migration_of(Path(config), args.bases) if one.file not in done})
    finally:
        logging.disable(logging.NOTSET)
    changed = [one for one in done.values() if one.old != one.new]
    if args.write:
        for one in changed:
            _write(one)
    if args.json:
        import json

        rows = [dict(file=str(one.file), diff=one.diff, left=one.left) for one in done.values()]
        print(json.dumps(dict(files=rows, written=args.write), indent=2))
    else:
        _tell(list(done.values()), changed, args.write)
    return int(any(one.left for one in done.values()) or bool(changed and not args.write))


def _tell(files: list[Migration], changed: list[Migration], write: bool) -> None:
    for one in changed:
        print(f'{one.file}: rewritten.' if write else one.diff, end='\n' if write else '')
    for one in files:
        for sentence in one.left:
            print(f'{one.file}: {sentence}', file=sys.stderr)
    if not changed and not any(one.left for one in files):
        print('Nothing to do: there are no old spellings.')
    elif changed and not write:
        print(f'{len(changed)} file{"s" * (len(changed) > 1)} to rewrite. Add --write to do it.', file=sys.stderr)


def _write(one: Migration) -> None:
    from hybridcls.engine.checkpoints.files import atomic_write

    file = one.file.resolve()  # not the link to it
    mode = file.stat().st_mode
    atomic_write(one.new, file)
    os.chmod(file, mode)


def migration_of(config: Path, bases: bool = False) -> list[Migration]:
    """Plan the rewriting of a config.

    Args:
        config (Path): The file.
        bases (bool): Whether its bases belong to it, but for those of this package.

    Raises:
        ConfigError: If a config cannot be read, or if its new text would say something else.
    """
    from hybridcls import config_path
    from hybridcls.engine import ConfigError

    reading = _read(config)
    of_package = Path(config_path('')).resolve()
    others = [file for file in reading.files if file != config.resolve() and of_package not in file.parents]
    found = [_migrate(config, reading)]
    for file in others if bases else ():
        try:
            alone = _read(file)
        except ConfigError:  # it is a part of a config
            alone = _Reading([], [], [])
        found.append(_migrate(file, _Reading(alone.facts, [*alone.renamed, *reading.renamed], [])))
    return found


def _migrate(file: Path, reading: _Reading) -> Migration:
    from hybridcls.engine import ConfigError
    from hybridcls.engine.config.facts import differing_keys
    from hybridcls.engine.config.rewriting import rewritten

    old = file.read_bytes()
    own = [(phase, one) for phase, one in reading.renamed if phase >= 0 or Path(one.layer.name) == file.resolve()]
    if file.suffix != '.py':
        return Migration(file, old, old, [_sentence(one) for _, one in own])
    places: list[Any] = []
    for phase, one in own:
        starts = [('phases', phase, 'cfg_options'), ('cfg_options',), ()] if phase >= 0 else [()]
        places.append((tuple((*start, *one.path) for start in starts), one))
    new = rewritten(old, places)
    if new == old or not reading.facts:
        return Migration(file, old, new, [_sentence(one) for _, one in own] if new == old else [])
    copy = file.resolve().with_name(f'{file.stem}_rewritten_{os.getpid()}.py')
    try:
        copy.write_bytes(new)
        again = _read(copy)
    finally:
        copy.unlink(missing_ok=True)
    facts = [{key: value.replace(copy.stem, file.stem) for key, value in one.items()} for one in again.facts]
    for before, after in zip(reading.facts, facts, strict=True):
        if before != after:
            raise ConfigError(
                f'migrate: {file} would mean something else in the new spellings: {differing_keys(before, after)}. '
                'Rewrite it by hand.'
            )
    left = [one for phase, one in again.renamed if phase >= 0 or Path(one.layer.name) == copy]
    return Migration(file, old, new, [_sentence(one) for one in left])


def _read(config: Path) -> _Reading:
    from hybridcls.engine import is_chain, load_config
    from hybridcls.engine.config import provenance_of
    from hybridcls.engine.config.origins import OPTION
    from hybridcls.engine.phases.plan import read_phases

    cfg = load_config(config)
    known = provenance_of(cfg)
    files = sorted({Path(layer.name) for layer in known.origins.values() if _is_file(layer)})
    renamed = [(-1, one) for one in known.renamed]
    if not is_chain(cfg):
        return _Reading([_facts(cfg)], renamed, files)
    facts = []
    for phase in read_phases(cfg):
        of_phase = load_config(phase.config, phase.options)
        facts.append(_facts(of_phase))
        options = [one for one in provenance_of(of_phase).renamed if one.layer == OPTION]
        renamed += [(phase.number - 1, one) for one in options]
    return _Reading(facts, renamed, files)


def _facts(cfg: 'Config') -> dict[str, str]:
    """What a config says, without its variables: nothing but the files reads those."""
    from hybridcls.engine.config.facts import config_facts
    from hybridcls.engine.config.origins import RUNNER_KEYS

    return {key: value for key, value in config_facts(cfg).items() if key.split('.')[0] in RUNNER_KEYS}


def _is_file(layer: 'Layer') -> bool:
    return Path(layer.name).is_file()


def _sentence(one: 'Renamed') -> str:
    from hybridcls.engine.config.tree import dotted

    new = f'{one.new_path[-1]}={one.new!r}'
    return f'{dotted(one.path)}={one.old!r} is computed, not written in the file. Write {new} where it is computed.'
