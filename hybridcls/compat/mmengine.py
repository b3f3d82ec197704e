"""What hybridcls knows of the inside of mmengine. Run with onedl-mmengine 0.10.12."""

import ast
import os
import types
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from mmengine.config import Config, ConfigDict
from mmengine.fileio import load
from mmengine.utils import get_installed_path

from hybridcls import config_path

if TYPE_CHECKING:
    from mmengine.dataset import BaseDataset
    from mmengine.optim import OptimWrapper
    from mmengine.runner import Runner
    from mmengine.runner.base_loop import BaseLoop

__all__ = [
    'AccumulationCounts', 'ConfigSource', 'accumulation_counts', 'bare_model', 'built_loop',
    'clip_and_log_gradient', 'count_micro_batch', 'is_lazy_config', 'lazy_bases', 'loaded_from', 'merge',
    'read_lazy_config', 'read_source', 'resume_from', 'resumes', 'rewrite_data', 'run_source',
    'set_accumulation_counts', 'set_weight_init', 'shipped_config', 'update_metainfo', 'whole_dataset',
    'with_scope',
]  # fmt: skip


# Top-level keys of a chain: they hold options of other configs, for which a `_delete_` is meant.
_OPTIONS = ('phases', 'cfg_options')


class ConfigSource(NamedTuple):
    """One config file before it is run.

    Args:
        file (str): Its absolute path.
        text (str): What it holds, with mmengine's ``{{ fileBasename }}`` and ``{{$VARIABLE:default}}`` put in.
        bases (list[tuple[str, str | None]]): Path and scope of each file that ``_base_`` names.
        placeholders (dict[str, str]): The string that stands in ``text`` for each ``{{_base_.x.y}}``, to ``'x.y'``.
        env_variables (dict[str, str]): Environment variables that were put in.
    """

    file: str
    text: str
    bases: list[tuple[str, Optional[str]]]
    placeholders: dict[str, str]
    env_variables: dict[str, str]


def read_source(file: str) -> ConfigSource:
    """Read a config file of the text style, without running it."""
    file = os.path.abspath(os.path.expanduser(file))
    with TemporaryDirectory() as folder:
        copy = str(Path(folder, f'config{Path(file).suffix}'))
        Config._substitute_predefined_vars(file, copy)
        env_variables = Config._substitute_env_variables(copy, copy)
        placeholders = Config._pre_substitute_base_vars(copy, copy)
        text = Path(copy).read_text(encoding='utf8')
        if not copy.endswith('.py') and not isinstance(load(copy), dict):
            raise TypeError('expected keys with values at its top level')
        bases = [_base_path(base, file) for base in Config._get_base_files(copy)]
    return ConfigSource(file, text, bases, placeholders, env_variables or {})


def shipped_config(name: str) -> str:
    """Return the path of a config of a package, ``package::path``: of hybridcls also in a clone without ``.mim``.

    Raises:
        FileNotFoundError: If there is no such package, or hybridcls has no such config.
    """
    package, _, inside = name.partition('::')
    if package == 'hybridcls':
        return config_path(inside)
    try:
        return str(Path(get_installed_path(package), '.mim', 'configs', inside))
    except Exception as error:
        raise FileNotFoundError(
            f'{name!r} asks for a config of the package {package!r}, which is not installed.'
        ) from error


def _base_path(base: str, file: str) -> tuple[str, Optional[str]]:
    if base.startswith('hybridcls::'):
        return shipped_config(base), 'hybridcls'
    return Config._get_cfg_path(base, file)


def run_source(source: ConfigSource, bases: dict) -> dict:
    """Return what a file itself writes: its top-level names, with the values of its bases where it asks for them."""
    if source.file.endswith('.py'):
        tree = ast.parse(source.text)
        tree.body = [node for node in tree.body if not _assigns(node, '_base_')]
        names: dict[str, Any] = {'_base_': ConfigDict(bases)}
        exec(compile(tree, source.file, 'exec'), names)
    else:
        with TemporaryDirectory() as folder:
            copy = Path(folder, f'config{Path(source.file).suffix}')
            copy.write_text(source.text, encoding='utf8')
            names = load(copy)
    own = {
        name: value
        for name, value in names.items()
        if name not in ('_base_', '_deprecation_')
        and not name.startswith('__')
        and not isinstance(value, (types.FunctionType, types.ModuleType))
    }
    Config._parse_scope(own)
    return Config._substitute_base_vars(own, source.placeholders, deepcopy(bases))


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name


def is_lazy_config(file: str) -> bool:
    """Whether a file is of mmengine's other style: ``with read_base(): ...``, or classes that it imports."""
    return Config._is_lazy_import(file)


def lazy_bases(file: str) -> list[str]:
    """Return the paths of the files that ``with read_base():`` imports."""
    tree = ast.parse(Path(file).read_text(encoding='utf8'))
    paths = []
    for name in Config._get_base_modules(tree.body):
        inside = name.lstrip('.')
        level = len(name) - len(inside)
        if level:
            folder = Path(file).parent.joinpath(*['..'] * (level - 1))
        else:
            package, _, inside = inside.partition('.')
            folder = Path(get_installed_path(package))
        paths.append(os.path.normpath(folder / f'{inside.replace(".", "/")}.py'))
    return paths


