"""Turn paths, folders, tables, arrays and the like into a stream of images, in order."""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import numpy as np
from PIL import Image
from torch import Tensor

from hybridcls.checks import counted, listed, near_files
from hybridcls.datasets.annotation_file import TABLES, read_rows
from hybridcls.datasets.image_files import files_below
from hybridcls.datasets.image_formats import readable_extensions

__all__ = ['ImageInputs', 'Item', 'is_one_image', 'read_inputs']


class Item(NamedTuple):
    """One image.

    Args:
        path (str, optional): As it was given, for the answer; None for an image in memory.
        source (Any): What the pipeline reads: a path, or ``img`` of LoadImage (an image of Pillow, or bytes).
        label (str, optional): What the table says of its class (of several labels ``a|b``, ``''`` without one), or the
            name of the first folder below the one given.
    """

    path: Optional[str]
    source: Any
    label: Optional[str] = None

    def as_sample(self) -> dict[str, Any]:
        """Return what a pipeline of transforms begins with."""
        return dict(img_path=self.source) if isinstance(self.source, str) else dict(img=self.source)


@dataclass
class ImageInputs:
    """Images in order.

    Args:
        items (Iterable[Item]): The images; a generator's are read when their turn comes.
        total (int, optional): How many there are, if that is known.
    """

    items: Iterable[Item]
    total: Optional[int] = None


def read_inputs(inputs: Any, caller: str = 'predict') -> ImageInputs:
    """Find the images that ``inputs`` stands for.

    - A path (or address) of an image; a folder: all images below it, sorted; a pattern (``photos/**/*.jpg``), sorted;
      a table (``.csv``, ``.tsv``) with a column ``path``, relative to the table, and perhaps ``label``.
    - An image of Pillow, of any mode; an array ``(H, W)`` or ``(H, W, 3 or 4)`` uint8, RGB, or ``(N, H, W, 3)``; a
      tensor ``(C, H, W)`` or ``(N, C, H, W)``, RGB, uint8 or floats in [0, 1], which are rounded to 8 bits; bytes of a
      file; a file object.
    - A list of these, of which each may be a folder or a pattern; or any other iterable of them, which is read
      while the answers are asked for.

    Args:
        inputs: Any of these.
        caller (str): Who asks, for messages about paths. Defaults to ``'predict'``.

    Raises:
        FileNotFoundError: If a single path does not exist, or there is no image.
        TypeError: If it is something else, an array of floats for one.
        ValueError: If an array or tensor is no RGB or grey image, or a table cannot be read.
    """
    if isinstance(inputs, (str, os.PathLike)):
        items = _of_path(os.fspath(inputs), caller, must_exist=True)
        return ImageInputs(items, len(items))
    if isinstance(inputs, (list, tuple)):
        if not inputs:
            raise FileNotFoundError(f'{caller}: expected images, got an empty list.')
        items = [item for one in inputs for item in _items_of(one, caller)]
        return ImageInputs(items, len(items))
    if _is_in_memory(inputs):
        items = list(_items_of(inputs, caller))
        return ImageInputs(items, len(items))
    if isinstance(inputs, Mapping) or not isinstance(inputs, Iterable):
        raise TypeError(
            f'{caller}: expected a path, a folder, an image of Pillow, an array, a tensor, bytes, a file or an '
            f'iterable of these, got {type(inputs).__name__}.'
        )
    return ImageInputs(item for one in inputs for item in _items_of(one, caller))


def is_one_image(inputs: Any) -> bool:
    """Whether ``inputs`` stands for one image and no more, whatever is in it."""
    if isinstance(inputs, (str, os.PathLike)):
        path = os.fspath(inputs)
        return '://' in path or (os.path.isfile(path) and not path.lower().endswith(TABLES))
    return _is_in_memory(inputs) and getattr(inputs, 'ndim', 3) < 4


def _items_of(one: Any, caller: str) -> Iterator[Item]:
    if isinstance(one, (str, os.PathLike)):
        yield from _of_path(os.fspath(one), caller)
    elif isinstance(one, (np.ndarray, Tensor)) and one.ndim == 4:
        yield from (Item(None, _from_memory(image)) for image in one)
    else:
        yield Item(None, _from_memory(one))


