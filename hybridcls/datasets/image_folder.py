"""Your own images: a folder of class folders, or a list of files."""

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
from .dataset_parts import loaders_of
from .image_files import files_below, is_hidden
from .image_formats import file_kind, readable_extensions
from .transforms.load_image import LoadImage, UnreadableImageError

__all__ = ['ImageFolder']

_LINE = '\n  '
_HEADERS_READ = 64


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """mmpretrain's ``CustomDataset``, with answers where a folder of real images goes wrong.

    ::

        data_root/data_prefix/        a folder for each class, images at any depth below
            cat/1.jpg cat/2.png ...
            dog/...

    or, with ``ann_file``, a list of ``path label`` lines or a table (:func:`~hybridcls.datasets.read_annotations`), the
    paths below ``data_root/data_prefix``. Labels are class names or numbers from 0. Hidden files and folders are left
    out, and what else is no image is counted: :meth:`describe`.

    Class numbers follow the alphabetical order of the folders, or of the names in the list. With ``classes=[...]`` in
    the order you like, folders are numbered by *name*; names of which none is a folder are taken as titles of the
    folders in alphabetical order (``metainfo['class_folders']`` keeps the folders' names). In a run, what the training
    data name decides: the labels of validation, test and bank are matched by name (ClassNamesHook), so that those
    need no ``classes``.

    Args:
        data_root (str): The folder. In a config, the top-level ``data_root`` is copied here. Defaults to ``''``.
        data_prefix (str | dict): The folder below ``data_root``, such as ``'train'``. Defaults to ``''``.
        ann_file (str): The list, an absolute path or one below ``data_root``. Defaults to ``''``: class folders.
        ann_format (dict, optional): How the list is written where that cannot be seen: ``encoding``, ``delimiter`` and
            ``columns`` of :func:`~hybridcls.datasets.read_annotations`. Defaults to None.
        with_label (bool): False: all images below the folder (or in the list), without labels. Defaults to True.
        extensions (Sequence[str], optional): How the names of images end. Defaults to None: all that the installed
            decoders can read (:func:`~hybridcls.datasets.image_formats.readable_extensions`).
        empty_classes (str): What to do when a class that the folder or ``classes`` names has no image: ``'error'``, or
            ``'warn'`` and go on. It is named either way. Defaults to ``'error'``.
        on_unreadable (str): What to do with an image that cannot be read: ``'error'`` stops; ``'skip'`` names it once
            and goes on. In training the next readable image of the same class takes its place, the same one each
            time, so that batches keep their size and classes. With ``test_mode=True`` a stand-in would falsify
            the score, so there ``'skip'`` reads all files at the start and leaves unreadable ones out of the set.
            Defaults to ``'error'``.
        verify (bool, optional): Whether to read every file at the start, in several threads: with ``'error'`` all
            unreadable files are named at once, with ``'skip'`` they are left out, in training too. Defaults to None:
            only with ``'skip'`` and ``test_mode=True``.
        lazy_init (bool): Look for the images later. Defaults to False.
        **kwargs: ``pipeline``, ``classes``, ``test_mode``, ``indices`` ... of mmpretrain's BaseDataset.

    Raises:
        FileNotFoundError: If the folder or the list is not there: where it was looked for, and which key changes it.
        ValueError: If there is no image, an empty class, a label or folder that is no class, a wrong choice, or if the
            folders are ``train`` and ``val``, or one that holds folders: then ``data_prefix`` is one level too high.
        UnreadableImageError: If an image cannot be read: its path, and why.
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
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        check_choice('ImageFolder', 'empty_classes', empty_classes, ('error', 'warn'))
        check_choice('ImageFolder', 'on_unreadable', on_unreadable, ('error', 'skip'))
        if not (data_root or data_prefix or ann_file):
            raise ValueError(
                'ImageFolder: no data_root is given. Set the top-level data_root of the config: '
                '--cfg-options data_root=/path/to/your/images'
            )
        self.ann_format = dict(ann_format or {})
        check_known_keys('ImageFolder.ann_format', self.ann_format, ('encoding', 'delimiter', 'columns'))
        self.empty_classes = empty_classes
        self.on_unreadable = on_unreadable
        self.verify = verify
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

    def load_data_list(self) -> list[dict]:
        """Return ``img_path``, ``gt_label`` (with labels) and ``file_number`` of each image."""
        self.check_folder()
        self._left_out: Counter[str] = Counter()
        data_list = self._from_list() if self.ann_file else self._from_folders()
        self._images_of: Counter[Any] = Counter(info.get('gt_label') for info in data_list)
        for number, info in enumerate(data_list):
            info['file_number'] = number
        # In shared memory: what one worker of a data loader finds, the others need not find (and report) again.
        self._unreadable = torch.zeros(len(data_list), dtype=torch.bool).share_memory_()
        return data_list

    def describe(self) -> str:
        """Say what was found: images, classes, what was left out and why, and of which kinds the images are.

        The kinds are read from the headers of a sample of the files, on a local disk.
        """
        self.full_init()
        found = self._images_of.total()
        said = f'ImageFolder {os.path.abspath(self.ann_file or self.img_prefix)}: {found} images'
        if self.with_label:
            fewest, most = min(self._images_of.values()), max(self._images_of.values())
            each = f'{fewest}' if fewest == most else f'{fewest} to {most}'
            said += f' of {len(self._images_of)} classes ({each} each)'
        said += '.' if len(self) == found else f', of which indices keeps {len(self)}.'
        if self._left_out:
            said += f' Left out: {_counted(self._left_out)}.'
        if isinstance(get_file_backend(self.img_prefix), LocalBackend) and len(self):
            sample = sorted({number * len(self) // _HEADERS_READ for number in range(_HEADERS_READ)})
            kinds = Counter(file_kind(self.get_data_info(index)['img_path']) for index in sample)
            share = 'all' if len(sample) == len(self) else f'a sample of {len(sample)}'
            said += f' Headers of {share}: {_counted(kinds)}.'
        return said

    def filter_data(self) -> list[dict]:
        """Read every image, if that is asked for, and leave out (or raise for) those that cannot be read."""
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
        """Run the pipeline for one image; for an unreadable one, do what ``on_unreadable`` says."""
        readable, data = self._attempt(self.get_data_info(idx))
        return data if readable else self._stand_in(idx)

    def _attempt(self, info: dict) -> tuple[bool, Any]:
        """Whether the image can be read, and what the pipeline makes of it."""
        path, number = info['img_path'], info['file_number']
        if self._unreadable[number]:
            return False, None
        try:
            return True, self.pipeline(info)
        except Exception as error:  # whatever transform loads the image: the file decides whether it is to blame
            problem = error if isinstance(error, UnreadableImageError) else self._problem_with(path)
            if problem is None:
                raise
            self._report(problem, number)
            return False, None

    def _report(self, problem: UnreadableImageError, number: int) -> None:
        """Raise, or name the file once."""
        said = f'ImageFolder: cannot read {problem.path}: {problem.reason}'
        advice = ''
        if self.on_unreadable == 'error':
            advice = "Delete or replace it, or set on_unreadable='skip' in this dataset."
        elif self.test_mode:
            advice = (
                'A test cannot put another image in its place: leave verify at its default, so that unreadable files '
                'are left out from the start.'
            )
        if advice:
            raise UnreadableImageError(f'{said} {advice}', problem.path, problem.reason) from problem
        self._unreadable[number] = True
        # An error of the data, and mmengine shows nothing less of processes other than the first.
        print_log(f'{said} Another image of its class takes its place.', logger='current', level=logging.ERROR)

    def _stand_in(self, idx: int) -> Any:
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
        """Why a file cannot be read, or None if it can."""
        loader = next(loaders_of(self.pipeline), None) or LoadImage()
        try:
            loader.read(path)
        except UnreadableImageError as error:
            return error
        return None

    def check_folder(self) -> None:
        """Raise a FileNotFoundError if the folder or the list is not there."""
        if self.ann_file and isinstance(get_file_backend(self.ann_file), LocalBackend):
            check_file(
                'ImageFolder',
                'ann_file',
                self.ann_file,
                "Set this dataset's ann_file, or the top-level data_root of the config if the list lies there.",
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
            # Numbers without names leave open which classes a test is about.
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
                warning = check_level(where, self._prefix_below_root(), folders, inside)
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
                f'ImageFolder: no image in {where}.{advice}{left_out} Files count as images when they end in '
                f'{", ".join(sorted(self.extensions))}.'
            )
        if self.with_label:
            filled = {info['gt_label'] for info in data_list}
            self._check_empty([number for number in range(len(self.CLASSES)) if number not in filled], where)
        return data_list

    def _path_of(self, name: str) -> str:
        return get_file_backend(self.img_prefix, enable_singleton=True).join_path(self.img_prefix, name)

    def _prefix_below_root(self) -> str:
        prefix = self._given_prefix
        return prefix if isinstance(prefix, str) else prefix.get('img_path', '')

    def _check_empty(self, numbers: Sequence[int], where: str) -> None:
        if not numbers:
            return
        names = listed(f'{number} ({self.CLASSES[number]})' for number in numbers)
        said = f'ImageFolder: no image for {len(numbers)} of {len(self.CLASSES)} classes in {where}: {names}.'
        if self.empty_classes == 'error':
            raise ValueError(f"{said} Add images, take the class out, or set empty_classes='warn' in this dataset.")
        print_log(said, logger='current', level=logging.WARNING)


def _counted(counts: Counter[str]) -> str:
    return ', '.join(f'{what} ({count})' for what, count in counts.most_common())
