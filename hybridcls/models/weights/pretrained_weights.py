"""Find the pretrained weights of a timm model, in the local cache or on a reachable server."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union
from urllib.parse import urlsplit

import timm
import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from hybridcls.hub_cache import cache_folder, cached_file, check_answers, unavailable

from .weight_files import weights_file

__all__ = ['check_pretrained', 'hub_config', 'pretrained_weights']

_OF_HUB = ('hf-hub', 'hf_hub')
_SAFE = 'model.safetensors'


def pretrained_weights(
    caller: str, model_name: str, config: Mapping[str, Any], cache_dir: Union[str, Path, None] = None
) -> str:
    """Return the file or the URL of the weights that timm's config of a model names.

    What is in the local cache of the Hugging Face Hub is used without a network. What is not is fetched, if the Hub
    (``HF_ENDPOINT``; proxies as its library takes them) answers in little more than a second.

    Args:
        caller (str): Name used as the error prefix.
        model_name (str): The model, for the message.
        config (Mapping): Its ``pretrained_cfg``.
        cache_dir (str | Path, optional): Instead of the Hub's own cache (``HF_HOME``). Defaults to None.

    Raises:
        ValueError: If timm has no weights for the model.
        FileNotFoundError: If they are neither here nor to be had.
    """
    if config.get('file'):
        return weights_file(caller, config['file'])
    repo, _, revision = (config.get('hf_hub_id') or '').partition('@')
    if repo:
        names = _names(config.get('hf_hub_filename'))
        return _from_hub(caller, model_name, repo, names, revision or None, cache_dir)
    url = config.get('url')
    if not url:
        raise ValueError(
            f'{caller}: timm has no pretrained weights for {model_name}. Set pretrained=False, or choose a model of '
            'timm.list_models(pretrained=True).'
        )
    file = os.path.join(torch.hub.get_dir(), 'checkpoints', os.path.basename(urlsplit(url).path))
    if not os.path.isfile(file):
        check_answers(caller, model_name, file, '{0.scheme}://{0.netloc}'.format(urlsplit(url)))
    return url


def check_pretrained(caller: str, model_name: str, cache_dir: Union[str, Path, None] = None) -> None:
    """Raise unless the weights that timm lists for a model are cached, or the Hub responds.

    Raises:
        FileNotFoundError: If they are neither here nor to be had.
    """
    known = timm.get_pretrained_cfg(model_name) if ':' not in model_name else None
    if known is not None and known.hf_hub_id:
        repo, _, revision = known.hf_hub_id.partition('@')
        if cached_file(repo, _names(known.hf_hub_filename), revision or None, cache_dir) is None:
            check_answers(caller, model_name, cache_folder(repo, cache_dir))


def hub_config(caller: str, model_name: str, cache_dir: Union[str, Path, None] = None) -> Optional[str]:
    """Return the folder with the cached config of a model ``hf-hub:OWNER/NAME``; None for other names, or to fetch it.

    Raises:
        FileNotFoundError: If it is neither here nor to be had.
    """
    source, _, repo = model_name.partition(':')
    if source not in _OF_HUB:
        return None
    repo, _, revision = repo.partition('@')
    file = cached_file(repo, ['config.json'], revision or None, cache_dir)
    if file is not None:
        return os.path.dirname(file)
    check_answers(caller, model_name, cache_folder(repo, cache_dir))
    return None


def _from_hub(
    caller: str,
    model_name: str,
    repo: str,
    names: list[str],
    revision: Optional[str],
    cache_dir: Union[str, Path, None],
) -> str:
    cached = cached_file(repo, names, revision, cache_dir)
    if cached is not None:
        return cached
    folder = cache_folder(repo, cache_dir)
    check_answers(caller, model_name, folder)
    for name in names:
        try:
            return hf_hub_download(repo, name, revision=revision, cache_dir=cache_dir)
        except EntryNotFoundError:
            continue
        except OSError as error:
            raise unavailable(caller, model_name, folder, f'{type(error).__name__} at {constants.ENDPOINT}') from error
    raise ValueError(f'{caller}: expected one of {", ".join(names)} in {repo} at {constants.ENDPOINT}, got none.')


def _names(name: Optional[str]) -> list[str]:
    """Return the names of a weights file on the Hub, the safe format first, in timm's order."""
    if name is None:
        return [_SAFE, 'pytorch_model.bin']
    safe = {'pytorch_model.bin': _SAFE, 'open_clip_pytorch_model.bin': 'open_clip_model.safetensors'}
    also = safe.get(name) or f'{os.path.splitext(name)[0]}.safetensors'
    return list(dict.fromkeys([also, name]))