def read_lazy_config(file: str) -> dict:
    """Read a file of the lazy style with its bases: plain dicts, with dotted names in place of imported objects."""
    return Config.fromfile(file, lazy_import=True, import_custom_modules=False).to_dict()


def merge(own: dict, base: dict, allow_list_keys: bool = False) -> dict:
    """Return ``base`` with ``own`` merged into it by mmengine's rules, without any ``_delete_`` key.

    mmengine leaves it in where there is nothing to delete, and the class that is built then gets it.
    """
    merged = Config._merge_a_into_b(own, base, allow_list_keys=allow_list_keys)
    merged.pop('_delete_', None)
    for key, value in merged.items():
        if key not in _OPTIONS:
            _drop_delete(value)
    return merged


def _drop_delete(node: Any) -> None:
    if isinstance(node, dict):
        node.pop('_delete_', None)
    if isinstance(node, (dict, list, tuple)):
        for value in node.values() if isinstance(node, dict) else node:
            _drop_delete(value)


def with_scope(values: dict, scope: Optional[str]) -> dict:
    """Return the values of a base as mmengine's dicts, which remember the package that they come from."""
    return Config._dict_to_config_dict(values, scope) if values else ConfigDict()


def rewrite_data(dataset: 'BaseDataset', change: Callable[[dict], dict]) -> None:
    """Replace the information of each image, in place; the order and the number of images stay.

    Whoever reads the dataset afterwards, workers that start later included, sees the new information.

    Args:
        dataset (BaseDataset): It is fully initialized if it is not yet.
        change: Takes and returns the dict of an image.
    """
    dataset.full_init()
    data = [change(dataset.get_data_info(index)) for index in range(len(dataset))]
    dataset.data_list = data
    if dataset.serialize_data and data:  # it is held as bytes, and empties data_list
        dataset.data_bytes, dataset.data_address = dataset._serialize_data()


def update_metainfo(dataset: Any, values: dict) -> None:
    """Set entries of a dataset's or wrapper's ``metainfo`` (which returns a copy); None takes one out."""
    metainfo = getattr(dataset, '_metainfo', None)
    if isinstance(metainfo, dict):
        metainfo.update(values)
        for key in [key for key, value in values.items() if value is None]:
            del metainfo[key]


def whole_dataset(dataset: Any) -> Any:
    """Return the dataset that a dataloader's ``num_batch_per_epoch`` cuts short, or ``dataset`` itself."""
    from mmengine.runner.runner import _SlicedDataset

    return dataset._dataset if isinstance(dataset, _SlicedDataset) else dataset


def built_loop(runner: 'Runner', kind: str) -> Optional['BaseLoop']:
    """Return the loop ``'train'``, ``'val'`` or ``'test'`` if it is built; ``runner.train_loop`` would build it."""
    from mmengine.runner.base_loop import BaseLoop

    loop = getattr(runner, f'_{kind}_loop')
    return loop if isinstance(loop, BaseLoop) else None


def bare_model(model: Any) -> Any:
    """Return the model inside wrappers for several processes and for test-time augmentation."""
    from mmengine.model import BaseTTAModel, is_model_wrapper

    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def resumes(runner: 'Runner') -> bool:
    """Whether the run goes on from a checkpoint, its state included."""
    return bool(runner._resume)


def set_weight_init(runner: 'Runner', draw: Callable[[], None]) -> None:
    """Let ``draw`` initialize the weights of a run that is about to begin, in place of the model's ``init_weights``."""
    runner._init_model_weights = draw


def loaded_from(runner: 'Runner') -> Optional[str]:
    """Return the checkpoint that the run resumes or starts from; None if there is none, or the choice is open."""
    return runner._load_from


def resume_from(runner: 'Runner', path: Optional[str]) -> None:
    """Let a run that is about to begin resume a checkpoint; with None, begin without one."""
    runner._load_from, runner._resume = path, path is not None


class AccumulationCounts(NamedTuple):
    """How far the accumulation of gradients in an optimizer wrapper is.

    Args:
        done (int): Micro-batches so far, in all updates.
        per_update (int): Micro-batches of an update.
        total (int): Micro-batches of the training; -1 where it is not known.
    """

    done: int
    per_update: int
    total: int

    @property
    def is_between_updates(self) -> bool:
        """Whether no update is half done."""
        return self.done % self.per_update == 0


def accumulation_counts(wrapper: 'OptimWrapper') -> AccumulationCounts:
    """Return the counts of an optimizer wrapper."""
    return AccumulationCounts(wrapper._inner_count, wrapper._accumulative_counts, wrapper._max_counts)


def set_accumulation_counts(wrapper: 'OptimWrapper', done: int, total: int) -> None:
    """Do what ``initialize_count_status`` does, without its warnings of gradients that are lost."""
    wrapper._inner_count, wrapper._max_counts = done, total
    wrapper._remainder_counts = total % wrapper._accumulative_counts


def count_micro_batch(wrapper: 'OptimWrapper') -> None:
    """Count a backward pass, as every ``backward`` of an optimizer wrapper must."""
    wrapper._inner_count += 1


def clip_and_log_gradient(wrapper: 'OptimWrapper') -> None:
    """Clip the gradient as ``clip_grad`` of an optimizer wrapper says, and log its norm before."""
    wrapper._clip_grad()
