"""Create a timm model without its classifier, or explain in a sentence why that fails."""

import itertools
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any, Optional, Union

import timm
import torch
from mmengine.logging import print_log
from torch import nn

from hybridcls.checks import check_number, did_you_mean, listed
from hybridcls.compat.timm import fix_position_tables
from hybridcls.signatures import takes_argument

from ..weights.pretrained_weights import hub_config, pretrained_weights
from ..weights.timm_loading import check_timm_weights, load_timm_weights
from ..weights.weight_files import weights_file

__all__ = ['check_model_name', 'check_weights', 'create_timm_model', 'fixed_size', 'map_indices', 'patch_size']

# What a stream decides by itself, and what it can be told.
_OWN_TO_THE_STREAM = {'num_classes', 'features_only'}
_KEYS = (
    'model_name', 'output', 'pretrained', 'checkpoint_path', 'drop_path_rate', 'img_size', 'frozen_stages',
    'out_indices', 'with_cp', 'mean', 'std',
)  # fmt: skip
# Others in its config.
_OF_CONFIG = ('type', '_scope_', 'default_drop_path_rate')


def create_timm_model(
    model_name: str,
    pretrained: bool,
    checkpoint_path: str,
    drop_path_rate: Optional[float],
    img_size: Union[int, Sequence[int], None],
    timm_args: dict,
    default_drop_path_rate: float = 0.0,
    out_indices: Union[int, Sequence[int], None] = None,
    only_check: bool = False,
) -> nn.Module:
    """Create a timm model with ``num_classes=0``.

    Args:
        model_name (str), pretrained (bool), checkpoint_path (str), drop_path_rate (float, optional), img_size,
            default_drop_path_rate (float): As :class:`~hybridcls.models.backbones.TimmStream` takes them. Models of
            any image size are not given one, and models without stochastic depth no rate that was not written, or 0.
        timm_args (dict): Other arguments of the model.
        out_indices (int | Sequence[int], optional): The maps to return (:func:`map_indices`); what comes after the
            last of them is taken off. Defaults to None: the whole model.
        only_check (bool): Create it on the meta device, without memory and values, and only compare the weights with
            it. Defaults to False.

    Raises:
        ValueError: For an unknown model or an impossible size, or weights that do not fit or do not exist.
        TypeError: If the model does not take an argument.
        FileNotFoundError: If the weights are neither here nor to be had from the network.
    """
    check_model_name('TimmStream', model_name)
    for key in _OWN_TO_THE_STREAM & timm_args.keys():
        raise TypeError(
            f'TimmStream: {key}={timm_args[key]!r} cannot be set: a stream is the whole model without its '
            "classifier. Its form is set by output='map', 'tokens' or 'vector'."
        )
    # (Some models have stochastic depth by default, so that a rate of 0 must be said.)
    args = dict(timm_args, drop_path_rate=default_drop_path_rate if drop_path_rate is None else drop_path_rate)
    if img_size is not None:
        args['img_size'] = img_size if isinstance(img_size, int) else tuple(img_size)
    if checkpoint_path:
        weights_file('TimmStream', checkpoint_path)  # before the model is built
    folder = hub_config('TimmStream', model_name, args.get('cache_dir'))
    hub_id, model_name = (model_name, f'local-dir:{folder}') if folder else ('', model_name)
    optional = {'img_size', 'drop_path_rate'} if not drop_path_rate else {'img_size'}
    try:
        with torch.device('meta') if only_check else nullcontext():
            model: Any = _create_with_most(optional, model_name, args)
        cut_off = (
            set() if out_indices is None else _cut(model, map_indices('TimmStream', model, model_name, out_indices))
        )
        if checkpoint_path or pretrained:
            if hub_id:
                model.pretrained_cfg.update(file=None, source='hf-hub', hf_hub_id=hub_id.partition(':')[2])
            _load(model, model_name, checkpoint_path, timm_args, cut_off, only_check)
        return model
    except TypeError as error:
        raise _explained(error, model_name, {key: args[key] for key in args if key not in optional}) from error
    except (AssertionError, ZeroDivisionError) as error:
        raise ValueError(
            f'TimmStream: {model_name} cannot be built for img_size={img_size} with {timm_args} '
            f'({error or type(error).__name__}). Choose an img_size that its patches and windows divide.'
        ) from error
    except FileNotFoundError as error:
        if str(model_name).startswith('local-dir:') and not os.path.isfile(f'{model_name[10:]}/config.json'):
            raise FileNotFoundError(
                f'TimmStream: {model_name} is no folder with a config.json that timm wrote ({error}).'
            ) from error
        raise


