"""The timm models of a config: ``model_name`` becomes a stream, and names and files are checked early."""

import os
from collections.abc import Iterator
from contextlib import suppress

from mmengine.config import Config

from .change import Change
from .tree import ABSENT, Path, dotted, is_a, value_at, walk

__all__ = ['backbones_in', 'check_timm_streams', 'lone_stream', 'timm_streams_in', 'weights_of_runs']


def lone_stream(cfg: Config) -> Iterator[Change]:
    """Give each HybridBackbone without streams the top-level ``model_name``, as ``cnn`` or ``vit`` by its kind.

    Raises:
        ValueError: If timm has no such model; names near ones.
    """
    model_name = cfg.get('model_name')
    for path in backbones_in(cfg) if model_name is not None else ():
        if all(value_at(cfg, (*path, stream)) in (ABSENT, None) for stream in ('cnn', 'vit')):
            from hybridcls.models.backbones.stream_kind import stream_kind

            stream = stream_kind(model_name)
            why = f'top-level model_name: {model_name} returns {"a map" if stream == "cnn" else "tokens"}'
            # The whole stream, so that a dump of the config without this change has none.
            place = (*path, stream)
            yield Change(place, value_at(cfg, place), dict(model_name=model_name), why, ('model_name',))


def check_timm_streams(cfg: Config) -> None:
    """Check the model names and the weights of streams before data are read.

    Raises:
        ValueError: If timm has no such model, or a file holds the weights of another one: names near models, or the
            layers that differ.
        FileNotFoundError: If there are no such weights, here or on the Hub.
    """
    from hybridcls.models.backbones.timm_model import check_model_name, check_weights
    from hybridcls.models.weights.pretrained_weights import check_pretrained
    from hybridcls.models.weights.weight_files import weights_file

    for path in timm_streams_in(cfg):
        stream, caller = value_at(cfg, path), dotted(path)
        if stream.get('model_name') is not None:
            check_model_name(caller, stream['model_name'])
            if stream.get('checkpoint_path'):
                weights_file(caller, stream['checkpoint_path'])
                check_weights(stream, value_at(cfg, (*path[:-1], 'img_size')) or None)
            elif stream.get('pretrained') is True and not stream.get('pretrained_cfg_overlay'):
                check_pretrained(caller, stream['model_name'], stream.get('cache_dir'))


def weights_of_runs(cfg: Config) -> Iterator[Change]:
    """Replace a work dir by its best checkpoint, else its last, where a stream takes weights."""
    from ..checkpoints.find_checkpoint import find_checkpoint

    for path in timm_streams_in(cfg):
        place = (*path, 'checkpoint_path')
        given = value_at(cfg, place)
        if isinstance(given, str) and os.path.isdir(os.path.expanduser(given)):
            with suppress(FileNotFoundError):  # no work dir; the stream takes folders of the Hub, or says what is wrong
                found = find_checkpoint(given)
                yield Change(place, given, found.path, found.why, 'the work dir')


def backbones_in(cfg: Config) -> Iterator[Path]:
    """Yield the path of each HybridBackbone in the model."""
    from hybridcls.models.backbones import HybridBackbone

    for path, node in walk(cfg.get('model') or {}, ('model',)):
        if isinstance(node, dict) and path[-1] == 'backbone' and is_a('MODELS', node, HybridBackbone):
            yield path


def timm_streams_in(cfg: Config) -> Iterator[Path]:
    """Yield the path of each stream of these backbones that is a timm model."""
    from hybridcls.models.backbones import TimmStream

    for path in backbones_in(cfg):
        for name in ('cnn', 'vit'):
            stream = value_at(cfg, (*path, name))
            if isinstance(stream, dict) and ('type' not in stream or is_a('MODELS', stream, TimmStream)):
                yield (*path, name)
