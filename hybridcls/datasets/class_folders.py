"""Class folders: whether they are the classes, which number each has, and what to do where there are none."""

import os
from collections.abc import Sequence
from typing import Any, Optional, Union

from mmengine.fileio import isdir
from mmpretrain.datasets.custom import find_folders

from hybridcls.checks import did_you_mean, listed

__all__ = ['check_image_folder', 'check_level', 'number_folders']

# Folders of these names are the parts of a data set, not its classes.
_PARTS = {'train', 'training', 'val', 'valid', 'validation', 'dev', 'test', 'testing'}


def check_image_folder(folder: str, data_root: str, data_prefix: Union[str, dict]) -> None:
    """Raise a FileNotFoundError, with the key to change, if the folder of the images does not exist.

    Args:
        folder (str): ``data_prefix`` below ``data_root``.
        data_root (str): As given.
        data_prefix (str | dict): As given.
    """
    if isdir(folder or '.'):
        return
    said = (
        f'ImageFolder: the folder {os.path.abspath(folder)} does not exist '
        f'(data_root={data_root!r}, data_prefix={data_prefix!r}).'
    )
    if data_root and isdir(data_root):
        names = sorted(find_folders(data_root)[0])
        holds = f'holds the folders {listed(names)}' if names else 'holds no folder'
        near = did_you_mean(os.path.basename(folder), names)
        raise FileNotFoundError(
            f"{said} {os.path.abspath(data_root)} is there and {holds}.{near} Set this dataset's data_prefix to one "
            'of them, or the top-level data_root of the config to another place.'
        )
    raise FileNotFoundError(
        f'{said} Set the top-level data_root of the config to where your images are: '
        '--cfg-options data_root=/path/to/your/images'
    )


def check_level(folder: str, prefix: str, classes: Sequence[str], images: Sequence[str]) -> str:
    """Raise, or return a warning, if the class folders look as if the classes were one level below them.

    Args:
        folder (str): What holds the class folders.
        prefix (str): The ``data_prefix`` that leads there, for the advice.
        classes (Sequence[str]): The names of the class folders.
        images (Sequence[str]): Paths of the images below ``folder``.

    Returns:
        str: A sentence for the log, or an empty one.

    Raises:
        ValueError: If they are parts of a data set (``train``, ``val``), or there is only one, which holds folders.
    """
    below: dict[str, set] = {name: set() for name in classes}
    for path in images:
        name, *deeper = path.split(os.sep)[:-1]
        below[name].add(deeper[0] if deeper else None)
    nested = bool(images) and all(names and None not in names for names in below.values())
    if classes and {name.lower() for name in classes} <= _PARTS:
        problem = f'{", ".join(classes)}: parts of a data set'
    elif len(classes) == 1 and nested:
        problem = f'only {classes[0]}, which holds no image itself but the folders {listed(sorted(below[classes[0]]))}'
    else:
        return _warning_about(folder, prefix, classes, below, nested)
    raise ValueError(
        f'ImageFolder: expected class folders in {folder}, got {problem}. Set '
        f'data_prefix={os.path.join(prefix, classes[0])!r} in this data set, or classes={list(classes)} if these '
        'are the classes.'
    )


def _warning_about(folder: str, prefix: str, classes: Sequence[str], below: dict[str, set], nested: bool) -> str:
    if len(classes) == 1:
        return (
            f'ImageFolder: {folder} has one class folder, {classes[0]}: with one class there is nothing to '
            "learn, and a top-1 of 100 % means nothing. Set data_prefix, or this data set's data_root, to the "
            'folder that holds the class folders.'
        )
    if nested and len(set(map(frozenset, below.values()))) == 1:
        return (
            f'ImageFolder: the class folders {listed(classes)} of {folder} all hold the folders '
            f'{listed(sorted(below[classes[0]]))}. If those are the classes, set '
            f'data_prefix={os.path.join(prefix, classes[0])!r}.'
        )
    return ''


def number_folders(
    folder: str, names: Sequence[str], classes: Optional[Sequence[str]]
) -> tuple[dict[str, int], dict[str, Any]]:
    """Number the class folders: by name, or in alphabetical order where ``classes`` are titles of them.

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
    if classes is None:
        classes = tuple(names)
        metainfo['classes'] = classes
    classes = list(classes)
    if set(names) <= set(classes):
        return {name: classes.index(name) for name in names}, metainfo
    if len(names) == len(classes) and not set(names) & set(classes):
        return {name: number for number, name in enumerate(names)}, dict(metainfo, class_folders=tuple(names))
    strange = sorted(set(names) - set(classes))
    raise ValueError(
        f'ImageFolder: {folder} has the folders {listed(strange)}, '
        f'which are not among the {len(classes)} classes.{did_you_mean(strange[0], classes)} '
        'classes are names of folders, or as many titles as there are folders; a validation or test folder needs '
        'none, since it is matched with the training by the names of its folders.'
    )
