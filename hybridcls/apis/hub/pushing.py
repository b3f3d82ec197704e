"""Push a trained model to the Hugging Face Hub or to a folder: a checkpoint, an artifact, or saved LoRA adapters."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Optional, Union

from hybridcls.checks import check_file, listed
from hybridcls.engine.checkpoints.calibration_file import digest_of_weights
from hybridcls.engine.checkpoints.find_checkpoint import find_checkpoint
from hybridcls.engine.config.tree import leaves_in
from hybridcls.literals import read_assignments
from hybridcls.models.adapters.lora_files import holds_adapters
from hybridcls.safetensors_folder import SIDECAR, check_files

from ..artifact.artifact_folder import check_out_folder, unfinished_folder
from .checkpoint_folder import files_in, write_checkpoint_folder
from .hub_client import check_login, upload
from .model_card import README, model_card
from .place import Place, read_place
from .pulled_sidecar import ADAPTERS, ARTIFACT, KINDS, sidecar_of
from .report_card import REPORT, metrics_of, read_report
from .report_figures import write_figures

__all__ = ['Pushed', 'push']


@dataclass(frozen=True)
class Pushed:
    """The result of :func:`push`.

    Args:
        place (Place): Where to.
        kind (str): ``'checkpoint'``, ``'artifact'`` or ``'adapters'``.
        why (str): A sentence: which checkpoint, and which of its weights.
        files (dict[str, int]): The files, with their bytes.
        notes (tuple[str, ...]): What whoever pushes should know.
        commit (str, optional): Address of the commit on the Hub.
    """

    place: Place
    kind: str
    why: str
    files: dict[str, int]
    notes: tuple[str, ...] = ()
    commit: Optional[str] = None


def push(
    source: Union[str, Path],
    place: str,
    results: Union[str, Path, None] = None,
    license: Optional[str] = None,
    private: Optional[bool] = None,
    force: bool = False,
    report: Union[str, Path, bool, None] = None,
    figures: bool = False,
) -> Pushed:
    """Push a model.

    Args:
        source (str | Path): A checkpoint or a work dir; an artifact of ``hybridcls export``; or a folder of saved LoRA
            adapters.
        place (str): A folder, or ``OWNER/NAME`` on the Hub; see :func:`~hybridcls.apis.hub.place.read_place`.
        results (str | Path, optional): File of ``hybridcls test --json`` or ``--out``, whose results are recorded.
            Defaults to None.
        license (str, optional): The licence that the model gets, as the Hub spells it. Defaults to None: none is named.
        private (bool, optional): Whether a new repository is private. Defaults to None: as the Hub does it.
        force (bool): Replace a folder that is there, if a model was pushed to it. Defaults to False.
        report (str | Path | bool, optional): ``report.json`` of ``hybridcls report``, from which the card is written;
            False: none. Defaults to None: that in the work dir, if there is one.
        figures (bool): Push charts of the report, too: no images of the data are in them. Defaults to False.

    Raises:
        FileNotFoundError, ValueError: If there is no such model, or it cannot be pushed.
        FileExistsError: If something is in the folder.
        ConnectionError, PermissionError: If the Hub does not answer, or does not let it in.
    """
    to = read_place('push', place)
    path = os.path.expanduser(os.fspath(source))
    metrics = None if results is None else _metrics_in(os.fspath(results))
    card = _Card(license, report, figures)
    if to.on_hub:
        check_login('push', to)
        with TemporaryDirectory() as folder:
            pushed = _write(path, Path(folder), to, metrics, card)
            commit = upload('push', Path(folder), to, private, f'{pushed.kind} pushed by hybridcls')
        return Pushed(to, pushed.kind, pushed.why, pushed.files, pushed.notes, commit)
    if os.path.exists(path) and os.path.realpath(path) == os.path.realpath(to.name):
        raise ValueError(f'push: expected another folder than the source, got {place!r} twice.')
    check_out_folder('push', to.name, force, 'the folder', KINDS)
    with unfinished_folder(to.name) as unfinished:
        return _write(path, unfinished, to, metrics, card)


class _Card(NamedTuple):
    """The inputs of a model card besides the model."""

    license: Optional[str]
    report: Union[str, Path, bool, None]
    figures: bool


def _write(path: str, folder: Path, to: Place, metrics: Optional[Mapping[str, Any]], card: _Card) -> Pushed:
    """Write the files to push to a folder."""
    sidecar, notes = sidecar_of(Path(path), 'push') if os.path.isdir(path) else None, []
    calibration: Optional[Mapping[str, Any]] = None
    report: Optional[dict[str, Any]] = None
    is_artifact = sidecar is not None and sidecar['format'] == ARTIFACT
    if (is_artifact or (os.path.isdir(path) and holds_adapters(path))) and (
        card.figures or card.report not in (None, False)
    ):
        raise ValueError('push: --report and --figures are for a checkpoint, whose weights the report was made of.')
    if sidecar is not None and is_artifact:
        kind, why = 'artifact', f'Artifact {path}.'
        if metrics is not None:
            raise ValueError('push: --results is for a checkpoint; an artifact has its own.')
        _copy_listed(path, folder, sidecar)
        calibration = sidecar.get('calibration')
        if (folder / 'config.py').is_file():
            notes += _paths_of_this_machine((folder / 'config.py').read_text(encoding='utf8'))
    elif os.path.isdir(path) and holds_adapters(path):
        kind, why = 'adapters', f'Adapters {path}; the weights that their training started from are not in it.'
        if metrics is not None:
            raise ValueError('push: --results is for a checkpoint, got adapters.')
        shutil.copytree(path, folder, dirs_exist_ok=True, ignore=lambda _, names: [*{README, SIDECAR} & {*names}])
        sidecar = dict(format=ADAPTERS, version=1, files=files_in(folder))
        (folder / SIDECAR).write_text(json.dumps(sidecar, indent=1), encoding='utf8')
    else:
        found = find_checkpoint(path)
        report = _report_of(path, found.path, card, notes)
        sidecar = write_checkpoint_folder(found, folder, metrics or (metrics_of(report) if report else None))
        kind, why = 'checkpoint', found.why
        if sidecar['calibration'] is not None:
            calibration = json.loads((folder / sidecar['calibration']).read_bytes())
            source = str((calibration.get('data') or {}).get('source', ''))
            notes += [
                f'Everyone can read the path of this machine that its calibration names: {source}.'
            ] * _is_absolute(source)
        notes += _paths_of_this_machine(sidecar['meta']['cfg'])
        in_report = (report or {}).get('calibration')
        if in_report and (in_report['kind'] == 'applied') != (calibration is not None):
            notes.append('The calibration of the model has changed since the report. Write a new one: hybridcls report')
    if not (folder / README).is_file():
        name = to.name.rpartition('/')[2] if to.on_hub else Path(to.name).resolve().name
        pictures = write_figures(report, folder) if report and card.figures else {}
        text = model_card(sidecar, name, str(to), calibration, card.license, report, pictures)
        (folder / README).write_text(text, encoding='utf8', errors='backslashreplace')
    elif card.license is not None:
        notes.append(f'{README} of the source is kept, so --license {card.license} is not in it.')
    files = {name: known['bytes'] for name, known in files_in(folder).items()}
    return Pushed(to, kind, why, files, tuple(notes))


def _report_of(path: str, checkpoint: str, card: _Card, notes: list[str]) -> Optional[dict[str, Any]]:
    """Read the given report, or the one beside the checkpoint; note which it is."""
    chosen: Any = card.report
    if chosen in (None, True):
        places = [path] * os.path.isdir(path) + [os.path.dirname(checkpoint)]
        chosen = next((file for place in places if os.path.isfile(file := os.path.join(place, REPORT))), False)
    if not chosen:
        if card.figures:
            raise ValueError(
                f'push: --figures draws what a report says, and there is no {REPORT} beside {checkpoint}. Type '
                f'hybridcls report {checkpoint}, or name it: --report FILE.'
            )
        return None
    file = os.path.expanduser(os.fspath(chosen))
    report = read_report(file, digest_of_weights(checkpoint))
    notes.append(f'The README is written from the report {file}.')
    return report


def _copy_listed(path: str, folder: Path, sidecar: Mapping[str, Any]) -> None:
    """Copy the files that an artifact's sidecar lists, after checking their digests."""
    check_files(path, sidecar['files'])
    readme = [README] if Path(path, README).is_file() else []
    for name in {*sidecar['files'], SIDECAR, *readme}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(path, name), folder / name)


