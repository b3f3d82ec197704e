"""Create a timm model without its classifier, or say in a sentence why that cannot be."""

import itertools
from collections.abc import Sequence
from typing import Any, Optional, Union

import timm
from timm.models import load_pretrained
from torch import nn

from hybridcls.checkpoint_reading import CheckpointError, read_weights
from hybridcls.checks import check_file, did_you_mean
from hybridcls.compat.timm import checkpoint_filter, fix_position_tables
from hybridcls.signatures import takes_argument

from ..weights.timm_weights import names_in_config

__all__ = ['check_model_name', 'create_timm_model', 'fixed_size', 'patch_size']

# What a stream decides by itself, and what it can be told.
_OWN_TO_THE_STREAM = {'num_classes', 'features_only', 'out_indices'}
_KEYS = (
    'model_name', 'output', 'pretrained', 'checkpoint_path', 'drop_path_rate', 'img_size', 'frozen_stages',
    'with_cp', 'mean', 'std',
)  # fmt: skip


def create_timm_model(
    model_name: str,
    pretrained: bool,
    checkpoint_path: str,
    drop_path_rate: Optional[float],
    img_size: Union[int, Sequence[int], None],
    timm_args: dict,
    default_drop_path_rate: float = 0.0,
) -> nn.Module:
    """Create a timm model with ``num_classes=0``.

    Args:
        model_name (str), pretrained (bool), checkpoint_path (str), drop_path_rate (float, optional), img_size,
            default_drop_path_rate (float): As :class:`~hybridcls.models.backbones.TimmStream` takes them. Models of
            any image size are not given one, and models without stochastic depth no rate that was not written, or 0.
        timm_args (dict): Other arguments of the model.

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
        check_file('TimmStream', 'checkpoint_path', checkpoint_path)
    optional = {'img_size', 'drop_path_rate'} if not drop_path_rate else {'img_size'}
    try:
        model = _create_with_most(optional, model_name, args)
        if checkpoint_path or pretrained:
            _load(model, model_name, checkpoint_path, args)
        return model
    except TypeError as error:
        raise _explained(error, model_name, {key: args[key] for key in args if key not in optional}) from error
    except (AssertionError, ZeroDivisionError) as error:
        raise ValueError(
            f'TimmStream: {model_name} cannot be built for img_size={img_size} with {timm_args} '
            f'({error or type(error).__name__}). Choose an img_size that its patches and windows divide.'
        ) from error
    except OSError as error:
        if str(model_name).startswith('local-dir:'):
            raise FileNotFoundError(
                f'TimmStream: {model_name} is no folder with a config.json that timm wrote ({error}).'
            ) from error
        raise FileNotFoundError(
            f'TimmStream: the pretrained weights of {model_name} are not in the local cache and could not be fetched '
            f'({type(error).__name__}). Go online once, or set pretrained=False, or give a local file with '
            'checkpoint_path=...'
        ) from error


def check_model_name(caller: str, model_name: Any) -> None:
    """Raise a ValueError with near names unless timm has a model, and weights, of this name.

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


def _load(model: Any, model_name: str, checkpoint_path: str, args: dict) -> None:
    """Load weights by timm's loader, which converts and resizes them and drops the classifier, and see what it did.

    A model without its classifier is one that timm loads without being strict, and it only logs what was missing: a
    checkpoint of another architecture would leave the stream at random, in silence.
    """
    config = dict(model.pretrained_cfg)
    if not checkpoint_path and config.get('file') and config.get('source') != 'local-dir':
        checkpoint_path = config['file'] if not config.get('custom_load') else ''  # of pretrained_cfg_overlay
    if checkpoint_path:
        config.update(state_dict=_weights(checkpoint_path), source='', custom_load=False)
    elif not any(config.get(key) for key in ('hf_hub_id', 'url', 'file', 'state_dict')):
        raise ValueError(
            f'TimmStream: timm has no pretrained weights for {model_name}. Set pretrained=False, or '
            'choose a model of timm.list_models(pretrained=True).'
        )
    differences: list[str] = []
    heads = {name.split('.')[0] for name in names_in_config(model, 'classifier')}

    def note(_: nn.Module, keys: Any) -> None:
        strange = [key for key in keys.unexpected_keys if key.split('.')[0] not in heads]
        if keys.missing_keys or strange:
            missing, many = (', '.join(names[:4]) or 'nothing' for names in (keys.missing_keys, strange))
            differences.append(f'missing: {missing}; too many: {many}')

    handle = model.register_load_state_dict_post_hook(note)
    try:
        options = dict(in_chans=args.get('in_chans', 3), cache_dir=args.get('cache_dir'))
        load_pretrained(model, config, num_classes=0, filter_fn=checkpoint_filter(model), **options)
    except (RuntimeError, KeyError, AttributeError) as error:  # shapes that differ, or a conversion that finds none
        differences.append(str(error)[:400])
        cause: Optional[Exception] = error
    else:
        cause = None
    finally:
        handle.remove()
    if differences:
        source = checkpoint_path or 'the pretrained weights of timm'
        advice = (
            'The file must hold the weights of this timm model alone; a checkpoint of a hybridcls training is '
            'given to load_from=... in the config instead.'
            if checkpoint_path
            else 'Drop the arguments that change the architecture.'
        )
        raise ValueError(
            f'TimmStream: {source} do not fit {model_name} with {_shown(args)}. {advice} First differences: '
            f'{differences[-1]}'
        ) from cause


def _weights(checkpoint_path: str) -> dict:
    try:
        weights = read_weights(checkpoint_path)
    except CheckpointError as error:
        raise ValueError(
            f'TimmStream: checkpoint_path={checkpoint_path!r} cannot be read as a file of weights alone. {error}'
        ) from error
    if not weights:
        raise ValueError(f'TimmStream: expected weights in checkpoint_path={checkpoint_path!r}, got none.')
    return weights


def _create_with_most(optional: set[str], model_name: str, args: dict) -> nn.Module:
    """Create the model with as many of the optional arguments as it takes.

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
    """Name the argument that the model does not take, or whose value it cannot use: the one that fails alone."""
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


def _shown(args: dict) -> dict:
    return {
        key: value for key, value in args.items() if key not in ('drop_path_rate', 'img_size', 'pretrained_cfg_overlay')
    }


def patch_size(model: nn.Module) -> Optional[tuple[int, int]]:
    """Height and width of the patches of a model that cuts its images into such."""
    patch = getattr(getattr(model, 'patch_embed', None), 'patch_size', None)
    return None if patch is None else (patch, patch) if isinstance(patch, int) else tuple(patch)


def fixed_size(model: nn.Module) -> Optional[tuple[int, int]]:
    """The only image size (h, w) the model takes, or None if it takes any."""
    embed = getattr(model, 'patch_embed', None)
    size = getattr(embed, 'img_size', None)
    if size is None or not getattr(embed, 'strict_img_size', True):
        return None
    return (int(size[0]), int(size[1]))
