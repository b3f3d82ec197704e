"""Find the test images, or else the validation images, of a training's config."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
from PIL import Image

from hybridcls.checks import counted
from hybridcls.registry import DATASETS

from ..held_out_images import held_out_images, split_file_of, training_dataset
from ..image_inputs import Item
from ..inferencer import HybridInferencer

__all__ = ['ConfiguredImages', 'calibration_place', 'configured_images', 'listed_images', 'place_of']

# How images are read, not which: two datasets that differ in these alone list the same images.
_READING = ('pipeline', 'test_mode', 'lazy_init', 'serialize_data', 'max_refetch', 'cache', 'verify', 'on_unreadable')
_ADVICE = 'Type --data FOLDER with labelled images that the model was not trained on.'


class ConfiguredImages(NamedTuple):
    """The images that a config names.

    Args:
        items (list[Item]): With the names of their classes as labels.
        place (str): Where they are, for people.
        note (str): A sentence: which they are, and why these.
    """

    items: list[Item]
    place: str
    note: str


def configured_images(model: HybridInferencer, moved: Optional[str] = None) -> ConfiguredImages:
    """List the images of ``test_dataloader``, or else those of ``val_dataloader``.

    Args:
        model (HybridInferencer): With a config.
        moved (str, optional): Where the folder of the training images is now; other images that were in the same
            ``data_root`` are looked for beside it. Defaults to None: where it was.

    Raises:
        FileNotFoundError: If the config has neither, or the images are not where it says.
        ValueError: If they have no labels, or the dataset does not tell its images one by one.
    """
    loaders = {kind: model.config.get(f'{kind}_dataloader') for kind in ('test', 'val')}
    found = {kind: _plain(one['dataset']) for kind, one in loaders.items() if one and one.get('dataset')}
    kind = next(iter(found), None)
    if kind is None:
        raise FileNotFoundError(f'report: the config of {model.checkpoint_path} names neither test nor val. {_ADVICE}')
    if moved is not None:
        _move(found, training_dataset(model.config), moved)
    dataset = found[kind]
    if dataset.get('on_unreadable') == 'skip':  # a test leaves such images out: here they are listed, and then counted
        dataset.update(on_unreadable='error', verify=False)
    is_validation = kind == 'val' or _same_images(dataset, found.get('val'))
    place = place_of(dataset, model.checkpoint_path)
    split = 'validation' if is_validation else 'test'
    if place is not None and not os.path.exists(place):
        where = os.path.abspath(place)
        raise FileNotFoundError(f"report: the images of the training's {split}, {where}, are not there. {_ADVICE}")
    try:
        items = _items_of(DATASETS.build(dict(dataset)), model)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"report: the images of the training's {split} cannot be listed: {error} {_ADVICE}"
        ) from error
    where = place or f'{dataset["type"].rpartition(".")[2]} ({split})'
    images = counted(len(items), f'{split} image')
    note = f'The {images} that the config of the training names ({where}).'
    if is_validation:
        note += ' It names no test images. If the checkpoint was chosen by these images, the results are too good.'
    return ConfiguredImages(items, where, note)


def _move(datasets: Mapping[str, dict[str, Any]], training: Mapping[str, Any], folder: str) -> None:
    """Replace the training's ``data_root`` in datasets by today's; ``folder`` may be its former subfolder."""
    old, prefix = training.get('data_root'), training.get('data_prefix') or ''
    end = os.path.normpath(prefix) if isinstance(prefix, str) and prefix else ''
    new = os.path.abspath(folder)
    if end and new.endswith(os.sep + end):
        new = new[: -len(end) - 1]
    for dataset in datasets.values():
        if old and dataset.get('data_root') == old:
            dataset['data_root'] = new


def calibration_place(model: HybridInferencer, items: Sequence[Item]) -> Optional[str]:
    """Return a folder or table for ``hybridcls calibrate --data`` that holds none of the report's images.

    Args:
        model (HybridInferencer): Whose config names its validation and its test.
        items (Sequence[Item]): The images of the report.

    Returns:
        str: The folder or table of the validation, or else of the test; None if neither will do.
    """
    reported = {_real(item) for item in items}
    for kind in ('val', 'test'):
        dataset = _plain((model.config.get(f'{kind}_dataloader') or {}).get('dataset') or {})
        place = place_of(dataset, model.checkpoint_path)
        if place is None:
            continue
        with suppress(OSError, ValueError):
            found, _ = held_out_images(place, model.checkpoint_path, model.config)
            if found and not reported & {_real(item) for item in found}:
                return place
    return None


def _real(item: Item) -> str:
    return os.path.realpath(str(item.path))


def listed_images(dataset: Mapping[str, Any], model: HybridInferencer) -> Optional[list[Item]]:
    """List the existing images of a dataset's config; None if there are none."""
    plain = _plain(dataset)
    place = place_of(plain, model.checkpoint_path) if plain else None
    if not plain or (place is not None and not os.path.exists(place)):
        return None
    try:
        return _items_of(DATASETS.build(plain), model)
    except (OSError, ValueError):
        return None