def _of_path(path: str, caller: str, must_exist: bool = False) -> list[Item]:
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        return _of_folder(path, caller)
    is_there = os.path.exists(path)
    if path.lower().endswith(TABLES) and '://' not in path and (is_there or must_exist):
        return _of_table(path, caller)
    if not is_there and glob.has_magic(path) and '://' not in path:
        found = sorted(name for name in glob.glob(path, recursive=True) if os.path.isfile(name))
        kept = [name for name in found if name.lower().endswith(readable_extensions())]
        if not kept:
            what = f'{counted(len(found), "file")} without the extension of an image' if found else 'no file'
            raise FileNotFoundError(f'{caller}: expected images for the pattern {path!r}, got {what}.')
        return [Item(name, name) for name in kept]
    if must_exist and not is_there and '://' not in path:
        raise FileNotFoundError(f'{caller}: the image {path!r} does not exist.{near_files(path)}')
    return [Item(path, path)]


def _of_folder(folder: str, caller: str) -> list[Item]:
    extensions = readable_extensions()
    images, left_out = files_below(folder, extensions)
    if not images:
        there = ', '.join(f'{what} ({count})' for what, count in left_out.most_common(8))
        others = f'; there are other files: {there}' if there else ''
        raise FileNotFoundError(
            f'{caller}: expected images below {folder!r}, got none{others}. The extensions of images are '
            f'{listed(extensions, 40)}.'
        )
    items = []
    for name in sorted(images, key=lambda path: path.split(os.sep, 1)):  # as ImageFolder, so that batches are a test's
        first, _, rest = name.partition(os.sep)
        path = os.path.join(folder, name)
        items.append(Item(path, path, first if rest else None))
    return items


def _of_table(path: str, caller: str) -> list[Item]:
    if not os.path.isfile(path):
        raise FileNotFoundError(f'{caller}: the table {path!r} does not exist.{near_files(path)}')
    has_labels = True
    try:
        rows, _ = read_rows(caller, path, with_label=True, multi_label=True)
    except ValueError:  # it has no column of labels
        has_labels = False
        rows, _ = read_rows(caller, path, with_label=False)
    folder = os.path.dirname(path)
    return [
        Item(
            row.path,
            row.path if '://' in row.path else os.path.join(folder, row.path),
            row.label if has_labels else None,
        )
        for row in rows
    ]


def _is_in_memory(image: Any) -> bool:
    return isinstance(image, (Image.Image, np.ndarray, Tensor, bytes, bytearray, memoryview)) or hasattr(image, 'read')


def _from_memory(image: Any) -> Any:
    """Turn an image in memory into what LoadImage takes, which shares no memory with it."""
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if hasattr(image, 'read'):
        content = image.read()
        if not isinstance(content, bytes):
            raise TypeError("predict: expected a file opened for reading bytes, got text. Open it with mode 'rb'.")
        return content
    if isinstance(image, Tensor):
        return _from_array(_array_of_tensor(image))
    if isinstance(image, np.ndarray):
        return _from_array(image)
    raise TypeError(f'predict: expected an image or a path, got {type(image).__name__}.')


def _array_of_tensor(image: Tensor) -> np.ndarray:
    """Return a (C, H, W) tensor as (H, W, C) uint8."""
    image = image.detach().cpu()
    if image.ndim == 2:
        image = image[None]
    if image.ndim != 3 or image.shape[0] not in (1, 3, 4):
        raise ValueError(
            f'predict: expected a tensor (C, H, W) with 1, 3 or 4 channels (RGB), got shape {tuple(image.shape)}. '
            'Images with the channels last are passed as arrays: image.numpy().'
        )
    if image.is_floating_point():
        low, high = float(image.min()), float(image.max())
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f'predict: expected a tensor of floats in [0, 1], got values from {low:.3g} to {high:.3g}. Pass the '
                'image before it is normalized, or as uint8.'
            )
        image = (image.double() * 255).round().byte()
    return image.permute(1, 2, 0).numpy()


def _from_array(array: np.ndarray) -> Image.Image:
    """Return an array (H, W) or (H, W, C), RGB, as an image of Pillow with memory of its own."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype not in (np.uint8, np.uint16) or (array.dtype == np.uint16 and array.ndim != 2):
        raise TypeError(
            f'predict: expected an array of uint8 (grey ones may be uint16), got {array.dtype} of shape {array.shape}. '
            'Type: (image * 255).round().astype(np.uint8) if its values are in [0, 1].'
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(
            f'predict: expected an array (H, W) or (H, W, 3) with the channels last and RGB, got shape {array.shape}. '
            'Type: image.transpose(1, 2, 0) if the channels are first.'
        )
    return Image.fromarray(np.array(array))
