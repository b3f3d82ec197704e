"""Class folders: check whether they are the classes, number them, and report where there are none."""

import os
from collections.abc import Sequence
from typing import Any, Optional, Union
from unicodedata import normalize

from mmengine.fileio import isdir
from mmpretrain.datasets.custom import find_folders

from hybridcls.checks import did_you_mean, listed

from .image_files import is_hidden
from .split_names import split_named

__all__ = ['check_image_folder', 'check_level', 'folders_in', 'number_folders']


def folders_in(folder: str) -> list[str]:
    """Return the names of the folders in a folder that are not hidden, in alphabetical order."""
    return [name for name in find_folders(folder)[0] if not is_hidden(name)]


def check_image_folder(folder: str, data_root: str, data_prefix: Union[str, dict]) -> None:
    """Raise a FileNotFoundError, with the key to change, if the folder of the images does not exist.

    Args:
        folder (str): ``data_prefix`` below ``data_root``.
        data_root (str): As given.
        data_prefix (str | dict): As given.
    """
    if isdir(folder or '.'):
        return
    text = (
        f'ImageFolder: the folder {os.path.abspath(folder)} does not exist '
        f'(data_root={data_root!r}, data_prefix={data_prefix!r}).'
    )
    if data_root and isdir(data_root):
        names = sorted(find_folders(data_root)[0])
        content = f'contains the folders {listed(names)}' if names else 'contains no folder'
        near = did_you_mean(os.path.basename(folder), names)
        raise FileNotFoundError(
            f"{text} {os.path.abspath(data_root)} exists and {content}.{near} Set this dataset's data_prefix to one "
            'of them, or change the top-level data_root of the config.'
        )
    raise FileNotFoundError(
        f'{text} Set the top-level data_root of the config to the folder of your images: '
        '--cfg-options data_root=/path/to/your/images'
    )


def check_level(folder: str, prefix: str, classes: Sequence[str], images: Sequence[str]) -> str:
    """Raise, or return a warning, if the classes seem to be one level below the folders.

    Args:
        folder (str): What holds the class folders.
        prefix (str): The ``data_prefix`` that leads there, for the advice.
        classes (Sequence[str]): The names of the class folders.
        images (Sequence[str]): Paths of the images below ``folder``.

    Returns:
        str: A sentence for the log, or an empty one.

    Raises:
        ValueError: If they are splits of a dataset (``train``, ``val``), or there is only one, which holds folders.
    """
    below: dict[str, set] = {name: set() for name in classes}
    for path in images:
        name, *deeper = path.split(os.sep)[:-1]
        below[name].add(deeper[0] if deeper else None)
    nested = bool(images) and all(names and None not in names for names in below.values())
    if classes and all(split_named(name) for name in classes):
        problem = f'{", ".join(classes)}: splits of a dataset'
    elif len(classes) == 1 and nested:
        inner = sorted(below[classes[0]])
        problem = f'only {classes[0]}, which contains no image but the folders {listed(inner)}'
        if all(split_named(name) for name in inner):
            raise ValueError(
                f'ImageFolder: expected class folders in {folder}, got {problem}: splits of a dataset. Set '
                f'data_root={os.path.join(folder, classes[0])!r}.'
            )
    else:
        return _warning_about(folder, prefix, classes, below, nested)
    raise ValueError(
        f'ImageFolder: expected class folders in {folder}, got {problem}. Set '
        f'data_prefix={os.path.join(prefix, classes[0])!r} in this dataset, or classes={list(classes)} if these '
        'are the classes.'
    )


def _warning_about(folder: str, prefix: str, classes: Sequence[str], below: dict[str, set], nested: bool) -> str:
    if len(classes) == 1:
        return (
            f'ImageFolder: {folder} has one class folder, {classes[0]}: with one class, any model has a top-1 '
            "of 100 %. Set data_prefix, or this dataset's data_root, to the folder of the class folders."
        )
    if nested and len(set(map(frozenset, below.values()))) == 1:
        return (
            f'ImageFolder: the class folders {listed(classes)} of {folder} all contain the folders '
            f'{listed(sorted(below[classes[0]]))}. If those are the classes, set '
            f'data_prefix={os.path.join(prefix, classes[0])!r}.'
        )
    return ''


def number_folders(
    folder: str, names: Sequence[str], classes: Optional[Sequence[str]]
) -> tuple[dict[str, int], dict[str, Any]]:
    """Number the class folders: by ``classes``, or in alphabetical order if those are display names.

    Args:
        folder (str): What holds them, for the message.
        names (Sequence[str]): Their names, in alphabetical order.
        classes (Sequence[str], optional): What the config says; None: the folders are the classes.

    Returns:
        tuple[dict[str, int], dict[str, Any]]: The number of each folder, and what ``metainfo`` should say of it.

    Raises:
        ValueError: If there are folders that ``classes`` does not name.
    """
    metainfo: dict[str, Any] = {}
    composed = {name: normalize('NFC', name) for name in names}  # macOS writes some letters as two characters
    if classes is None:
        classes = tuple(dict.fromkeys(composed.values()))
        metainfo['classes'] = classes
    number_of = {normalize('NFC', name): number for number, name in reversed([*enumerate(classes)])}
    found = set(composed.values())
    if found <= number_of.keys():
        return {name: number_of[title] for name, title in composed.items()}, metainfo
    if len(names) == len(classes) and not found & number_of.keys():
        return {name: number for number, name in enumerate(names)}, dict(metainfo, class_folders=tuple(names))
    strange = sorted(found - number_of.keys())
    raise ValueError(
        f'ImageFolder: expected the folders of {folder} to be among the {len(classes)} '
        f'classes, got {listed(strange)}.{did_you_mean(strange[0], classes)} Set classes to the names of the '
        'folders, or to one title for each; a validation or test folder needs no classes: its folders are matched '
        'with those of the training data by name.'
    )
