"""Read checkpoints, without running code that they contain.

Tests, ``load_from``, resuming, the phases of a chain, streams (``checkpoint_path``), teachers, the members of an
ensemble and mmengine's ``init_cfg=dict(type='Pretrained')`` all end here.
"""

import os
from collections import OrderedDict
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Union
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, get_rank
from mmengine.fileio import get_file_backend
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import nn

from .compat.torch import (
    WITHOUT_FLOAT64,
    Placeholder,
    RunsCodeError,
    copy_module_versions,
    placeholders_in,
    read_torch_file,
)
from .plain_content import from_plain
from .renames import with_new_metric_names
from .safetensors_folder import folder_weights, read_sidecar

__all__ = [
    'CheckpointError', 'check_built', 'checkpoints_are_trusted', 'read_checkpoint', 'read_weights',
    'trust_checkpoints', 'weights_of',
]  # fmt: skip

# The keys that people keep weights under, with the names of the toolboxes: the first that is there counts. timm's files
# with an average hold the raw weights too, and timm takes the average. (mmengine's `state_dict` is the average.)
WEIGHT_KEYS = ('state_dict_ema', 'state_dict', 'model_state_dict', 'model', 'net')
_WRAPPERS = ('module.', '_orig_mod.')  # of DistributedDataParallel and torch.compile, in either order

_trusted = False


class CheckpointError(ValueError):
    """The file is not a checkpoint, is damaged, or needs code to be run; the message says which, and what to do."""


def trust_checkpoints(trust: bool = True) -> None:
    """Allow checkpoints to run their code in this process from now on (``--trust-checkpoint`` of the tools).

    A pickle may run any command with the rights of whoever reads it. Only for files of people you trust.
    """
    global _trusted
    _trusted = trust


def checkpoints_are_trusted() -> bool:
    """Return whether :func:`trust_checkpoints` was called; then the config in a checkpoint is unrestricted, too."""
    return _trusted


