"""Cache the decoded images of a dataset, in memory or in one memory-mapped file shared by all processes."""

import contextlib
import hashlib
import json
import mmap
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Optional, Union

import cv2
import mmcv
import numpy as np
import PIL
import torch
from mmcv.transforms import CenterCrop, Resize
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.logging import print_log
from mmpretrain.datasets.transforms import ResizeEdge

from hybridcls.checks import check_choice, check_known_keys, check_number
from hybridcls.structures import PREPROCESSING_VERSION

from .cache_limit import cache_limit, gigabytes, too_large
from .transforms.image_views import ImageViews
from .transforms.load_image import LoadImage, UnreadableImageError, record
from .transforms.pack_inputs import PackInputs
from .transforms.resizing import CenterCropToSize, RandomCropToSize, ResizeToSize

__all__ = ['ImageCache', 'checked_cache']

# What comes out of these depends on what goes in alone, and they follow LoadImage into the cache.
_FIXED = (CenterCrop, CenterCropToSize, Resize, ResizeEdge, ResizeToSize)
_MAKES_NEW_IMAGE = (ImageViews, PackInputs, RandomCropToSize)  # others may write to the image that they get
_SAMPLED = 32
_START, _HEIGHT, _WIDTH, _CHANNELS, _RECORD = range(5)  # of an image: its first byte; its shape; bytes of its keys
_DIGEST = 32


def checked_cache(cache: Union[str, Mapping, None]) -> Optional[dict]:
    """Return the settings of a cache with their defaults; None for no cache.

    Args:
        cache (str | dict, optional): ``'uint8'``, or a dictionary of

            - ``kind``: ``'uint8'``, the only one.
            - ``where``: ``'memory'`` (of each training process, shared with its workers) or ``'mapped'``: a file that
              all processes of a machine share, and the next run too. Defaults to ``'memory'``.
            - ``max_bytes``: The largest size. Defaults to None: half of the available memory, or nine tenths of the
              free space of the folder.
            - ``folder``: Where the file is. Defaults to None: a folder of the user in ``TMPDIR``. Trainings and tests
              fill it by the key ``cache_dir`` of the config, or by the work dir.

    Raises:
        ValueError: If a key or a value is unknown.
    """
    if cache is None:
        return None
    given = dict(kind=cache) if isinstance(cache, str) else dict(cache)
    check_known_keys('ImageFolder.cache', given, ('kind', 'where', 'max_bytes', 'folder'))
    settings = dict(kind='uint8', where='memory', max_bytes=None, folder=None) | given
    check_choice('ImageFolder.cache', 'kind', settings['kind'], ('uint8',))
    check_choice('ImageFolder.cache', 'where', settings['where'], ('memory', 'mapped'))
    if settings['max_bytes'] is not None:
        check_number('ImageFolder.cache', 'max_bytes', settings['max_bytes'], 1, integer=True)
    return settings