def check_model_name(caller: str, model_name: Any) -> None:
    """Raise a ValueError with similar names unless timm has a model, and weights, of this name.

    Names with a source (``local-dir:...``, ``hf-hub:...``) are left to it.
    """
    if isinstance(model_name, str) and ':' in model_name:
        return
    if not (isinstance(model_name, str) and timm.is_model(model_name)):
        names = timm.list_models()
        raise ValueError(
            f'{caller}: timm has no model {model_name!r}.{did_you_mean(str(model_name), names)} '
            f'timm.list_models() lists its {len(names)} names.'
        )
    architecture, _, tag = model_name.partition('.')
    tags = [name.partition('.')[2] for name in timm.list_models(f'{architecture}.*', pretrained=True)] if tag else []
    if tag and tag not in tags:
        raise ValueError(
            f'{caller}: timm has no weights {tag!r} of {architecture}.{did_you_mean(tag, tags)} '
            f'It has: {", ".join(tags) or "none"}.'
        )


def check_weights(stream: Mapping[str, Any], img_size: Union[int, Sequence[int], None]) -> None:
    """Raise unless a stream's weights file matches its model, of which only the needed part is built.

    Args:
        stream (Mapping): Its config. A file behind an address, or of JAX, is left to the build.
        img_size (int | Sequence[int], optional): That of a stream that does not set its own.

    Raises:
        ValueError: If the file cannot be read, or holds another model; tells which layers differ.
    """
    if '://' in stream['checkpoint_path'] or stream['checkpoint_path'].endswith('.npz'):
        return
    timm_args = {key: value for key, value in stream.items() if key not in (*_KEYS, *_OF_CONFIG)}
    size = stream.get('img_size') or img_size
    of_stream = (stream['model_name'], False, stream['checkpoint_path'], stream.get('drop_path_rate'), size, timm_args)
    with suppress(Exception):  # what it finds on the meta device, where not all models can be built, is found again
        create_timm_model(*of_stream, out_indices=stream.get('out_indices'), only_check=True)
        return
    create_timm_model(*of_stream, out_indices=stream.get('out_indices'))


def _load(
    model: Any, model_name: str, checkpoint_path: str, timm_args: dict, cut_off: set[str], only_check: bool
) -> None:
    """Load the requested weights, all of them or none."""
    config = dict(model.pretrained_cfg)
    if model_name.startswith('local-dir:'):
        model_name = config['architecture']
    changed = {key: value for key, value in timm_args.items() if key not in ('cache_dir', 'pretrained_cfg_overlay')}
    described = f'{model_name} with {changed}' if changed else model_name
    source: Any = checkpoint_path and weights_file('TimmStream', checkpoint_path)
    source = (
        source
        or config.get('state_dict')
        or pretrained_weights('TimmStream', model_name, config, timm_args.get('cache_dir'))
    )
    if str(source).endswith('.npz'):  # of JAX
        model.load_pretrained(source)
    elif only_check:
        check_timm_weights('TimmStream', model, described, source, cut_off)
    else:
        print_log(f'TimmStream: {load_timm_weights("TimmStream", model, described, source, cut_off)}', 'current')


