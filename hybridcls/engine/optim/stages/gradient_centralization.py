"""Gradient centralization: gradients of weight matrices without their mean."""

import re
from collections.abc import Iterable, Sequence
from typing import Optional

import torch
from torch import Tensor, nn

from hybridcls.checks import check_choice, check_number
from hybridcls.compat.torch import AnyConv, AnyTransposedConv
from hybridcls.registry import OPTIM_STAGES

from ..update.update import Update
from .update_stage import UpdateStage

__all__ = ['GradientCentralization']

_LORA = re.compile(r'(^|[._])lora_', re.IGNORECASE)
# Heads whose weight holds one vector a class: its rows are points on a sphere, not units of a layer.
_CENTRES = re.compile(r'(^|[._])(cent(er|re)s?|prototypes?|proxies)([._]|$)', re.IGNORECASE)
_CENTRE_OWNERS = re.compile(
    r'MarginHead|ArcFace|AdaFace|CosFace|NormLinear|NormProduct|Cosine|Prototype|Cent(er|re)s?$|Proxy'
)
# A step adds weight_decay * w to the gradient itself in these; others shrink the weights apart from it.
_COUPLED_DECAY = ('SGD', 'Adam', 'RMSprop', 'Adagrad', 'NAdam', 'RAdam', 'Adadelta', 'Adamax', 'ASGD')


