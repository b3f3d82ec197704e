"""Parameter groups: a learning rate by depth and part, a weight decay by kind."""

import copy
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import Tensor, nn

from hybridcls.checks import check_known_keys, check_number
from hybridcls.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS
from hybridcls.signatures import arguments_of, default_of

from .decay_rules import DecayRules
from .depth_reader import DepthReader
from .group_table import group_table
from .model_parts import ModelParts

__all__ = ['HybridOptimWrapperConstructor']

_WHO = 'HybridOptimWrapperConstructor'
# What weight decay is multiplied by for each kind of parameter; see DecayRules.
_DECAY_MULTS = dict(
    special_decay_mult=0.0, norm_decay_mult=0.0, bias_decay_mult=0.0, dwconv_decay_mult=None, flat_decay_mult=0.0
)
_KEYS = ['layer_decay_rate', 'lr_mult', 'bias_lr_mult', *_DECAY_MULTS, 'custom_keys', 'bypass_duplicate', 'keep_frozen']


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class HybridOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise learning rates in both streams, factors for parts, and no weight decay where it is harmful.

    For any model that mmengine trains, with any optimizer wrapper. What is put together for one parameter::

        lr = optimizer.lr * layer_decay_rate ** (layers that follow) * lr_mult of its part * lr_mult of its custom key
        weight_decay = optimizer.weight_decay * decay_mult of its custom key, or else of its kind

    Parameters with equal settings share a group, in the order of the model, so that there are few groups (foreach and
    fused optimizers work group by group) and a resumed run finds the same ones. A table of them is logged.

    Keys of ``paramwise_cfg``, all optional:

    - ``layer_decay_rate`` (float | dict): In (0, 1], for the whole model or by part: ``dict(cnn=0.9, vit=0.75)``.
      Depths are those of ``get_layer_depth``, in timm models those of timm's ``param_groups_layer_decay``; a neck and
      a head get the full rate. Defaults to 1.
    - ``lr_mult`` (dict): Factors to the learning rate by part: streams (``cnn``, ``vit``), ``neck``, ``head``, or the
      path of any submodule; the innermost part decides.
    - ``bias_lr_mult`` (float): Factor for biases outside of norms. Defaults to 1.
    - ``special_decay_mult``, ``norm_decay_mult``, ``bias_decay_mult``, ``flat_decay_mult`` (float): Factors to weight
      decay for position tables and tokens and what a timm model lists in ``no_weight_decay()``; norms; biases; all
      else of one dimension. Default to 0, where mmengine's default is 1.
    - ``dwconv_decay_mult`` (float): The same for depthwise convolutions. Defaults to 1.
    - ``custom_keys`` (dict[str, dict]): The longest key that is part of a parameter's name decides, as in mmengine:
      ``lr_mult``, ``decay_mult``, and any setting of the optimizer (``betas``). What a key does not name stays as the
      rules above have it.
    - ``bypass_duplicate`` (bool): A parameter that two modules share is trained once, under its first name. With
      False it is an error. Defaults to True.
    - ``keep_frozen`` (bool): Put parameters that need no gradient into their groups too, where a hook may unfreeze
      them; they have no state until then. Defaults to False: they are left out.

    A scheduler scales the rate of each group. Give it relative ends (``eta_min_ratio``): an absolute ``eta_min`` would
    lift the rates of deep-down layers to it.

    Args:
        optim_wrapper_cfg (dict): Config of the optimizer wrapper, with ``optimizer``.
        paramwise_cfg (dict, optional): The keys above. Defaults to None.

    Raises:
        TypeError: For an unknown key.
        ValueError: For factors out of range, parts the model does not have, a model that does not tell the order of
            its layers, or nothing to train.

    Example:
        >>> cfg = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05))
        >>> model = nn.ModuleDict(dict(backbone=nn.Linear(2, 2), head=nn.Linear(2, 2)))
        >>> wrapper = HybridOptimWrapperConstructor(cfg, dict(lr_mult=dict(backbone=0.1)))(model)
        >>> [(len(group['params']), group['lr'], group['weight_decay']) for group in wrapper.optimizer.param_groups]
        [(1, 0.0001, 0.05), (1, 0.0001, 0.0), (1, 0.001, 0.05), (1, 0.001, 0.0)]
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: Optional[dict] = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        given = copy.deepcopy(dict(self.paramwise_cfg))
        self._optimizer_cls = OPTIMIZERS.class_of(self.optimizer_cfg)
        # Unlike mmengine's, the rules hold whether or not anything is configured, and base_lr may be a default.
        self.base_lr = self._setting('lr')
        self.base_wd = self._setting('weight_decay')
        self.paramwise_cfg: dict[str, Any] = dict(
            dict(
                layer_decay_rate=1.0,
                lr_mult={},
                bias_lr_mult=1.0,
                custom_keys={},
                bypass_duplicate=True,
                keep_frozen=False,
                **_DECAY_MULTS,
            ),
            **given,
        )
        self._check(given)

    def _setting(self, name: str) -> Optional[float]:
        return self.optimizer_cfg.get(name, default_of(self._optimizer_cls, name))

    def _validate_cfg(self) -> None:
        """Check only what mmengine's own constructor of this object relies on; see :meth:`_check`."""
        if not isinstance(self.paramwise_cfg, dict):
            raise TypeError(f'{_WHO}: expected paramwise_cfg to be a dict or None, got {self.paramwise_cfg!r}.')

    def _check(self, given: dict) -> None:
        check_known_keys(f'{_WHO} (paramwise_cfg)', given, _KEYS)
        cfg = self.paramwise_cfg
        _check_factors('lr_mult', cfg['lr_mult'])
        if isinstance(cfg['layer_decay_rate'], dict):
            _check_factors('layer_decay_rate', cfg['layer_decay_rate'], 1.0, low_open=True)
        else:
            check_number(
                _WHO,
                'layer_decay_rate',
                cfg['layer_decay_rate'],
                0,
                1,
                low_open=True,
                advice='1 switches it off; a dict sets it by part.',
            )
        check_number(_WHO, 'bias_lr_mult', cfg['bias_lr_mult'], 0)
        for key in _DECAY_MULTS:
            if cfg[key] is not None:
                check_number(_WHO, key, cfg[key], 0)
        for key in ('bypass_duplicate', 'keep_frozen'):
            if not isinstance(cfg[key], bool):
                raise TypeError(f'{_WHO}: expected {key} to be True or False, got {cfg[key]!r}.')
        self._check_custom_keys(cfg['custom_keys'])
        uses_decay = [key for key in _DECAY_MULTS if given.get(key) is not None] + [
            f'custom_keys[{key!r}].decay_mult' for key, value in cfg['custom_keys'].items() if 'decay_mult' in value
        ]
        if uses_decay and self.base_wd is None:
            raise ValueError(
                f'{_WHO}: {uses_decay[0]} is a factor of the weight decay of the optimizer, but '
                f'{self.optimizer_cfg["type"]} has none. Add optimizer=dict(weight_decay=...).'
            )
        if self.base_lr is None:
            raise ValueError(
                f'{_WHO}: learning rates of groups are factors of the learning rate of the optimizer, but '
                f'{self.optimizer_cfg["type"]} has none. Add optimizer=dict(lr=...).'
            )

    def _check_custom_keys(self, custom_keys: Any) -> None:
        if not isinstance(custom_keys, dict) or not all(isinstance(value, dict) for value in custom_keys.values()):
            raise TypeError(
                f"{_WHO}: expected custom_keys to be a dict of dicts, such as {{'backbone.cnn': dict(lr_mult=0.1)}}, "
                f'got {custom_keys!r}.'
            )
        (_, *settings), are_all = arguments_of(self._optimizer_cls)
        for key, value in custom_keys.items():
            if are_all:
                check_known_keys(f'{_WHO}: custom_keys[{key!r}]', value, ['lr_mult', 'decay_mult', *settings])
            for name in ('lr_mult', 'decay_mult'):
                if name in value:
                    check_number(_WHO, f'custom_keys[{key!r}].{name}', value[name], 0)

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any) -> None:
        """Add all parameter groups of a model to ``params``, and log them.

        Args:
            params (list[dict]): Groups so far; added to in place.
            module (nn.Module): The model.
            prefix (str): What stands before the names of its parameters, in the log and for custom keys.
            **kwargs: Nothing; mmengine's own signature.
        """
        if any(type(part).__name__ == 'FullyShardedDataParallel' for part in module.modules()):
            raise ValueError(
                f'{_WHO}: FullyShardedDataParallel has flattened the parameters, so their kinds and depths are lost. '
                'Use FSDP2 (torch.distributed.fsdp.fully_shard) or DDP.'
            )
        cfg = self.paramwise_cfg
        parts, depths = ModelParts(module), DepthReader(_WHO, module)
        parts.check(_WHO, 'lr_mult', cfg['lr_mult'])
        rates = cfg['layer_decay_rate']
        if isinstance(rates, dict):
            parts.check(_WHO, 'layer_decay_rate', rates)
        rules = DecayRules(
            module, {key.removesuffix('_decay_mult'): cfg[key] for key in _DECAY_MULTS if cfg[key] is not None}
        )
        groups: dict[tuple, dict] = {}
        names: dict[int, str] = {}
        frozen: list[nn.Parameter] = []
        used: set[Optional[str]] = set()
        for name, owner, param in self._named(module):
            if not param.requires_grad and not cfg['keep_frozen']:
                frozen.append(param)
                continue
            custom = self._custom_key_of(prefix + name)
            used.add(custom)
            rate = parts.value_of(name, rates, 1.0) if isinstance(rates, dict) else rates
            factor = depths.scale(name, rate) * parts.value_of(name, cfg['lr_mult'], 1.0)
            settings = self._settings_of(name, owner, param, factor, custom, rules)
            group = groups.setdefault(
                tuple((key, repr(value)) for key, value in settings.items()), dict(params=[], **settings)
            )
            group['params'].append(param)
            names[id(param)] = prefix + name
        if not groups:
            raise ValueError(
                f'{_WHO}: none of the {len(frozen)} parameters of {type(module).__name__} needs a '
                'gradient. Unfreeze a part of the model (frozen_stages, lora_rank, requires_grad).'
            )
        for key in cfg['custom_keys']:
            if key not in used:
                print_log(f'{_WHO}: custom_keys[{key!r}] matches no parameter.', 'current', level=logging.WARNING)
        params.extend(groups.values())
        print_log(
            f'Groups of parameters:\n{group_table(list(groups.values()), names, parts.part_of, frozen)}', 'current'
        )

    def _named(self, model: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
        """Yield name, owner and parameter, each parameter once."""
        seen: dict[int, str] = {}
        for path, module in model.named_modules():
            for leaf, param in module.named_parameters(recurse=False):
                name = f'{path}.{leaf}' if path else leaf
                if id(param) not in seen:
                    seen[id(param)] = name
                    yield name, module, param
                elif not self.paramwise_cfg['bypass_duplicate']:
                    raise ValueError(
                        f'{_WHO}: {name} is the same parameter as {seen[id(param)]}. '
                        'bypass_duplicate=True trains it once, under its first name.'
                    )

    def _custom_key_of(self, name: str) -> Optional[str]:
        full = name if '.' in name else f'.{name}'  # as mmengine spells the parameters of the model itself
        keys = sorted(sorted(self.paramwise_cfg['custom_keys']), key=len, reverse=True)
        return next((key for key in keys if key in full), None)

    def _settings_of(
        self, name: str, owner: nn.Module, param: Tensor, lr_factor: float, custom: Optional[str], rules: DecayRules
    ) -> dict[str, Any]:
        own: Mapping[str, Any] = {} if custom is None else self.paramwise_cfg['custom_keys'][custom]
        is_bias = name.rsplit('.', 1)[-1] == 'bias' and not rules.is_norm(owner)
        lr_mult = own.get('lr_mult', self.paramwise_cfg['bias_lr_mult'] if is_bias else 1.0)
        settings = dict(lr=self.base_lr * (lr_factor * lr_mult))
        if self.base_wd is not None:
            decay_mult = own['decay_mult'] if 'decay_mult' in own else rules.factor(name, owner, param)
            settings['weight_decay'] = self.base_wd * decay_mult
        settings.update({key: value for key, value in own.items() if key not in ('lr_mult', 'decay_mult')})
        return settings


def _check_factors(key: str, factors: Any, most: float = float('inf'), low_open: bool = False) -> None:
    if not isinstance(factors, dict):
        raise TypeError(
            f'{_WHO}: expected {key} to be a dict by part, such as dict(cnn=0.5, head=2.0), got {factors!r}.'
        )
    for part, factor in factors.items():
        check_number(_WHO, f'{key}[{part!r}]', factor, 0, most, low_open=low_open)
