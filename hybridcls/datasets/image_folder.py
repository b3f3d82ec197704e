"""Read your own images from class folders or an annotation file."""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional, Union

import numpy as np
import torch
from mmengine.fileio import LocalBackend, get, get_file_backend
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset

from hybridcls.checks import (
    check_choice,
    check_file,
    check_known_keys,
    counted,
    decode_text,
    did_you_mean,
    has_raw_bytes,
    is_or_are,
    listed,
    verb_of,
)
from hybridcls.compat.mmengine import update_metainfo
from hybridcls.registry import DATASETS

from .annotation_file import TABLES, Annotation, number_label_sets, number_labels, read_rows
from .class_folders import check_image_folder, check_level, folders_in, number_folders
from .dataset_parts import connect_loaders, loaders_of
from .image_cache import ImageCache, checked_cache
from .image_files import BESIDE_CLASSES, DROPPED, UNREADABLE, files_below
from .image_formats import UNKNOWN_KIND, file_kind, readable_extensions
from .label_decisions import LabelDecisions, read_decisions
from .split_names import SPLITS, split_folders, split_named
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

    With ``split='train'``, ``'val'`` or ``'test'`` and neither ``data_prefix`` nor ``ann_file``, ``data_root`` alone
    tells which images these are: it has folders ``train`` and ``val`` (or ``valid``, ``validation``; ``test``), or it
    is itself a table with a column ``split``. In a config it may also hold class folders only, or be a table without
    that column: the run divides the images once (:func:`~hybridcls.engine.config.data_splits.data_splits`).

    With ``multi_label=True`` an image has any number of labels: ``gt_label`` of an item is the list of its class
    numbers, maybe empty, and of the data sample a 1-D int64 tensor, as in mmpretrain.

    Class numbers follow the alphabetical order of the folders, or of the names in the list. With ``classes=[...]`` in
    any order, folders are numbered by *name*; if no name is a folder, the names are titles of the folders in
    alphabetical order (``metainfo['class_folders']`` keeps the folders' names). In a run, the training data decide: the
    labels of validation, test and bank are matched by name (ClassNamesHook), and need no ``classes``.

    Args:
        data_root (str): The folder. In a config, the top-level ``data_root`` fills it. Defaults to ``''``.
        data_prefix (str | dict): The folder below ``data_root``, such as ``'train'``. Defaults to ``''``.
        ann_file (str): The list, an absolute path or one below ``data_root``. Defaults to ``''``: class folders.
        ann_format (dict, optional): ``encoding``, ``delimiter`` and ``columns`` of
            :func:`~hybridcls.datasets.read_annotations`, where the file does not tell them; and ``labels='names'``: a
            label is the name of a class also if it is a number or contains ``|``. Defaults to None.
        split (str, optional): ``'train'``, ``'val'`` or ``'test'``: the part of the images. Defaults to None: all.
        multi_label (bool): Whether the lines of ``ann_file`` have any number of labels: ``a|b`` in the column of the
            label (an empty cell: none), or a column of 0 and 1 for each class. Classes are numbered by name.
            Defaults to False.
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
        drop (str | dict, optional), relabel (str | dict, optional): Tables of ``hybridcls audit`` in which images have
            the decision ``drop`` (they are left out) or ``relabel`` (they are of the class ``suggested``); both may be
            the same file. Paths are absolute, or below the folder of the images. Images of another split are left as
            they are, and counted. ``dict(file=..., digest=...)`` is a table with just these decisions, as a training
            notes it (:func:`~hybridcls.datasets.label_decisions.read_decisions`); with ``shared=True`` it is one for
            several datasets, each of which applies the lines of its own images. Defaults to None.
        lazy_init (bool): List the images later. Defaults to False.
        indices (int | Sequence[int], optional): The first so many images alone, or those of these numbers. Defaults to
            None: all.
        **kwargs: ``pipeline``, ``classes``, ``test_mode`` ... of mmpretrain's BaseDataset.

    Raises:
        FileNotFoundError: If the folder or the annotation file does not exist, with the key that changes it.
        ValueError: If there is no image, an empty class, a label or folder that is not a class, a wrong choice, or if
            the folders are ``train`` and ``val``, or one that contains folders: ``data_prefix`` is one level too high;
            if a decision is on an image that is not there, or on one whose label is another than the table says.
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
        split: Optional[str] = None,
        multi_label: bool = False,
        indices: Union[int, Sequence[int], None] = None,
        drop: Union[str, dict, None] = None,
        relabel: Union[str, dict, None] = None,
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
        check_known_keys('ImageFolder.ann_format', self.ann_format, ('encoding', 'delimiter', 'columns', 'labels'))
        check_choice('ImageFolder', 'ann_format labels', self.ann_format.get('labels'), (None, 'names'))
        check_choice('ImageFolder', 'split', split, (None, *SPLITS))
        self.split = split
        self.multi_label = multi_label
        data_root = os.path.expanduser(data_root or '')
        if data_root.lower().endswith(TABLES):
            data_root, ann_file = os.path.dirname(data_root), ann_file or os.path.abspath(data_root)
        if split is not None and not ann_file and not data_prefix:
            data_prefix = self._folder_of(split, data_root)
        self._of_known_formats = extensions is None
        self.empty_classes = empty_classes
        self.on_unreadable = on_unreadable
        self.verify = verify
        self.cache = checked_cache(cache)
        self.decisions = {
            what: read_decisions('ImageFolder', given, what)
            for what, given in (('drop', drop), ('relabel', relabel))
            if given is not None
        }
        if 'relabel' in self.decisions and multi_label:
            raise ValueError('ImageFolder: relabel gives an image one label, and multi_label=True has any number.')
        self._images: Optional[ImageCache] = None
        # Of the images below one folder: each part that a config names has a cache of its own.
        self._part = repr([os.path.abspath(data_root or ''), data_prefix, ann_file, split, indices, drop])
        self._given_prefix = data_prefix
        super().__init__(
            data_root=data_root,
            data_prefix=data_prefix,
            ann_file=ann_file,
            with_label=with_label,
            extensions=readable_extensions() if extensions is None else extensions,
            lazy_init=lazy_init,
            indices=indices,
            **kwargs,
        )
        connect_loaders(self.pipeline)

    def full_init(self) -> None:
        """List the images, and read them into the cache if one is set."""
        super().full_init()
        if self.cache is not None and self._images is None:
            infos = [self.get_data_info(index) for index in range(len(self))]
            self._images = ImageCache(self.cache, self._part, infos, self.pipeline)

    def _folder_of(self, split: str, data_root: str) -> str:
        """Return the folder of a split; raise a ValueError if there is none, as with class folders only."""
        check_image_folder(data_root, data_root, '')
        found = split_folders(folders_in(data_root))
        if split in found:
            return found[split]
        there = f'the splits {", ".join(found.values())}' if found else 'no folders of splits'
        raise ValueError(
            f'ImageFolder: expected a folder for split={split!r} in {os.path.abspath(data_root)}, got {there}. A '
            'training divides class folders itself; outside of one, set data_prefix, or ann_file to a table with the '
            'columns path, label and split.'
        )

    def load_data_list(self) -> list[dict]:
        """Return ``img_path``, ``gt_label`` (with labels) and ``file_number`` of each image."""
        data_list = self.found_images()
        if self.decisions:
            try:
                data_list = self.decided(data_list)
            except ValueError as error:
                copies = dict.fromkeys(one.file for one in self.decisions.values() if one.is_copy)
                if not copies:
                    raise
                are = verb_of(len(copies), 'is a copy', 'are copies')
                raise ValueError(
                    f'{error} ({" and ".join(copies)} {are} in the work dir: change your own table.)'
                ) from error
        self._images_of, self._found = _images_of_classes(data_list), len(data_list)
        for number, info in enumerate(data_list):
            info['file_number'] = number
        # In shared memory: only the first worker that meets an unreadable file reports it.
        self._unreadable = torch.zeros(len(data_list), dtype=torch.bool).share_memory_()
        return data_list

    def found_images(self) -> list[dict]:
        """Return ``img_path`` and ``gt_label`` (with labels) of each image, before any decision."""
        self.check_folder()
        self._left_out: Counter[str] = Counter()
        self._elsewhere: set[str] = set()  # images of other splits
        self._relabelled = 0
        data_list = self._from_list() if self.ann_file else self._from_folders()
        self._check_content([info['img_path'] for info in data_list])
        return data_list

    def _check_content(self, paths: Sequence[str]) -> None:
        """Raise if files have the extensions of images but none of them is one."""
        if not (self._of_known_formats and isinstance(get_file_backend(self.img_prefix), LocalBackend)):
            return
        if any(file_kind(path) != UNKNOWN_KIND or not os.path.isfile(path) for path in paths):  # mostly the first
            return
        problem = self._problem_with(paths[0])
        if problem is not None:
            raise UnreadableImageError(
                f'ImageFolder: none of {len(paths)} files with the extension of an image is one, such as '
                f'{problem.path}: {problem.reason} Set data_root to a folder of images.',
                problem.path,
                problem.reason,
            )

    @property
    def left_out(self) -> Counter[str]:
        """The number of files below the folder that are not read, by reason (:func:`files_below`)."""
        if not hasattr(self, '_left_out'):  # of load_data_list alone, too, which reads no image
            self.full_init()
        return Counter(self._left_out)

    def describe(self) -> str:
        """Summarize the dataset: images, classes, skipped files by reason, and the formats of the images.

        The formats are read from the headers of a sample of the files, on a local disk.
        """
        self.full_init()
        found = self._found
        part = f' ({self.split})' if self.split and self.ann_file else ''
        text = f'ImageFolder {os.path.abspath(self.ann_file or self.img_prefix)}{part}: {counted(found, "image")}'
        if self.with_label and self._images_of:
            fewest, most = min(self._images_of.values()), max(self._images_of.values())
            each = f'{fewest}' if fewest == most else f'{fewest} to {most}'
            text += f' of {counted(len(self._images_of), "class", "classes")} ({each} each)'
        text += '.' if len(self) == found else f', of which indices keeps {len(self)}.'
        if self._left_out:
            text += f' Left out: {_counted(self._left_out)}.'
        if self._relabelled:
            text += f' Relabelled by decision: {self._relabelled}.'
        if isinstance(get_file_backend(self.img_prefix), LocalBackend) and len(self):
            sample = sorted({number * len(self) // _HEADERS_READ for number in range(_HEADERS_READ)})
            kinds = Counter(file_kind(self.get_data_info(index)['img_path']) for index in sample)
            share = 'all' if len(sample) == len(self) else f'a sample of {len(sample)}'
            text += f' Formats, from the headers of {share}: {_counted(kinds)}.'
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
                f'ImageFolder: {counted(len(named), "image", of=len(self.data_list))} cannot be read:\n  '
                f'{listed(named, between=_LINE)}\nDelete or replace them{otherwise}.'
            )
        if named:
            print_log(
                f'ImageFolder: {counted(len(named), "image", of=len(self.data_list))} cannot be read and '
                f'{is_or_are(len(named))} left out:\n  '
                f'{_LINE.join(named)}',
                logger='current',
                level=logging.WARNING,
            )
            self._left_out[UNREADABLE] += len(named)
        kept = [info for info, error in zip(self.data_list, problems, strict=True) if error is None]
        before = self._images_of
        self._images_of, self._found = _images_of_classes(kept), len(kept)
        if self.with_label:
            lost = set(before) - set(self._images_of)
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
        """Prepare the next readable image: of the same class, where an image has one."""
        label = self.get_data_info(idx).get('gt_label')
        for step in range(1, len(self)):
            info = self.get_data_info((idx + step) % len(self))
            fits = self.multi_label or info.get('gt_label') == label
            readable, data = self._attempt(info) if fits else (False, None)
            if readable:
                return data
        if self.multi_label:
            label = None
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

    def get_gt_labels(self) -> Any:
        """Return the class number of each image, (N,) int64; with ``multi_label`` a list of lists of them."""
        return [self.get_cat_ids(idx) for idx in range(len(self))] if self.multi_label else super().get_gt_labels()

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the class numbers of an image: one, or any number of them with ``multi_label``."""
        return list(self.get_data_info(idx)['gt_label']) if self.multi_label else super().get_cat_ids(idx)

    def class_folders(self) -> list[str]:
        """Return the names of the class folders, in alphabetical order."""
        return folders_in(self.img_prefix)

    def _from_list(self) -> list[dict]:
        settings = dict(self.ann_format, multi_label=self.multi_label)
        rows, classes = read_rows('ImageFolder', self.ann_file, self.with_label, folder=self.img_prefix, **settings)
        data_list: list[dict] = [dict(img_path=self._path_of(row.path)) for row in rows]
        if self.with_label:
            for info, label in zip(data_list, self._number(rows, classes), strict=True):
                info['gt_label'] = label
        if self.split is None:
            for info, row in zip(data_list, rows, strict=True):
                info.update({key: value for key, value in (('split', row.split), ('group', row.group)) if value})
            return data_list
        splits = self._splits(rows)
        chosen = [info for info, split in zip(data_list, splits, strict=True) if split == self.split]
        if not chosen:
            raise ValueError(
                f'ImageFolder: no image of split={self.split!r} in {os.path.abspath(self.ann_file)}, which has '
                f'{_counted(Counter(splits))}.'
            )
        self._elsewhere = {_place(info['img_path']) for info in data_list} - {_place(one['img_path']) for one in chosen}
        if self.split == 'train' and self.with_label:
            lost = set(_images_of_classes(data_list)) - set(_images_of_classes(chosen))
            self._check_empty(sorted(lost), f'the lines of split=train in {os.path.abspath(self.ann_file)}')
        return chosen

    def _number(self, rows: Sequence[Annotation], columns: Optional[Sequence[str]]) -> list:
        """Return the class number of each line (a list of them with ``multi_label``), and note the classes."""
        given = self.CLASSES if self.CLASSES is not None or columns is None else sorted(columns)
        labels: list
        if self.multi_label:
            labels, classes = number_label_sets('ImageFolder', self.ann_file, rows, given)
            filled = {number for numbers in labels for number in numbers}
        else:
            entries = [row[:3] for row in rows]
            if given is None and self.ann_format.get('labels') == 'names':
                given = sorted({row.label for row in rows})
            labels, classes = number_labels('ImageFolder', self.ann_file, entries, given)
            filled = set(labels)
        named = given is not None
        update_metainfo(self, dict(classes=tuple(classes)))
        if not named and tuple(classes) == tuple(map(str, range(len(classes)))):
            update_metainfo(self, dict(classes_are_numbers=True))
        # Numbers without names do not tell which classes a test covers.
        if not (self.test_mode and 'classes_are_numbers' in self.metainfo):
            self._check_empty(sorted(set(range(len(classes))) - filled), os.path.abspath(self.ann_file))
        return labels

    def _splits(self, rows: Sequence[Annotation]) -> list[str]:
        where = os.path.abspath(self.ann_file)
        splits = [split_named(row.split) or row.split for row in rows]
        if not any(splits):
            raise ValueError(
                f'ImageFolder: expected a column split in {where}, with train, val or test in each line, for '
                f'split={self.split!r}. A training whose data_root is this file divides it itself.'
            )
        for row, split in zip(rows, splits, strict=True):
            if split not in SPLITS:
                raise ValueError(
                    f'ImageFolder: expected train, val or test in the column split of {where}, got {row.split!r} in '
                    f'line {row.line}.'
                )
        return splits

    def _from_folders(self) -> list[dict]:
        where = os.path.abspath(self.img_prefix)
        if self.multi_label:
            raise ValueError(
                f'ImageFolder: multi_label=True expects a table with the labels of each image, got the folder {where}. '
                "Set data_root or ann_file to a .csv with the columns path and label ('a|b': two labels)."
            )
        images, self._left_out = files_below(self.img_prefix, self.extensions)
        data_list: list[dict] = [dict(img_path=self._path_of(path)) for path in images]
        advice = ''
        if self.with_label:
            inside = [path for path in images if os.sep in path]
            if len(inside) < len(images):
                self._left_out[BESIDE_CLASSES] = len(images) - len(inside)
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

    def decided(self, data_list: list[dict]) -> list[dict]:
        """Drop and relabel images by the tables of decisions.

        Args:
            data_list (list[dict]): Of :meth:`found_images`. Labels are changed in place.

        Raises:
            ValueError: If a table is of other images, labels or classes, or leaves a class without images.
        """
        rows = {_place(info['img_path']): row for row, info in enumerate(data_list)}
        names = list(self.CLASSES or ())
        numbers = {**{name: number for number, name in enumerate(self.metainfo.get('class_folders') or ())},
                   **{name: number for number, name in enumerate(names)}}  # fmt: skip
        dropped, labels = set(), {}
        for what, decisions in self.decisions.items():
            other = 0
            for path in getattr(decisions, what):
                row = rows.get(self.place_of(path))
                if row is None:
                    if not decisions.is_shared:
                        self._check_elsewhere(path, decisions, rows)
                        other += 1
                    continue
                old, new = (decisions.drop[path], '') if what == 'drop' else decisions.relabel[path]
                for name in filter(None, (old, new) if self.with_label and not self.multi_label else ()):
                    if name not in numbers and name == new and decisions.is_shared:  # a class of another dataset
                        numbers[name] = len(names)
                        names.append(name)
                        update_metainfo(self, dict(classes=tuple(names)))
                    elif name not in numbers:
                        raise ValueError(
                            f'ImageFolder: expected classes of this dataset ({listed(names, 5)}) in {decisions.file}, '
                            f'got {name!r} of {path!r}.{did_you_mean(name, names)} Classes that were renamed are to be '
                            'renamed there, too.'
                        )
                if new:
                    labels[row] = numbers[new]
                elif what == 'drop':
                    dropped.add(row)
                if old in numbers and not self.multi_label and numbers[old] != data_list[row].get('gt_label'):
                    raise ValueError(
                        f'ImageFolder: {decisions.file} was made for another label of {path!r}: {old!r}, got '
                        f'{names[data_list[row]["gt_label"]]!r}. Audit these labels again.'
                    )
            if other:
                print_log(
                    f'ImageFolder: {other} of the images with the decision {what} in {decisions.file} are in another '
                    'split: left as they are.',
                    logger='current',
                    level=logging.WARNING,
                )
        before = _images_of_classes(data_list)
        for row, label in labels.items():
            data_list[row]['gt_label'] = label
        kept = [info for row, info in enumerate(data_list) if row not in dropped]
        if dropped:
            self._left_out[DROPPED] = len(dropped)
        self._relabelled = len(labels.keys() - dropped)
        lost = set(before) - set(_images_of_classes(kept))
        if lost and not any(one.is_shared for one in self.decisions.values()):
            self.report_lost([names[number] for number in sorted(lost)])
        return kept

    def report_lost(self, classes: Sequence[str]) -> None:
        """Raise, or log with ``empty_classes='warn'``, that the decisions leave no image of some classes.

        Raises:
            ValueError: The sentence.
        """
        files = ' and '.join(dict.fromkeys(one.file for one in self.decisions.values()))
        which = 'the class' if len(classes) == 1 else 'the classes'
        text = f'ImageFolder: the decisions in {files} leave no image of {which} {listed(map(repr, classes))}.'
        if self.empty_classes == 'error':
            one, them = ('one of them', 'it') if len(classes) == 1 else ('one of each class', 'them')
            raise ValueError(
                f"{text} Take {one} back, or set empty_classes='warn' in the dataset to train without {them}."
            )
        print_log(text, logger='current', level=logging.WARNING)

    def place_of(self, path: str) -> str:
        """Return the absolute path, or the address, of an image in a table of decisions."""
        return _place(self._path_of(path))

    def is_elsewhere(self, path: str) -> bool:
        """Return whether a path in a table of decisions is of another split of this data (once images are found)."""
        place = self.place_of(path)
        if place in self._elsewhere:
            return True
        others = [_place(os.path.join(self.data_root, path)), place]
        above = os.path.join(os.path.abspath(self.data_root or self.img_prefix), '')
        return any(one.startswith(above) and os.path.isfile(one) for one in others)

    def _check_elsewhere(self, path: str, decisions: LabelDecisions, rows: Container[str]) -> None:
        """Raise if a path in a table of decisions is no image of this dataset or of another split of its data."""
        if self.is_elsewhere(path):
            return
        if has_raw_bytes(path):  # of no file: the table has another encoding, and this says so
            decode_text('ImageFolder', decisions.file, get(decisions.file))
        every = [*decisions.drop, *decisions.relabel]
        if len(every) > 1 and not any(self.place_of(one) in rows for one in every):
            raise ValueError(
                f'ImageFolder: none of the {len(every)} images that {decisions.file} decides on ({path!r} ...) is one '
                f'of this dataset ({os.path.abspath(self.ann_file or self.img_prefix)}). The table is of other data, '
                f'or they have moved: write the paths below {os.path.abspath(self.img_prefix)}.'
            )
        raise ValueError(
            f'ImageFolder: {decisions.file} decides on {path!r}, which is not an image of this dataset '
            f'({os.path.abspath(self.ann_file or self.img_prefix)}). Delete the line, or write the path below '
            f'{os.path.abspath(self.img_prefix)}.'
        )

    def _path_of(self, name: str) -> str:
        backend = get_file_backend(self.img_prefix, enable_singleton=True)
        path = backend.join_path(self.img_prefix, name)
        if name.isascii() or not isinstance(backend, LocalBackend) or os.path.lexists(path):
            return path
        other = (backend.join_path(self.img_prefix, unicodedata.normalize(form, name)) for form in ('NFC', 'NFD'))
        return next(filter(os.path.lexists, other), path)

    def _check_empty(self, numbers: Sequence[int], where: str) -> None:
        if not numbers:
            return
        names = listed(f'{number} ({self.CLASSES[number]})' for number in numbers)
        text = f'ImageFolder: no image for {len(numbers)} of {len(self.CLASSES)} classes in {where}: {names}.'
        if list(numbers) == [0] and self.CLASSES[0] == '0' and self.ann_file:
            text += ' (Numbers of classes count from 0.)'
        if self.empty_classes == 'error':
            raise ValueError(f"{text} Add images, remove the class, or set empty_classes='warn' in this dataset.")
        print_log(text, logger='current', level=logging.WARNING)


def _place(path: str) -> str:
    return path if '://' in path else os.path.abspath(path)


def _images_of_classes(infos: Sequence[dict]) -> Counter[int]:
    return Counter(number for info in infos for number in np.ravel(info.get('gt_label', ())).tolist())


def _counted(counts: Counter[str]) -> str:
    return ', '.join(f'{what} ({count})' for what, count in counts.most_common())