class ImageCache:
    """The images of a dataset after the first transforms of its pipeline: LoadImage and any fixed resizing after it.

    The file (or block of memory) has, for each image, its pixels and then the keys that the transforms have added, as
    JSON; behind them an index, where the index begins, and a digest of what was read: paths, sizes and times of the
    files, transforms, and versions of the decoders. A file with another digest is replaced in one step.

    Args:
        settings (dict): Of :func:`checked_cache`.
        name (str): What the dataset is, for the name of the file.
        infos (Sequence[dict]): ``img_path`` and ``file_number`` of each image.
        pipeline (Compose): The transforms, of which LoadImage is the first.

    Raises:
        ValueError: If LoadImage is not the first transform, if files are not local, or if the images are too large.
        OSError: If the file cannot be written.
    """

    def __init__(self, settings: dict, name: str, infos: Sequence[dict], pipeline: Any) -> None:
        self.settings = settings
        fixed = _fixed_steps(pipeline)
        if not fixed:
            raise ValueError(
                'ImageFolder: expected LoadImage as the first transform of the pipeline with a cache, got '
                f'{[type(step).__name__ for step in pipeline.transforms]}. Move it there, or remove cache.'
            )
        self._steps = repr(fixed)
        self._path = ''
        self._seen: Any = None
        self._rest: Optional[list] = None
        self._digest = b''
        began = time.perf_counter()
        file: IO[bytes]
        if settings['where'] == 'memory':
            with _memory_file() as file:
                self._build(file, infos, fixed, b'')
                self._open(file)
            what = 'made in memory'
        else:
            self._digest = _digest(infos, self._steps)
            self._path = str(_folder(settings) / hashlib.sha256(f'{name} {self._steps}'.encode()).hexdigest()[:16])
            with _locked(self._path):
                made = not _has_digest(self._path, self._digest)
                if made:
                    self._make_file(infos, fixed)
                with open(self._path, 'rb') as file:
                    self._open(file)
            what = f'made in {self._path}' if made else f'reused from {self._path}'
        print_log(
            f'ImageFolder: a cache of {len(infos):,} images, {gigabytes(len(self._bytes))}, {what} '
            f'({time.perf_counter() - began:.1f} s).',
            logger='current',
        )

    def run(self, info: dict, pipeline: Any) -> Any:
        """Return the output of the pipeline for an image, from the cache unless its first transforms have changed."""
        if pipeline is not self._seen:
            fixed = _fixed_steps(pipeline)
            # Of a dataset whose pipeline was replaced, or a loader that a checkpoint has told another version.
            self._rest = list(pipeline.transforms)[len(fixed) :] if repr(fixed) == self._steps else None
            self._seen = pipeline
        number = info['file_number']
        if self._rest is None or number >= len(self._index) or not self._index[number, _RECORD]:
            return pipeline(info)
        sample: Any = self._sample(info, number, next(iter(pipeline.transforms)))
        for step in self._rest:
            sample = step(sample)
            if sample is None:
                return None
        return sample

    def _sample(self, info: dict, number: int, loader: LoadImage) -> dict:
        start, *shape, size = self._index[number].tolist()
        shape = shape if shape[2] else shape[:2]
        end = start + int(np.prod(shape))
        image = self._bytes[start:end].reshape(shape)
        if not self._rest or not isinstance(self._rest[0], _MAKES_NEW_IMAGE):
            image = image.copy()
        sample = {**info, **_with_tuples(json.loads(self._bytes[end : end + size].tobytes()))}
        plan = loader.plan()
        return {**sample, 'img': image} if plan is None else record(sample, image, plan)

    def _make_file(self, infos: Sequence[dict], fixed: list) -> None:
        unfinished = f'{self._path}.unfinished'
        try:
            with open(unfinished, 'w+b') as file:
                self._build(file, infos, fixed, self._digest)
                os.fsync(file.fileno())
            os.replace(unfinished, self._path)
        except BaseException as error:
            Path(unfinished).unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise OSError(
                    error.errno,
                    f'ImageFolder: cannot write the cache {self._path} ({error.strerror}). Set cache=dict(folder=...) '
                    'to a folder with room, or remove cache.',
                ) from error
            raise

    def _build(self, file: IO[bytes], infos: Sequence[dict], fixed: list, digest: bytes) -> None:
        """Write all images to a file, after checking a sample of them."""
        limit, whose = cache_limit(self.settings, self._path)
        sampled = [infos[number] for number in sorted({k * len(infos) // _SAMPLED for k in range(_SAMPLED)})]
        index = np.zeros((1 + max(info['file_number'] for info in infos), 5), np.int64)
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:  # decoding releases Python's lock
            sizes = [sample['img'].nbytes for sample in _in_order(pool, fixed, sampled) if sample is not None]
            mean = sum(sizes) / max(1, len(sizes))
            if mean * len(infos) > limit:
                raise too_large(len(infos), mean, limit, whose)
            for info, sample in zip(infos, _in_order(pool, fixed, infos), strict=True):
                if sample is None:  # unreadable: left to the pipeline, which raises the error where it is used
                    continue
                image = np.ascontiguousarray(sample.pop('img'))
                keys = _as_json({key: value for key, value in sample.items() if key not in info})
                height, width, channels = (*image.shape, 0)[:3]
                index[info['file_number']] = (file.tell(), height, width, channels, len(keys))
                file.write(image.data)
                file.write(keys)
                if file.tell() > limit:
                    raise too_large(len(infos), max(mean, limit / len(infos)), limit, whose)
        start = file.tell()
        np.save(file, index)
        file.write(start.to_bytes(8, 'little') + digest.ljust(_DIGEST, b'\0'))
        file.flush()

    def _open(self, file: IO[bytes]) -> None:
        self._bytes = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        start = int.from_bytes(self._bytes[-8 - _DIGEST : -_DIGEST].tobytes(), 'little')
        file.seek(start)
        self._index = np.load(file)

    def __deepcopy__(self, memo: dict) -> 'ImageCache':
        return self  # read-only, and shared

    def __getstate__(self) -> dict:
        if not self._path:
            raise TypeError(
                "ImageFolder: expected workers that are forked with cache=dict(where='memory'), got another start "
                "method of processes. Set cache=dict(where='mapped')."
            )
        return {key: value for key, value in self.__dict__.items() if key not in ('_bytes', '_index', '_seen', '_rest')}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _seen=None, _rest=None)
        if not _has_digest(self._path, self._digest):
            raise OSError(f'ImageFolder: the cache {self._path} has been replaced. Start the run again.')
        with open(self._path, 'rb') as file:
            self._open(file)


def _fixed_steps(pipeline: Any) -> list:
    """Return the first, deterministic transforms of a pipeline, whose output is cached."""
    steps = list(getattr(pipeline, 'transforms', ()))
    if not steps or not isinstance(steps[0], LoadImage):
        return []
    last = next((number for number, step in enumerate(steps) if number and type(step) not in _FIXED), len(steps))
    return steps[:last]


def _in_order(pool: ThreadPoolExecutor, fixed: list, infos: Sequence[dict]) -> Iterator[Optional[dict]]:
    """Yield the output of the cached transforms for each image, in order; None if it cannot be read."""

    def prepared(info: dict) -> Optional[dict]:
        try:
            sample = record(dict(info), fixed[0].read(info['img_path']), None)
        except UnreadableImageError:
            return None
        for step in fixed[1:]:
            sample = step(sample)
        return sample

    waiting: deque = deque()
    for info in infos:
        waiting.append(pool.submit(prepared, info))
        if len(waiting) > 16:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _as_json(keys: dict) -> bytes:
    text = json.dumps(keys, separators=(',', ':')).encode()
    if _with_tuples(json.loads(text)) != keys:
        raise TypeError(f'ImageFolder: expected transforms that add numbers and tuples with a cache, got {keys}.')
    return text


def _with_tuples(value: Any) -> Any:
    """Convert the lists in JSON content to tuples, as shapes and scales are tuples."""
    if isinstance(value, dict):
        return {key: _with_tuples(inside) for key, inside in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _digest(infos: Sequence[dict], steps: str) -> bytes:
    """Return a digest of everything that the cached images depend on."""
    libraries = [module.__version__ for module in (cv2, mmcv, np, PIL, torch)]
    found = hashlib.sha256(json.dumps([1, PREPROCESSING_VERSION, libraries, steps]).encode())
    for info in infos:
        path = info['img_path']
        if not isinstance(get_file_backend(path, enable_singleton=True), LocalBackend):
            raise ValueError(
                f"ImageFolder: expected local files with cache=dict(where='mapped'), got {path}. Set where='memory'."
            )
        status = os.stat(path) if os.path.exists(path) else None
        when = () if status is None else (status.st_size, status.st_mtime_ns)
        found.update(json.dumps([info['file_number'], path, *when]).encode())
    return found.digest()


def _has_digest(path: str, digest: bytes) -> bool:
    """Return whether there is a cache with this digest."""
    try:
        with open(path, 'rb') as file:
            file.seek(-_DIGEST, os.SEEK_END)
            return file.read() == digest
    except OSError:
        return False


def _folder(settings: dict) -> Path:
    if settings['folder'] is not None:
        folder = Path(settings['folder']).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    user = os.getuid() if hasattr(os, 'getuid') else ''
    folder = Path(tempfile.gettempdir(), f'hybridcls_images_{user}')
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user != '' and folder.stat().st_uid != user:  # another user's images must not become ours
        raise ValueError(
            f'ImageFolder: expected {folder} to be a folder of yours, got one of another user. Set '
            'cache=dict(folder=...).'
        )
    return folder


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold a lock in the block, so that one process of this machine at a time makes or opens a cache."""
    with open(f'{path}.lock', 'w') as file:
        with contextlib.suppress(ImportError):  # Windows: each process may make it; the last one's stays
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _memory_file() -> IO[bytes]:
    """Open an unnamed file, in memory where the system supports that, else in TMPDIR."""
    if hasattr(os, 'memfd_create'):
        return os.fdopen(os.memfd_create('hybridcls_images'), 'w+b')
    return tempfile.TemporaryFile()