def _create_with_most(optional: set[str], model_name: str, args: dict) -> nn.Module:
    """Create the model with as many of the optional arguments as it accepts.

    By trying: what an architecture takes is known to its constructor alone, since timm's functions pass ``**kwargs`` on
    and resolve old names and local folders; no weight is loaded yet.
    """
    given, failures = sorted(optional & args.keys(), reverse=True), []  # img_size first, which most convnets reject
    for number in range(len(given) + 1):
        for without in itertools.combinations(given, number):
            taken = {key: value for key, value in args.items() if key not in without}
            try:
                return fix_position_tables(timm.create_model(model_name, num_classes=0, **taken))
            except TypeError as error:
                failures.append(error)
    raise failures[-1]


def _explained(error: TypeError, model_name: str, written: dict) -> TypeError:
    """Name the argument that the model does not accept, or whose value is invalid: the one that fails alone."""
    for key, value in written.items():
        if key == 'pretrained_cfg_overlay':
            continue
        try:
            timm.create_model(model_name, num_classes=0, **{key: value})
        except TypeError as alone:
            if takes_argument(type(timm.create_model(model_name, num_classes=0)), key):
                return TypeError(f'TimmStream: {model_name} cannot be built with {key}={value!r} ({alone}).')
            hint = '' if key in _KEYS else did_you_mean(key, _KEYS)
            return TypeError(
                f'TimmStream: {model_name} takes no argument {key!r}.{hint} A stream takes {", ".join(_KEYS)}, '
                f'and the arguments of its timm model. If {key} comes from a base config, written for another model: '
                'dict(_delete_=True, model_name=...) drops what the base says of this stream.'
            )
        except Exception:  # it may need the others
            continue
    return TypeError(f'TimmStream: {model_name} cannot be built with {written} ({error}).')


def map_indices(caller: str, model: Any, model_name: str, out_indices: Union[int, Sequence[int]]) -> tuple[int, ...]:
    """Return ``out_indices`` as ascending numbers from 0 to the last map; negative ones count from the end.

    Raises:
        ValueError: If the model has no such map, or one is named twice; tells the strides of its maps.
        TypeError: If one is no integer.
    """
    strides = [one['reduction'] for one in model.feature_info]
    count = len(strides)
    given = [out_indices] if isinstance(out_indices, int) else list(out_indices)
    for index in given:
        advice = f'{model_name} has {count} maps, of strides {listed(map(str, strides))}.'
        check_number(caller, 'out_indices', index, -count, count - 1, integer=True, advice=advice)
    indices = tuple(sorted({index % count for index in given}))
    if not given or len(indices) < len(given):
        raise ValueError(f'{caller}: expected out_indices that name each map once, got {tuple(given)}.')
    return indices


def _cut(model: Any, indices: Sequence[int]) -> set[str]:
    """Remove the layers after the last of these maps, and return the names of their weights."""
    before = set(model.state_dict())
    model.prune_intermediate_layers(list(indices), prune_norm=True, prune_head=True)
    if isinstance(getattr(model, 'head', None), nn.Module):
        model.head = nn.Identity()  # timm 1.0.22 leaves its norm
    return before - set(model.state_dict())


def patch_size(model: nn.Module) -> Optional[tuple[int, int]]:
    """Return height and width of a model's patches, if it divides images into patches."""
    patch = getattr(getattr(model, 'patch_embed', None), 'patch_size', None)
    return None if patch is None else (patch, patch) if isinstance(patch, int) else tuple(patch)


def fixed_size(model: nn.Module) -> Optional[tuple[int, int]]:
    """Return the only image size (h, w) that the model accepts, or None if it accepts any."""
    embed = getattr(model, 'patch_embed', None)
    size = getattr(embed, 'img_size', None)
    if size is None or not getattr(embed, 'strict_img_size', True):
        return None
    return (int(size[0]), int(size[1]))