def _metrics_in(path: str) -> dict[str, Any]:
    """Read the results of a test, each with its interval and unit if available."""
    check_file('push', 'results', path, 'Type: hybridcls test CHECKPOINT --json > FILE')
    try:
        content = json.loads(Path(path).read_bytes())
        found = content.get('metrics', content)
        units = content.get('declared') or {}
        numbers = {name: value for name, value in found.items() if isinstance(value, (int, float))}
    except (ValueError, AttributeError) as error:
        raise ValueError(f'push: expected the JSON of hybridcls test in --results {path}, got another file.') from error
    if not numbers:
        raise ValueError(f'push: expected results of hybridcls test in --results {path}, got none.')
    metrics = {}
    for name, value in numbers.items():
        if name.removesuffix('_low') in numbers and name.endswith('_low'):
            continue
        if name.removesuffix('_high') in numbers and name.endswith('_high'):
            continue
        more = dict(low=numbers.get(f'{name}_low'), high=numbers.get(f'{name}_high'))
        more['unit'] = (units.get(name) or {}).get('unit')
        metrics[name] = dict(value=value, **{key: one for key, one in more.items() if one is not None})
    return metrics


def _paths_of_this_machine(config: str) -> list[str]:
    """Return a note on the local paths in the config, which become public."""
    values = [value for _, value in leaves_in(read_assignments(config)) if isinstance(value, str)]
    paths = list(dict.fromkeys(value for value in values if _is_absolute(value)))
    return [f'Everyone can read the paths of this machine that its config names: {listed(paths, 3)}.'] if paths else []


def _is_absolute(value: str) -> bool:
    return '\n' not in value and (value.startswith('~') or os.path.isabs(value) or PureWindowsPath(value).is_absolute())
