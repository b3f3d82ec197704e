"""Findings about class folders: files that are not read, and classes that seem to lie one level below."""

import os
from collections.abc import Iterator, Mapping

from hybridcls.checks import counted, is_or_are, listed
from hybridcls.datasets import ImageFolder
from hybridcls.datasets.dataset_nodes import leaves_of
from hybridcls.datasets.image_files import (
    BESIDE_CLASSES,
    BROKEN,
    DROPPED,
    HIDDEN,
    NEEDS,
    UNREADABLE,
    files_below,
)

from .data_parts import DataPart
from .finding import NOTE, WARNING, Finding, named
from .subject import Subject

__all__ = ['check_folders']

_SILENT = (HIDDEN, UNREADABLE, DROPPED)  # meant, or told elsewhere


def check_folders(subject: Subject) -> Iterator[Finding]:
    """Look at what an ImageFolder leaves out, and at folders in class folders."""
    seen: list[str] = []
    for part in subject.parts.values():
        for leaf in leaves_of(part.dataset):
            is_folder = isinstance(leaf, ImageFolder) and (
                not leaf.ann_file or os.path.dirname(leaf.ann_file) == os.path.abspath(subject.work_dir)  # divided now
            )
            if is_folder and leaf.img_prefix not in seen:
                seen.append(leaf.img_prefix)
                left_out = files_below(leaf.img_prefix, leaf.extensions).left_out if leaf.ann_file else leaf.left_out
                yield from _left_out(part, leaf, left_out)
                if leaf.with_label:
                    yield from _nested(part, leaf)


def _left_out(part: DataPart, leaf: ImageFolder, left_out: Mapping[str, int]) -> Iterator[Finding]:
    reasons = {reason: count for reason, count in left_out.items() if reason not in _SILENT and count}
    told = {reason for reason in reasons if reason in (BROKEN, BESIDE_CLASSES) or NEEDS in reason}  # meant as images
    for reason, count in reasons.items():
        if reason in told:
            install = reason.partition(NEEDS)[2]
            yield Finding(
                WARNING, part.key,
                f'{counted(count, "file")} of {leaf.img_prefix} {is_or_are(count)} not read: {reason}.',
                f'{install}, or convert them' if install else
                'move them into the folder of their class, or delete them',
            )  # fmt: skip
    others = {reason: count for reason, count in reasons.items() if reason not in told}
    if others:
        text = listed((f'{reason} {count}' for reason, count in others.items()), 5)
        yield Finding(NOTE, part.key, f'{counted(sum(others.values()), "file")} of {leaf.img_prefix} left out: {text}.')


def _nested(part: DataPart, leaf: ImageFolder) -> Iterator[Finding]:
    """Folders below class folders are allowed: the images at any depth are of the class."""
    below: dict[str, set[str]] = {}
    for path in part.paths:
        name, *deeper = os.path.relpath(path, leaf.img_prefix).split(os.sep)[:-1] or ['..']
        if name != '..':  # of another dataset of the same part
            below.setdefault(name, set()).add(deeper[0] if deeper else '')
    nested = {name: sorted(inner) for name, inner in below.items() if '' not in inner and len(inner) > 1}
    if not nested or len(below) < 2:
        return
    examples = named(f'{name} ({listed(inner, 3)})' for name, inner in nested.items())
    is_same = len({tuple(inner) for inner in nested.values()}) == 1 and len(nested) == len(below)
    yield Finding(
        WARNING if is_same or len(nested) < len(below) else NOTE, part.key,
        f'{counted(len(nested), "class", "classes", of=len(below))} of {part.split} with all images in inner folders, '
        f'whose names are not read: {examples}.',
        f'if the inner folders are the classes, move them up into {leaf.img_prefix}, or list the images in an ann_file',
    )  # fmt: skip