@OPTIM_STAGES.register_module()
class GradientCentralization(UpdateStage):
    r"""Take from the gradient of each output unit its mean over the unit's inputs.

    .. math::
        \Phi(g_i) = g_i - \frac{1}{M} \sum_{j=1}^{M} g_{i,j}

    Eq. 1 of `Gradient Centralization <https://arxiv.org/abs/2004.01461>`_, for the weights of convolutions and linear
    layers, after unscaling and clipping and before the step. The official code goes by the number of dimensions
    alone, and so centralises position tables and class tokens as well; here they are left out.

    Left out, unless ``include`` names them: embeddings, position tables and other parameters that are no layer's
    weight, LoRA's A and B, class weights of margin heads; and always what has one input a unit (``Linear(1, n)``, a
    depthwise 1 x 1 convolution), whose gradient would become zero.

    Args:
        layers (str): ``'all'``, or ``'conv'`` for weights of convolutions only (GCC in the official code). Defaults
            to ``'all'``.
        include (Sequence[str]): Regular expressions for names of parameters to centralise as well. Defaults to none.
        exclude (Sequence[str]): Regular expressions for names of parameters to leave alone. Defaults to none.
        output_axis (dict[str, int], optional): For names that match the regular expression, the axis of the output
            units, where it is not 0. Names given here are centralised too. Transposed convolutions are known.
        with_weight_decay (bool): Centralise ``g + weight_decay * w``, as the official SGD does, instead of g. Only
            for optimizers that add the decay to the gradient (SGD, Adam). Defaults to False.

    Raises:
        ValueError: If a pattern matches no parameter, ``with_weight_decay`` meets an optimizer with decoupled decay,
            or FSDP holds the parameters as flat pieces, which have lost the shape that the mean is taken over.

    Example:
        >>> GradientCentralization(layers='conv').layers
        'conv'
    """

    kind = 'centralization'

    def __init__(
        self,
        layers: str = 'all',
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        output_axis: Optional[dict[str, int]] = None,
        with_weight_decay: bool = False,
    ) -> None:
        check_choice('GradientCentralization', 'layers', layers, ['all', 'conv'])
        for key, patterns in (('include', include), ('exclude', exclude), ('output_axis', output_axis or {})):
            _check_patterns(key, patterns)
        for pattern, axis in (output_axis or {}).items():
            check_number('GradientCentralization', f'output_axis[{pattern!r}]', axis, 0, integer=True)
        self.layers = layers
        self.include = list(include)
        self.exclude = list(exclude)
        self.output_axis = dict(output_axis or {})
        self.with_weight_decay = with_weight_decay
        self._axes: list[tuple[int, tuple[int, ...]]] = []  # position, the axes of the mean

    def start(self, update: Update) -> None:
        """Choose the parameters, once."""
        if update.shards.is_fsdp1:
            raise ValueError(
                'GradientCentralization: FullyShardedDataParallel holds the parameters as flat pieces, which have no '
                'output units any more. Use FSDP2 (torch.distributed.fsdp.fully_shard), or switch the stage off: '
                'stages=dict(gc=None).'
            )
        name = type(update.optimizer).__name__
        decoupled = any(group.get('decoupled_weight_decay') for group in update.optimizer.param_groups)
        if self.with_weight_decay and (name not in _COUPLED_DECAY or decoupled):
            raise ValueError(
                f'GradientCentralization: with_weight_decay=True, and {name} does not add the decay to '
                f'the gradient. It works with {", ".join(_COUPLED_DECAY)}.'
            )
        for pattern in [*self.include, *self.exclude, *self.output_axis]:
            if any(update.names) and not any(re.search(pattern, name) for name in update.names):
                raise ValueError(
                    f'GradientCentralization: the pattern {pattern!r} matches no parameter. Names look '
                    f'like {", ".join(map(repr, update.names[:3]))}.'
                )
        self._axes = []
        for position, param in enumerate(update.params):
            axes = self._axes_of(update.names[position], param, update.owners[position])
            if axes and param.numel() and _count(param.shape, axes) > 1:
                self._axes.append((position, axes))

    def _axes_of(self, name: str, param: Tensor, owner: Optional[nn.Module]) -> tuple[int, ...]:
        """The axes to take the mean over; none for a parameter that is left alone."""
        if param.dim() < 2 or any(re.search(pattern, name) for pattern in self.exclude):
            return ()
        output = next((axis for pattern, axis in self.output_axis.items() if re.search(pattern, name)), None)
        if output is not None:
            if output >= param.dim():
                raise ValueError(
                    f'GradientCentralization: output_axis {output} is given for {name}, which has {param.dim()} axes.'
                )
        elif isinstance(owner, AnyTransposedConv):
            if owner.groups > 1:
                return ()  # axis 0 mixes the inputs of several groups
            output = 1
        else:
            asked_for = any(re.search(pattern, name) for pattern in self.include)
            if not asked_for and not self._is_weight(name, param, owner):
                return ()
            output = 0
        return tuple(axis for axis in range(param.dim()) if axis != output)

    def _is_weight(self, name: str, param: Tensor, owner: Optional[nn.Module]) -> bool:
        is_conv = isinstance(owner, AnyConv) or (owner is None and param.dim() > 3)
        if self.layers == 'conv' and not is_conv:
            return False
        if _LORA.search(name) or _CENTRES.search(name):
            return False
        if any(_CENTRE_OWNERS.search(base.__name__) for base in type(owner).__mro__):
            return False
        if owner is None or isinstance(owner, (AnyConv, nn.Linear)):
            return True
        if isinstance(owner, (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm)):  # a norm over several axes is no matrix
            return False
        return name.endswith('weight')  # nn.MultiheadAttention.in_proj_weight, hand-made layers

    def before_step(self, update: Update) -> None:
        """Subtract the means."""
        chosen = [(position, axes) for position, axes in self._axes if update.params[position].grad is not None]
        grads = update.gradients(position for position, _ in chosen)
        if not grads:
            return
        means = [grad.mean(axes, keepdim=True) for grad, (_, axes) in zip(grads, chosen, strict=True)]
        torch._foreach_sub_(grads, means)
        if self.with_weight_decay:
            decay = [group.get('weight_decay', 0.0) for group in update.optimizer.param_groups for _ in group['params']]
            for grad, (position, axes) in zip(grads, chosen, strict=True):
                # The optimizer adds decay * w, mean included; so take the mean's share out of the gradient.
                if decay[position]:
                    grad.sub_(update.params[position].mean(axes, keepdim=True), alpha=decay[position])


def _count(shape: torch.Size, axes: tuple[int, ...]) -> int:
    return torch.Size(shape[axis] for axis in axes).numel()


def _check_patterns(key: str, patterns: Iterable[str]) -> None:
    if isinstance(patterns, str):
        raise TypeError(f'GradientCentralization: expected {key} to be a list, [{patterns!r}], got {patterns!r}.')
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f'GradientCentralization: expected regular expressions in {key}, got {pattern!r} ({error}).'
            ) from error
