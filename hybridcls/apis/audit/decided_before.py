"""Earlier decisions: the images that a training was told to drop or relabel."""

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

from hybridcls.datasets.label_decisions import LabelDecisions, read_decisions
from hybridcls.engine.config.tree import datasets_in

__all__ = ['DecidedImage', 'decided_before', 'name_key']


class DecidedImage(NamedTuple):
    """The decision on an image that was made before the training.

    Args:
        name (str): Its path, below the folder of the images where it is there.
        label (str): Of the data; ``''`` where the table did not say.
        decision (str): ``'drop'``, ``'relabel'`` or ``'keep'``.
        new (str): The class that it is of since, ``''`` but for ``'relabel'``.
    """

    name: str
    label: str
    decision: str
    new: str = ''


def decided_before(cfg: Mapping[str, Any], checkpoint: str, root: str = '') -> tuple[list[DecidedImage], list[str]]:
    """Read the decisions of a training to drop, relabel or keep, from the copy in its work dir, else from the table.

    Args:
        cfg (Mapping): The config of the training.
        checkpoint (str): Its checkpoint: the copies are beside it, wherever the work dir is now.
        root (str): The folder of the images in the training. Defaults to ``''``: not known.

    Returns:
        tuple[list[DecidedImage], list[str]]: Each image once, and a sentence about each table that is gone or has
        other decisions now.
    """
    above = os.path.join(root, '') if root else ''
    found: dict[str, DecidedImage] = {}
    notes: list[str] = []
    folders = [_folder(dataset) for path, dataset in datasets_in(cfg) if path[0] == 'train_dataloader']
    for path, dataset in datasets_in(cfg):
        for what in ('relabel', 'drop') if path[0] == 'train_dataloader' else ():  # an image in both is dropped
            noted = dataset.get(what)
            if noted is None:
                continue
            decisions = _read(noted, what, Path(checkpoint))
            if decisions is None:
                file = noted if isinstance(noted, str) else noted['file']
                notes.append(
                    f'The decisions to {what} that the training used are lost: {file} is missing or has changed. They '
                    'are not in the table of this audit, which has the labels of the training.'
                )
                continue
            images = [DecidedImage(name, label, 'keep') for name, label in decisions.keep.items()]
            images += [DecidedImage(name, label, 'relabel', new) for name, (label, new) in decisions.relabel.items()]
            images += [DecidedImage(name, label, 'drop') for name, label in decisions.drop.items()]
            for image in images:
                name = image.name.removeprefix(above)
                if not root:  # of several folders, of which one has it: named as a whole path, as the audit does
                    files = (os.path.abspath(os.path.join(folder, name)) for folder in folders)
                    name = next(filter(os.path.isfile, files), name)
                if image.decision != 'keep' or name_key(name) not in found:
                    found[name_key(name)] = image._replace(name=name)
    return list(found.values()), list(dict.fromkeys(notes))


def _folder(dataset: Mapping[str, Any]) -> str:
    """Return the folder that an ImageFolder's paths start from."""
    prefix = dataset.get('data_prefix') or ''
    prefix = prefix if isinstance(prefix, str) else prefix.get('img_path', '')
    return os.path.join(os.path.expanduser(dataset.get('data_root') or ''), prefix)


def name_key(name: str) -> str:
    """Normalize a path for comparison with other spellings of it."""
    return unicodedata.normalize('NFC', os.path.normpath(name))


def _read(noted: Any, what: str, checkpoint: Path) -> Optional[LabelDecisions]:
    settings = dict(file=noted) if isinstance(noted, str) else dict(noted)
    files = [settings['file']]
    if settings.get('digest'):  # else nothing tells whether a file of that name is the one
        name = os.path.basename(settings['file'])
        files = [str(folder / name) for folder in (checkpoint.parent, checkpoint.parent.parent)] + files
    for file in files:
        try:
            return read_decisions('audit', {**settings, 'file': file}, what)
        except (OSError, ValueError):
            continue
    return None
