"""Read your own images from class folders or an annotation file."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional, Union

import torch
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets.custom import find_folders

from hybridcls.checks import check_choice, check_file, check_known_keys, listed
from hybridcls.compat.mmengine import update_metainfo
from hybridcls.registry import DATASETS

from .annotation_file import number_labels, read_annotations
from .class_folders import check_image_folder, check_level, number_folders
from .dataset_parts import connect_loaders, loaders_of
from .image_cache import ImageCache, checked_cache
from .image_files import files_below, is_hidden
from .image_formats import file_kind, readable_extensions
from .transforms.load_image import LoadImage, UnreadableImageError

__all__ = ['ImageFolder']

_LINE = '\n  '
_HEADERS_READ = 64


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """mmpretrain's ``CustomDataset`` with checks for folders of real images.

    ::

        data_root/data_prefix/        a folder for each class, images at any depth below
            cat/1.jpg cat/2.png ...
            dog/...

    or, with ``ann_file``, a list of ``path label`` lines or a table (:func:`~hybridcls.datasets.read_annotations`) with
    paths below ``data_root/data_prefix``. Labels are class names or numbers from 0. Hidden files and folders are
    skipped, and other files that are not images are counted: :meth:`describe`.

    Class numbers follow the alphabetical order of the folders, or of the names in the list. With ``classes=[...]`` in
    any order, folders are numbered by *name*; if no name is a folder, the names are titles of the folders in
    alphabetical order (``metainfo['class_folders']`` keeps the folders' names). In a run, the training data decide: the
    labels of validation, test and bank are matched by name (ClassNamesHook), and need no ``classes``.

    Args:
        data_root (str): The folder. In a config, the top-level ``data_root`` fills it. Defaults to ``''``.
        data_prefix (str | dict): The folder below ``data_root``, such as ``'train'``. Defaults to ``''``.
        ann_file (str): The list, an absolute path or one below ``data_root``. Defaults to ``''``: class folders.
        ann_format (dict, optional): ``encoding``, ``delimiter`` and ``columns`` of
            :func:`~hybridcls.datasets.read_annotations`, where the file does not tell them. Defaults to None.
        with_label (bool): False: all images below the folder (or in the list), without labels. Defaults to True.
        extensions (Sequence[str], optional): File extensions of images. Defaults to None: all that the installed
            decoders can read (:func:`~hybridcls.datasets.image_formats.readable_extensions`).
        empty_classes (str): What to do when a class of the folder or of ``classes`` has no image: ``'error'`` or
            ``'warn'``. The message names it either way. Defaults to ``'error'``.
        on_unreadable (str): What to do with an image that cannot be read: ``'error'`` stops; ``'skip'`` logs it once
            and continues. In training the next readable image of the same class replaces it, always the same one, which
            keeps the size and the classes of a batch. With ``test_mode=True`` a replacement would falsify the score, so
            ``'skip'`` reads all files at the start and drops unreadable ones. Defaults to ``'error'``.
        verify (bool, optional): Whether to read every file at the start, in several threads: ``'error'`` then lists all
            unreadable files at once, ``'skip'`` drops them, in training too. Defaults to None: only with ``'skip'`` and
            ``test_mode=True``.
        cache (str | dict, optional): ``'uint8'`` keeps the decoded images in memory; a dictionary also says where, and
            how much (:func:`~hybridcls.datasets.image_cache.checked_cache`). What the pipeline does first is kept:
            LoadImage, and resizing right behind it, so that pixels stay the same to the bit. Defaults to None.
        lazy_init (bool): List the images later. Defaults to False.
        **kwargs: ``pipeline``, ``classes``, ``test_mode``, ``indices`` ... of mmpretrain's BaseDataset.

    Raises:
        FileNotFoundError: If the folder or the annotation file does not exist, with the key that changes it.
        ValueError: If there is no image, an empty class, a label or folder that is not a class, a wrong choice, or if
            the folders are ``train`` and ``val``, or one that contains folders: ``data_prefix`` is one level too high.
        UnreadableImageError: If an image cannot be read, with its path and the reason.
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: Union[str, dict] = '',
        ann_file: str = '',
        ann_format: Optional[dict] = None,
        with_label: bool = True,
        extensions: Optional[Sequence[str]] = None,
        empty_classes: str = 'error',
        on_unreadable: str = 'error',
        verify: Optional[bool] = None,
        cache: Union[str, dict, None] = None,
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        check_choice('ImageFolder', 'empty_classes', empty_classes, ('error', 'warn'))
        check_choice('ImageFolder', 'on_unreadable', on_unreadable, ('error', 'skip'))
        if not (data_root or data_prefix or ann_file):
            raise ValueError(
                'ImageFolder: expected a data_root, got none. Set the top-level data_root of the config: '
                '--cfg-options data_root=/path/to/your/images'
            )
        self.ann_format = dict(ann_format or {})
        check_known_keys('ImageFolder.ann_format', self.ann_format, ('encoding', 'delimiter', 'columns'))
        self.empty_classes = empty_classes
        self.on_unreadable = on_unreadable
        self.verify = verify
        self.cache = checked_cache(cache)
        self._images: Optional[ImageCache] = None
        # Of the images below one folder: each part that a config names has a cache of its own.
        self._part = repr([os.path.abspath(data_root or ''), data_prefix, ann_file, kwargs.get('indices')])
        self._given_prefix = data_prefix
        super().__init__(
            data_root=os.path.expanduser(data_root or ''),
            data_prefix=data_prefix,
            ann_file=ann_file,
            with_label=with_label,
            extensions=readable_extensions() if extensions is None else extensions,
            lazy_init=lazy_init,
            **kwargs,
        )
        connect_loaders(self.pipeline)

    def full_init(self) -> None:
        """List the images, and read them into the cache if there is one."""
        super().full_init()
        if self.cache is not None and self._images is None:
            infos = [self.get_data_info(index) for index in range(len(self))]
            self._images = ImageCache(self.cache, self._part, infos, self.pipeline)

    def load_data_list(self) -> list[dict]:
        """Return ``img_path``, ``gt_label`` (with labels) and ``file_number`` of each image."""
        self.check_folder()
        self._left_out: Counter[str] = Counter()
        data_list = self._from_list() if self.ann_file else self._from_folders()
        self._images_of: Counter[Any] = Counter(info.get('gt_label') for info in data_list)
        for number, info in enumerate(data_list):
            info['file_number'] = number
        # In shared memory: only the first worker that meets an unreadable file reports it.
        self._unreadable = torch.zeros(len(data_list), dtype=torch.bool).share_memory_()
        return data_list

    def describe(self) -> str:
        """Summarize the data set: images, classes, skipped files by reason, and the formats of the images.

        The formats are read from the headers of a sample of the files, on a local disk.
        """
        self.full_init()
        found = self._images_of.total()
        text = f'ImageFolder {os.path.abspath(self.ann_file or self.img_prefix)}: {found} images'
        if self.with_label:
            fewest, most = min(self._images_of.values()), max(self._images_of.values())
            each = f'{fewest}' if fewest == most else f'{fewest} to {most}'
            text += f' of {len(self._images_of)} classes ({each} each)'
        text += '.' if len(self) == found else f', of which indices keeps {len(self)}.'
        if self._left_out:
            text += f' Left out: {_counted(self._left_out)}.'
        if isinstance(get_file_backend(self.img_prefix), LocalBackend) and len(self):
            sample = sorted({number * len(self) // _HEADERS_READ for number in range(_HEADERS_READ)})
            kinds = Counter(file_kind(self.get_data_info(index)['img_path']) for index in sample)
            share = 'all' if len(sample) == len(self) else f'a sample of {len(sample)}'
            text += f' Headers of {share}: {_counted(kinds)}.'
        return text

    def filter_data(self) -> list[dict]:
        """Read every image if ``verify`` asks for it, and drop (or raise for) those that cannot be read."""
        skips = self.on_unreadable == 'skip'
        if not (skips and self.test_mode if self.verify is None else self.verify):
            return self.data_list
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:  # decoding releases Python's lock
            problems = list(pool.map(self._problem_with, (info['img_path'] for info in self.data_list)))
        named = [f'{error.path}: {error.reason}' for error in problems if error is not None]
        if named and (not skips or len(named) == len(self.data_list)):
            otherwise = '' if skips else ", or set on_unreadable='skip' to leave them out"
            raise UnreadableImageError(
                f'ImageFolder: {len(named)} of {len(self.data_list)} images cannot be read:\n  '
                f'{listed(named, between=_LINE)}\nDelete or replace them{otherwise}.'
            )
        if named:
            print_log(
                f'ImageFolder: {len(named)} of {len(self.data_list)} images cannot be read and are left out:\n  '
                f'{_LINE.join(named)}',
                logger='current',
                level=logging.WARNING,
            )
            self._left_out['unreadable'] += len(named)
        kept = [info for info, error in zip(self.data_list, problems, strict=True) if error is None]
        self._images_of = Counter(info.get('gt_label') for info in kept)
        if self.with_label:
            lost = {info['gt_label'] for info in self.data_list} - set(self._images_of)
            self._check_empty(sorted(lost), f'the readable files of {os.path.abspath(self.img_prefix)}')
        return kept

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline for one image; handle an unreadable one as ``on_unreadable`` sets."""
        readable, data = self._attempt(self.get_data_info(idx))
        return data if readable else self._replacement(idx)

    def _attempt(self, info: dict) -> tuple[bool, Any]:
        """Return whether the image can be read, and the output of the pipeline."""
        path, number = info['img_path'], info['file_number']
        if self._unreadable[number]:
            return False, None
        try:
            return True, self.pipeline(info) if self._images is None else self._images.run(info, self.pipeline)
        except Exception as error:  # any transform may load the image: reading the file decides whether it is the cause
            problem = error if isinstance(error, UnreadableImageError) else self._problem_with(path)
            if problem is None:
                raise
            self._report(problem, number)
            return False, None

    def _report(self, problem: UnreadableImageError, number: int) -> None:
        """Raise, or log the file once."""
        text = f'ImageFolder: cannot read {problem.path}: {problem.reason}'
        advice = ''
        if self.on_unreadable == 'error':
            advice = "Delete or replace it, or set on_unreadable='skip' in this dataset."
        elif self.test_mode:
            advice = (
                'A test cannot replace an image: leave verify at its default, which drops unreadable files at the '
                'start.'
            )
        if advice:
            raise UnreadableImageError(f'{text} {advice}', problem.path, problem.reason) from problem
        self._unreadable[number] = True
        # An error of the data; of other processes than the first, mmengine shows nothing below this level.
        print_log(f'{text} Another image of its class replaces it.', logger='current', level=logging.ERROR)

    def _replacement(self, idx: int) -> Any:
        """Prepare the next readable image of the same class."""
        label = self.get_data_info(idx).get('gt_label')
        for step in range(1, len(self)):
            info = self.get_data_info((idx + step) % len(self))
            readable, data = self._attempt(info) if info.get('gt_label') == label else (False, None)
            if readable:
                return data
        name = '' if label is None else f' of class {label} ({self.CLASSES[label]})' if self.CLASSES else f' of {label}'
        raise UnreadableImageError(f'ImageFolder: no image{name} in {self.img_prefix} can be read.')

    def _problem_with(self, path: str) -> Optional[UnreadableImageError]:
        """Return why a file cannot be read, or None if it can."""
        loader = next(loaders_of(self.pipeline), None) or LoadImage()
        try:
            loader.read(path)
        except UnreadableImageError as error:
            return error
        return None

    def check_folder(self) -> None:
        """Raise a FileNotFoundError if the folder or the annotation file does not exist."""
        if self.ann_file and isinstance(get_file_backend(self.ann_file), LocalBackend):
            check_file(
                'ImageFolder',
                'ann_file',
                self.ann_file,
                "Set this dataset's ann_file, or the top-level data_root of the config if the file is there.",
            )
        check_image_folder(self.img_prefix, self.data_root, self._given_prefix)

    def class_folders(self) -> list[str]:
        """Return the names of the class folders, in alphabetical order."""
        return [name for name in find_folders(self.img_prefix)[0] if not is_hidden(name)]

    def _from_list(self) -> list[dict]:
        entries = read_annotations('ImageFolder', self.ann_file, self.with_label, **self.ann_format)
        data_list: list[dict] = [dict(img_path=self._path_of(path)) for _, path, _ in entries]
        if self.with_label:
            named = self.CLASSES is not None
            labels, classes = number_labels('ImageFolder', self.ann_file, entries, self.CLASSES)
            update_metainfo(self, dict(classes=classes))
            if not named and classes == tuple(map(str, range(len(classes)))):
                update_metainfo(self, dict(classes_are_numbers=True))
            for info, number in zip(data_list, labels, strict=True):
                info['gt_label'] = number
            # Numbers without names do not tell which classes a test covers.
            if not (self.test_mode and 'classes_are_numbers' in self.metainfo):
                self._check_empty(sorted(set(range(len(classes))) - set(labels)), os.path.abspath(self.ann_file))
        return data_list

    def _from_folders(self) -> list[dict]:
        where = os.path.abspath(self.img_prefix)
        images, self._left_out = files_below(self.img_prefix, self.extensions)
        data_list: list[dict] = [dict(img_path=self._path_of(path)) for path in images]
        advice = ''
        if self.with_label:
            inside = [path for path in images if os.sep in path]
            if len(inside) < len(images):
                self._left_out['images beside the class folders'] = len(images) - len(inside)
            folders = self.class_folders()
            if self.CLASSES is None:
                prefix = self._given_prefix
                prefix = prefix if isinstance(prefix, str) else prefix.get('img_path', '')
                warning = check_level(where, prefix, folders, inside)
                if warning:
                    print_log(warning, logger='current', level=logging.WARNING)
            self.folder_to_idx, metainfo = number_folders(where, folders, self.CLASSES)
            update_metainfo(self, metainfo)
            split = sorted(path.split(os.sep, 1) for path in inside)  # by class, then by name
            data_list = [
                dict(img_path=self._path_of(os.path.join(folder, name)), gt_label=self.folder_to_idx[folder])
                for folder, name in split
            ]
            if not folders:
                advice = (
                    ' It has no class folders; for images without labels set with_label=False, for a list of images '
                    'set ann_file.'
                )
        if not data_list:
            left_out = f' Left out: {_counted(self._left_out)}.' if self._left_out else ''
            raise ValueError(
                f'ImageFolder: no image in {where}.{advice}{left_out} The extensions of images are '
                f'{", ".join(sorted(self.extensions))}.'
            )
        if self.with_label:
            filled = {info['gt_label'] for info in data_list}
            self._check_empty([number for number in range(len(self.CLASSES)) if number not in filled], where)
        return data_list

    def _path_of(self, name: str) -> str:
        return get_file_backend(self.img_prefix, enable_singleton=True).join_path(self.img_prefix, name)

    def _check_empty(self, numbers: Sequence[int], where: str) -> None:
        if not numbers:
            return
        names = listed(f'{number} ({self.CLASSES[number]})' for number in numbers)
        text = f'ImageFolder: no image for {len(numbers)} of {len(self.CLASSES)} classes in {where}: {names}.'
        if self.empty_classes == 'error':
            raise ValueError(f"{text} Add images, remove the class, or set empty_classes='warn' in this dataset.")
        print_log(text, logger='current', level=logging.WARNING)


def _counted(counts: Counter[str]) -> str:
    return ', '.join(f'{what} ({count})' for what, count in counts.most_common())