def read_checkpoint(path: Union[str, Path], map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        path (str | Path): A file of ``torch.save`` (zip, or the format before torch 1.6), a ``.safetensors`` file, a
            folder of ``hybridcls push``, or an address that mmengine knows (``https://``, ``mmcls://``, ``s3://``,
            ...).
        map_location: As in ``torch.load``. Defaults to ``'cpu'``.

    Returns:
        dict: What is in the file; the weights also under ``'state_dict'``, unless they are the whole file. Objects of
        classes that are not known are placeholders, and a line of the log names them. Histories and numpy's arrays are
        what they were when they were saved.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged, or holds no weights, or nothing but code.
    """
    path = os.fspath(path)
    return (
        CheckpointLoader.load_checkpoint(path, map_location) if '://' in path else load_from_local(path, map_location)
    )


def read_weights(path: Union[str, Path], map_location: Any = 'cpu') -> 'OrderedDict[str, Any]':
    """Read the weights of a checkpoint, by name; see :func:`read_checkpoint` and :func:`weights_of`."""
    return weights_of(read_checkpoint(path, map_location), str(path))


def weights_of(content: Any, path: str = 'the checkpoint') -> 'OrderedDict[str, Any]':
    """Find the weights in a checkpoint's content: under one of ``WEIGHT_KEYS``, or at the top level.

    The prefixes ``module.`` and ``_orig_mod.`` of wrappers are taken off.

    Raises:
        CheckpointError: If they are objects that only code of the file could build.
    """
    holder, keys = content, []
    while isinstance(holder, Mapping):
        found = _keys_of_weights(holder)
        if not found:
            break
        keys += found[:1]
        holder = holder[found[0]]
    if isinstance(holder, nn.Module):  # of a trusted file
        holder = holder.state_dict()
    if not isinstance(holder, Mapping):
        _refuse(path, holder, f'a dict of weights{" below " + ".".join(keys) if keys else ""}')
    unbuilt = next((value for value in holder.values() if isinstance(value, Placeholder)), None)
    if unbuilt is not None and keys:
        _refuse(path, unbuilt, f'tensors below {".".join(keys)}')
    weights: OrderedDict[str, Any] = OrderedDict()
    for name, value in holder.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if isinstance(value, torch.Tensor) or str(name).endswith('_extra_state'):
            name = str(name)
            while name.startswith(_WRAPPERS):
                name = name.partition('.')[2]
            weights[name] = value
    copy_module_versions(holder, weights)
    return weights


def _keys_of_weights(content: Mapping) -> list[str]:
    """Return the keys of the weights: those with tensors, else those of empty dicts or of unbuilt objects."""
    there = {key: content[key] for key in WEIGHT_KEYS if key in content}
    full = [key for key, value in there.items() if _holds_weights(value)]
    dicts = [key for key, value in there.items() if isinstance(value, Mapping)]
    return full or dicts or [key for key, value in there.items() if isinstance(value, Placeholder)]


def _holds_weights(value: Any) -> bool:
    if isinstance(value, Mapping):
        weights = any(isinstance(entry, (torch.Tensor, np.ndarray)) for entry in value.values())
        return weights or any(_holds_weights(value.get(key)) for key in WEIGHT_KEYS)
    return isinstance(value, nn.Module)


def check_built(content: Any, path: str, what: str) -> None:
    """Raise if ``content``, which is about to be used, contains placeholders of objects that were not built.

    Raises:
        CheckpointError: With the name of what only code of the file could build.
    """
    for unbuilt in placeholders_in(content):
        _refuse(path, unbuilt, f'tensors, numbers, strings, lists and dicts in {what}')


def _refuse(path: str, value: Any, expected: str) -> NoReturn:
    if not isinstance(value, Placeholder):
        raise CheckpointError(f'{path}: expected {expected}, got a {type(value).__name__}. Take another file.')
    raise CheckpointError(
        f'{path}: expected {expected}, got an object of {value.kind}, which only running code that the file names '
        f'can build. {_ADVICE}'
    )


_ADVICE = (
    'If you trust whoever made the file, add --trust-checkpoint: then it may run any command with your rights. '
    '(In Python: hybridcls.checkpoint_reading.trust_checkpoints().)'
)


def _read(file: BinaryIO, path: str, map_location: Any) -> dict[str, Any]:
    """Read an open file; its weights are returned under ``state_dict``."""
    content: Any
    if isinstance(map_location, (str, torch.device)) and torch.device(map_location).type in WITHOUT_FLOAT64:
        map_location = 'cpu'  # not all of a checkpoint could go there, and what belongs there is moved when it is used
    try:
        if path.endswith('.safetensors'):
            from safetensors.torch import load

            content = load(file.read())
            if isinstance(map_location, (str, torch.device)):
                content = {name: value.to(map_location) for name, value in content.items()}
        elif _trusted:
            content = torch.load(file, map_location=map_location, weights_only=False)
        else:
            content = read_torch_file(file, map_location)
        content = from_plain(content)
        _rename_metrics(content)
    except RunsCodeError as error:
        raise CheckpointError(f'{path}: expected tensors and plain containers, got {error}. {_ADVICE}') from error
    except MemoryError:
        raise
    except Exception as error:  # torch, pickle, zip and safetensors have one each for every kind of damage
        if _trusted and isinstance(error, (ImportError, AttributeError)):
            raise CheckpointError(
                f'{path}: the code that it names is not here ({error}). Make it importable, or take another file.'
            ) from error
        raise CheckpointError(
            f'{path}: expected a checkpoint, got a file that is damaged or none ({type(error).__name__}: '
            f'{str(error)[:200]}). Take another one, or train again.'
        ) from error
    if isinstance(content, nn.Module):
        content = dict(state_dict=content.state_dict())
    if not isinstance(content, dict):
        _refuse(path, content, 'a dict')
    meta = content.get('meta')
    if isinstance(meta, dict) and not _trusted:
        meta.pop('config', None)  # of mmcv's checkpoints: mmengine's resume would run it as Python
    unbuilt = {value.kind: value for value in placeholders_in(content)}
    if unbuilt:
        names = sorted(unbuilt)
        print_log(
            f'{path}: not built, since that may run code of the file: objects of {", ".join(names[:8])}'
            f'{f" and {len(names) - 8} more" if len(names) > 8 else ""}. Nothing of them is used; --trust-checkpoint '
            'builds them, and lets the file run any command.',
            'current',
        )
    found = _keys_of_weights(content)
    if found:
        if len(found) > 1:
            print_log(f'{path}: weights below {" and ".join(found)}; those of {found[0]} are taken.', 'current')
        content['state_dict'] = weights_of(content, path)
        if unbuilt and not content['state_dict']:
            _refuse(path, unbuilt[min(unbuilt)], f'weights below {found[0]}')
    elif content and all(isinstance(value, torch.Tensor) for value in content.values()):
        content = weights_of(content, path)
    return content


def _rename_metrics(content: Any) -> None:
    """Rename the metrics of version 0.1 in a run's saved results, such as the best score."""
    if isinstance(content, dict):
        for key in ('message_hub', 'param_schedulers', 'resume'):
            if key in content:
                content[key] = with_new_metric_names(content[key])


def load_from_local(path: str, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint file, or a folder of ``hybridcls push``."""
    path = os.path.expanduser(path)
    path = folder_weights(path) or path
    if not os.path.isfile(path):
        what = 'is a folder, and no checkpoint' if os.path.isdir(path) else 'does not exist'
        raise FileNotFoundError(f'The checkpoint {path!r} {what}.')
    try:
        sidecar = read_sidecar(path)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    with open(path, 'rb') as file:
        content = _read(file, path, map_location)
    return content if sidecar is None else dict(meta=sidecar['meta'], state_dict=content)


def load_from_internet(address: str, map_location: Any = None) -> dict[str, Any]:
    """Download a file with mmengine's rules and cache folder, and read it here."""
    from mmengine.runner import checkpoint as known

    scheme, _, name = address.partition('://')
    if scheme in ('torchvision', 'modelzoo'):
        address = known.get_torchvision_models()[name]
    elif scheme == 'mmcls':
        address = known.get_mmcls_models()[name]
    elif scheme in ('open-mmlab', 'openmmlab'):
        address = known.get_external_models()[known.get_deprecated_model_names().get(name, name)]
    if '://' not in address:  # of a file beside mmengine's list of models
        home = os.getenv('MMENGINE_HOME') or os.path.join(os.getenv('XDG_CACHE_HOME', '~/.cache'), 'mmengine')
        return load_from_local(os.path.join(home, address), map_location)
    path = Path(torch.hub.get_dir()) / 'checkpoints' / Path(urlparse(address).path).name
    for turn in (get_rank() == 0, True):  # the first process, then whoever does not see what it fetched
        if turn and not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(address, str(path))
        barrier()
    content = load_from_local(str(path), map_location)
    if scheme == 'mmcls':
        weights = weights_of(content, address)
        backbone = {name[9:]: value for name, value in weights.items() if name.startswith('backbone.')}
        return dict(state_dict=OrderedDict(backbone))
    return content


def load_from_storage(address: str, map_location: Any = None) -> dict[str, Any]:
    """Read an object from a storage that mmengine's file backends support."""
    data = get_file_backend(address, backend_args=dict(backend='petrel')).get(address)
    return _read(BytesIO(data), address, map_location)


def _refuse_pavi(address: str, map_location: Any = None) -> NoReturn:
    raise CheckpointError(f'{address}: expected a file or an address, got pavi://. Fetch the file first.')


# mmengine's own loaders declare `getattr` safe, and where that does not do they run the code of the file. So its public
# registry of loaders gets ours, for all it has: then Runner, `init_cfg=dict(type='Pretrained')` and mmpretrain read
# through here too. That holds for the whole process; every file that mmengine reads without running code is read.
_INTERNET = ('http://', 'https://', 'torchvision://', 'modelzoo://', 'mmcls://', 'open-mmlab://', 'openmmlab://')
CheckpointLoader.register_scheme('', load_from_local, force=True)
CheckpointLoader.register_scheme(_INTERNET, load_from_internet, force=True)
CheckpointLoader.register_scheme((r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), load_from_storage, force=True)
CheckpointLoader.register_scheme('pavi://', _refuse_pavi, force=True)
