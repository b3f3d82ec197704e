"""Pull a trained model from the Hugging Face Hub or a folder; no downloaded code is run."""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from hybridcls.checks import listed, near_files
from hybridcls.safetensors_folder import SIDECAR, check_files, digest_of_file
from hybridcls.version import __version__

from ..artifact.artifact_folder import check_out_folder, unfinished_folder
from .hub_client import download, names_in
from .model_card import README
from .place import Place, read_place
from .pulled_sidecar import KINDS, check_names, pickles_in, read_sidecar_text

__all__ = ['Pulled', 'pull']


@dataclass(frozen=True)
class Pulled:
    """The result of :func:`pull`.

    Args:
        place (Place): Where from.
        folder (str): Where to.
        kind (str): ``'checkpoint'``, ``'artifact'`` or ``'adapters'``.
        files (dict[str, int]): The files, with their bytes.
        notes (tuple[str, ...]): What whoever pulls should know.
    """

    place: Place
    folder: str
    kind: str
    files: dict[str, int]
    notes: tuple[str, ...] = ()


def pull(place: str, out: str, revision: Optional[str] = None, trust: bool = False, force: bool = False) -> Pulled:
    """Copy a model into a folder, and check each file against the digest in its ``model.json``.

    Only what ``model.json`` lists is fetched, and the README.

    Args:
        place (str): A folder, or ``OWNER/NAME`` on the Hub; see :func:`~hybridcls.apis.hub.place.read_place`.
        out (str): The folder to write.
        revision (str, optional): A branch, tag or commit of the Hub. Defaults to None: the main branch.
        trust (bool): Also take files whose reader may run code in them (an artifact of torch.export). Defaults to
            False.
        force (bool): Replace a folder that is there, if a model was pulled into it. Defaults to False.

    Raises:
        FileNotFoundError: If there is no such place, or no model in it.
        ValueError: If files are missing or have changed, or may run code.
        FileExistsError: If something is in the folder.
        ConnectionError, PermissionError: If the Hub does not answer, or does not let it out.
    """
    out = os.path.expanduser(out)
    source = read_place('pull', place, revision)
    check_out_folder('pull', out, force, formats=KINDS)
    if source.on_hub:
        names = names_of_hub(source)
        folder = download('pull', source, [SIDECAR]) if names is None or SIDECAR in names else Path()
    else:
        folder = Path(source.name)
        if not folder.is_dir():
            raise FileNotFoundError(f'pull: the folder {source.name!r} does not exist.{near_files(source.name)}')
        names = sorted(one.name for one in folder.iterdir())
    path = folder / SIDECAR
    sidecar = None
    if names is None or SIDECAR in names:
        sidecar = read_sidecar_text(path.read_bytes(), f'{source}/{SIDECAR}', 'pull')
    if sidecar is None:
        raise FileNotFoundError(_nothing_pushed(source, names or []))
    check_names('pull', sidecar, f'{source}/{SIDECAR}', trust)
    with unfinished_folder(out) as unfinished:
        wanted = [*sidecar['files']]
        if source.on_hub:  # of the same commit, whatever is pushed meanwhile
            pinned = source._replace(revision=folder.name)
            folder = download('pull', pinned, [SIDECAR, *wanted, *({README} & {*(names or ())})])
        _copy(folder, unfinished, wanted)
        try:
            check_files(unfinished, sidecar['files'])
        except ValueError as error:
            raise ValueError(f'pull: {error}'.replace(str(unfinished), str(source))) from error
        _check_safetensors(unfinished, wanted, source)
        files = {one.relative_to(unfinished).as_posix(): one.stat().st_size
                 for one in sorted(unfinished.rglob('*')) if one.is_file()}  # fmt: skip
    return Pulled(source, out, KINDS[sidecar['format']], files, tuple(_strange_programs(sidecar)))


def names_of_hub(source: Place) -> Optional[list[str]]:
    """Return the file names of a repository; None without a network, where the cache is searched instead."""
    from hybridcls.hub_cache import why_unreachable

    return None if why_unreachable() else names_in('pull', source)


def _copy(folder: Path, unfinished: Path, wanted: list[str]) -> None:
    """Copy the existing files; missing ones and paths outside the folder are reported by :func:`check_files`."""
    root = unfinished.resolve()
    for name in [SIDECAR, README, *wanted]:
        target = (unfinished / name).resolve()
        if root in target.parents and (folder / name).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target)


def _strange_programs(sidecar: Mapping[str, Any]) -> Iterator[str]:
    """Yield the programs of an artifact that differ from those of this version and may have been changed."""
    shipped = Path(__file__).parents[1] / 'artifact' / 'shipped'
    for name, known in sidecar['files'].items():
        own = shipped / name
        if name.endswith('.py') and name != 'config.py' and not (
            own.is_file() and digest_of_file(own) == known['sha256']
        ):  # fmt: skip
            yield f'{name} differs from the one of hybridcls {__version__}: read it before you run it.'


def _check_safetensors(folder: Path, names: list[str], source: Place) -> None:
    from safetensors import SafetensorError, safe_open

    for name in names:
        if name.endswith('.safetensors'):
            try:
                with safe_open(folder / name, 'np'):
                    pass
            except SafetensorError as error:
                raise ValueError(
                    f'pull: expected {name} of {source} in the format safetensors, got another file ({error}).'
                ) from error


def _nothing_pushed(source: Place, names: list[str]) -> str:
    pickles = pickles_in(names)
    there = f'got {listed(names, 5)}' if names else 'got nothing'
    if pickles:
        there = f'got pickles, which may run code when they are read ({listed(pickles, 5)})'
    return (
        f'pull: expected {SIDECAR} of hybridcls push in {source}, {there}. Who has the checkpoint types: hybridcls '
        'push CHECKPOINT PLACE'
    )
