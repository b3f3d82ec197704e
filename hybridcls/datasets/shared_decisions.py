"""One table of decisions for several datasets: whose image is each line about?"""

import os
from collections.abc import Sequence
from typing import Optional

from mmengine.fileio import get

from hybridcls.checks import counted, decode_text, did_you_mean, has_raw_bytes, is_or_are, listed, verb_of

from .image_folder import ImageFolder
from .label_decisions import LabelDecisions

__all__ = ['check_shared_decisions']


def check_shared_decisions(datasets: Sequence[ImageFolder], others: Sequence[ImageFolder] = ()) -> list[str]:
    """Check tables of decisions that several datasets share, before each applies the lines of its own images.

    A line is about the one image that its path names: in whichever dataset it is. An image in several of them (a folder
    that is read twice) is decided on in each.

    Args:
        datasets (Sequence[ImageFolder]): With the tables, as ``dict(file=..., shared=True)``. Their images are listed.
        others (Sequence[ImageFolder]): Those beside them without a table, which explain a path that is not found and
            have images of classes, too. Defaults to none.

    Returns:
        list[str]: A sentence for each table that decides on images of another split.

    Raises:
        ValueError: If a path is no image of any dataset, or of several different ones; if a table is of other labels or
            classes; or if the decisions leave no image of a class.
    """
    found = [dataset.found_images() for dataset in datasets]
    beside = [dataset.found_images() for dataset in others]
    images = [{_place(info) for info in infos} for infos in found]
    elsewhere = {_place(info): other for other, infos in zip(others, beside, strict=True) for info in infos}
    said: list[str] = []
    tables: dict[tuple[str, str], tuple[str, LabelDecisions, list[int]]] = {}
    for number, dataset in enumerate(datasets):
        for what, decisions in dataset.decisions.items():
            tables.setdefault((what, decisions.digest), (what, decisions, []))[2].append(number)
    for what, decisions, numbers in tables.values():
        every = list(getattr(decisions, what))
        missing = [path for path in every if not _of(path, numbers, datasets, images, decisions)]
        left = [path for path in missing if any(datasets[number].is_elsewhere(path) for number in numbers)]
        unknown = [path for path in missing if path not in set(left)]
        if unknown:
            _refuse(unknown, len(every), decisions, [datasets[number] for number in numbers], found, elsewhere)
        if left:
            said.append(
                f'{counted(len(left), "image")} with the decision {what} in {decisions.file} '
                f'{is_or_are(len(left))} in another split: left as {verb_of(len(left), "it is", "they are")}.'
            )
    _check_classes(datasets, found, beside, others)
    return said


def _of(
    path: str,
    numbers: Sequence[int],
    datasets: Sequence[ImageFolder],
    images: Sequence[set[str]],
    decisions: LabelDecisions,
) -> bool:
    """Return whether a dataset has the image; raise if several have different ones of that path."""
    places = {datasets[number].place_of(path): number for number in numbers}
    there = [place for place, number in places.items() if place in images[number]]
    if len(there) > 1:
        raise ValueError(
            f'ImageFolder: expected a path of one image in {decisions.file}, got {path!r}, which is in '
            f'{counted(len(there), "training dataset")}: {listed(there, 3)}. Write the absolute path of the image that '
            'you mean.'
        )
    return bool(there)


def _refuse(
    unknown: Sequence[str],
    count: int,
    decisions: LabelDecisions,
    datasets: Sequence[ImageFolder],
    found: Sequence[Sequence[dict]],
    elsewhere: dict[str, ImageFolder],
) -> None:
    path = unknown[0]
    if has_raw_bytes(path):  # of no file: the table has another encoding, and this says so
        decode_text('ImageFolder', decisions.file, get(decisions.file))
    folders = listed(dict.fromkeys(os.path.abspath(one.ann_file or one.img_prefix) for one in datasets))
    other: Optional[ImageFolder] = next(
        (one for place, one in elsewhere.items() if place in (path, one.place_of(path))), None
    )
    if other is not None:
        advice = f'It is one of {os.path.abspath(other.img_prefix)}, which does not take this table: set it there, too.'
    elif len(unknown) == count > 1:
        advice = 'No line of the table names one: it is of other data, or the images have moved.'
    else:
        name = os.path.basename(path)
        named = [info['img_path'] for infos in found for info in infos if os.path.basename(info['img_path']) == name]
        near = named[:3] or _near(path, found)
        suggested = f' Did you mean {" or ".join(map(repr, near))}?' if near else ''
        advice = f'{suggested.strip()} Correct the path, or delete the line.'.strip()
    more = f' (and {len(unknown) - 1} more)' if len(unknown) > 1 else ''
    raise ValueError(
        f'ImageFolder: expected images of the training in {decisions.file}, got {path!r}{more}, which none of its '
        f'datasets has ({folders}). {advice}'
    )


def _near(path: str, found: Sequence[Sequence[dict]]) -> list[str]:
    names = {os.path.basename(info['img_path']): info['img_path'] for infos in found for info in infos}
    text = did_you_mean(os.path.basename(path), names)
    return [whole for name, whole in names.items() if repr(name) in text][:3]


def _check_classes(
    datasets: Sequence[ImageFolder],
    found: Sequence[list[dict]],
    beside: Sequence[list[dict]],
    others: Sequence[ImageFolder],
) -> None:
    """Apply the decisions, and raise if a class loses its last image in all datasets together."""
    before = {name for dataset, infos in zip(datasets, found, strict=True) for name in _classes(dataset, infos)}
    after = {name for other, infos in zip(others, beside, strict=True) for name in _classes(other, infos)}
    known = sorted(before | after | {name for one in datasets for name in one.metainfo.get('classes') or ()})
    for decisions in {id(one): one for dataset in datasets for one in dataset.decisions.values()}.values():
        for path, (_, new) in decisions.relabel.items():
            if new not in known:
                raise ValueError(
                    f'ImageFolder: expected classes of the training ({listed(known, 5)}) in {decisions.file}, got '
                    f'{new!r} of {path!r}.{did_you_mean(new, known)}'
                )
    for dataset, infos in zip(datasets, found, strict=True):
        after.update(_classes(dataset, dataset.decided(infos)))
    lost = sorted(before - after)
    if lost:
        datasets[0].report_lost(lost)


def _classes(dataset: ImageFolder, infos: Sequence[dict]) -> set[str]:
    names = dataset.metainfo.get('classes') or ()
    numbers: set[int] = set()
    for info in infos:
        label = info.get('gt_label', ())
        numbers.update(label if isinstance(label, (list, tuple)) else [label])
    return {names[number] for number in numbers}


def _place(info: dict) -> str:
    path = info['img_path']
    return path if '://' in path else os.path.abspath(path)