def _items_of(dataset: Any, model: HybridInferencer) -> list[Item]:
    if not hasattr(dataset, 'get_data_info'):
        raise ValueError(f'{type(dataset).__name__} does not tell its images one by one.')
    names = (getattr(dataset, 'metainfo', None) or {}).get('classes') or model.classes
    items = []
    for number in range(len(dataset)):
        info: Mapping[str, Any] = dataset.get_data_info(number)
        path = info.get('img_path')
        labels = np.ravel(info.get('gt_label', ()))
        label = '|'.join(str(names[int(one)]) for one in labels)
        if not len(labels) and not model.multi_label:
            raise ValueError(f'{type(dataset).__name__} has images without a label.')
        items.append(Item(f'image {number}' if path is None else path, _pixels(info) if path is None else path, label))
    return items


def _pixels(info: Mapping[str, Any]) -> Any:
    image = info['img']
    return (
        Image.fromarray(image[..., ::-1].copy() if image.ndim == 3 else image)
        if isinstance(image, np.ndarray)
        else image
    )


def _plain(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a dataset that lists its images without reading them."""
    inside: dict[str, Any] = {
        key: _plain(dataset[key]) for key in ('dataset',) if isinstance(dataset.get(key), Mapping)
    }
    if dataset.get('datasets'):
        inside['datasets'] = [_plain(one) for one in dataset['datasets']]
    return {**dataset, **inside, **({'pipeline': []} if dataset.get('pipeline') else {})}


def place_of(dataset: dict[str, Any], checkpoint: str) -> Optional[str]:
    """Return the folder or table that the dataset needs; one that moved with its work dir is found again."""
    for key in ('drop', 'relabel'):
        noted = dataset.get(key)
        if isinstance(noted, Mapping) and not os.path.exists(noted['file']):
            dataset[key] = {**noted, 'file': str(Path(checkpoint).resolve().parent / Path(noted['file']).name)}
    root = dataset.get('data_root')
    if not isinstance(root, str) or not root or '://' in root:
        return None
    root = os.path.expanduser(root)
    table = dataset.get('ann_file')
    if table:
        file = os.path.join(root, table)
        beside = split_file_of(checkpoint)
        if not os.path.exists(file) and beside is not None and beside.name == Path(file).name:
            dataset['ann_file'] = file = str(beside.resolve())
        return file if os.path.exists(root) else root
    prefix = dataset.get('data_prefix') or ''
    return os.path.join(root, prefix) if isinstance(prefix, str) and prefix else root


def _same_images(one: Mapping[str, Any], other: Optional[Mapping[str, Any]]) -> bool:
    return other is not None and _choice_of(one) == _choice_of(other)


def _choice_of(dataset: Any) -> Any:
    """Return the settings that may choose images: for a dataset of another class, any of them, whatever its name."""
    if isinstance(dataset, Mapping):
        return {key: _choice_of(one) for key, one in dataset.items() if key not in _READING and one is not None}
    return [_choice_of(one) for one in dataset] if isinstance(dataset, (list, tuple)) else dataset
