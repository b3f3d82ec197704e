"""Gradient centralization: subtract their mean from the gradients of weight matrices."""

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
_PROTOTYPES = re.compile(r'(^|[._])(cent(er|re)s?|prototypes?|proxies)([._]|$)', re.IGNORECASE)
_PROTOTYPE_OWNERS = re.compile(
    r'MarginHead|ArcFace|AdaFace|CosFace|NormLinear|NormProduct|Cosine|Prototype|Cent(er|re)s?$|Proxy'
)
_OFFICIAL = {'official': 1, 'official_conv': 3}  # more dimensions than these, in the official code
# A step adds weight_decay * w to the gradient itself in these; others shrink the weights apart from it.
_COUPLED_DECAY = ('SGD', 'Adam', 'RMSprop', 'Adagrad', 'NAdam', 'RAdam', 'Adadelta', 'Adamax', 'ASGD')


@OPTIM_STAGES.register_module()
class GradientCentralization(UpdateStage):
    r"""Subtract from the gradient of each output unit its mean over the unit's inputs.

    .. math::
        \Phi(g_i) = g_i - \frac{1}{M} \sum_{j=1}^{M} g_{i,j}

    Eq. 1 of `Gradient Centralization <https://arxiv.org/abs/2004.01461>`_, for the weights of convolutions and linear
    layers, after unscaling and clipping and before the step.

    Left out, unless ``include`` names them: embeddings, position tables and other parameters that are no layer's
    weight, LoRA's A and B, class weights of margin heads; and always what has one input a unit (``Linear(1, n)``, a
    depthwise 1 x 1 convolution), whose gradient would become zero. Of layers that torch does not have, what is called
    weight is one, if its axis 0 is longer than 1: scales that are broadcast over the batch are not.

    The official code (Yonghongwei/Gradient-Centralization) goes by the number of dimensions alone: more than one (GC),
    or more than three (GCC, for convolutions). So it centralizes class tokens, position tables and scales as well,
    leaves Conv1d out of GCC, takes axis 0 of transposed convolutions for their outputs, where it is their inputs, and
    makes gradients of one input a unit zero. ``layers='official'`` and ``'official_conv'`` do so. Its SGD and Adam
    centralize the gradient with the weight decay in it (``with_weight_decay=True``), and its Adam and AdamW with
    ``gc_loc=False`` the update with the decay in it (``on='update'``). (Its AdamW divides the decay by the bias
    correction of the first moment, which torch's does not.)

    Args:
        layers (str): ``'all'``; ``'conv'``, weights of convolutions of one to three dimensions and their transposes
            only; ``'official'`` or ``'official_conv'``, see above. Defaults to ``'all'``.
        include (Sequence[str]): Regular expressions for names of parameters to centralize as well. Defaults to none.
        exclude (Sequence[str]): Regular expressions for names of parameters to leave alone. Defaults to none.
        output_axis (dict[str, int], optional): For names that match the regular expression, the axis of the output
            units, where it is not 0. Names given here are centralized too. Transposed convolutions are known.
        with_weight_decay (bool): Centralize ``g + weight_decay * w``, as the official SGD does, instead of g. Only
            for optimizers that add the decay to the gradient (SGD, Adam). Defaults to False.
        on (str): ``'gradient'``, or ``'update'``: what the optimizer makes of it, with momentum, second moments and
            weight decay, so that the mean of a unit's weights stays what it was. Put the stage before Lookahead, which
            moves the weights as well. Defaults to ``'gradient'``.

    Raises:
        ValueError: If a pattern matches no parameter, a choice is unknown, ``with_weight_decay`` meets an optimizer
            with decoupled decay or ``on='update'``, or FSDP holds the parameters as flat pieces, which have lost the
            shape that the mean is taken over.

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
        on: str = 'gradient',
    ) -> None:
        check_choice('GradientCentralization', 'layers', layers, ['all', 'conv', *_OFFICIAL])
        check_choice('GradientCentralization', 'on', on, ['gradient', 'update'])
        if with_weight_decay and on == 'update':
            raise ValueError(
                "GradientCentralization: with_weight_decay=True belongs to on='gradient', got on='update'. Leave one "
                'of them out: the update contains the decay if the optimizer adds it to the gradient.'
            )
        for key, patterns in (('include', include), ('exclude', exclude), ('output_axis', output_axis or {})):
            _check_patterns(key, patterns)
        for pattern, axis in (output_axis or {}).items():
            check_number('GradientCentralization', f'output_axis[{pattern!r}]', axis, 0, integer=True)
        self.layers = layers
        self.include = list(include)
        self.exclude = list(exclude)
        self.output_axis = dict(output_axis or {})
        self.with_weight_decay = with_weight_decay
        self.on = on
        self._means: dict[int, Tensor] = {}  # position, the means of the weights before the step
        self._axes: list[tuple[int, tuple[int, ...]]] = []  # position, the axes of the mean

    def start(self, update: Update) -> None:
        """Choose the parameters, once."""
        if update.shards.is_fsdp1:
            raise ValueError(
                'GradientCentralization: FullyShardedDataParallel has flattened the parameters, so their output units '
                'are lost. Use FSDP2 (torch.distributed.fsdp.fully_shard), or switch the stage off: '
                'stages=dict(gc=None).'
            )
        name = type(update.optimizer).__name__
        decoupled = any(group.get('decoupled_weight_decay') for group in update.optimizer.param_groups)
        if self.with_weight_decay and (name not in _COUPLED_DECAY or decoupled):
            raise ValueError(
                'GradientCentralization: with_weight_decay=True needs an optimizer that adds the decay to the '
                f'gradient, got {name}. It works with {", ".join(_COUPLED_DECAY)}.'
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
            if axes and param.numel() and (self.layers in _OFFICIAL or _count(param.shape, axes) > 1):
                self._axes.append((position, axes))

    def _axes_of(self, name: str, param: Tensor, owner: Optional[nn.Module]) -> tuple[int, ...]:
        """Return the axes to average over; none for a parameter that is left unchanged."""
        if param.dim() < 2 or any(re.search(pattern, name) for pattern in self.exclude):
            return ()
        output = next((axis for pattern, axis in self.output_axis.items() if re.search(pattern, name)), None)
        if output is not None:
            if output >= param.dim():
                raise ValueError(
                    f'GradientCentralization: output_axis {output} is given for {name}, which has {param.dim()} axes.'
                )
        elif self.layers in _OFFICIAL:
            if param.dim() <= _OFFICIAL[self.layers] and not any(re.search(pattern, name) for pattern in self.include):
                return ()
            output = 0
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
        if _LORA.search(name) or _PROTOTYPES.search(name):
            return False
        if any(_PROTOTYPE_OWNERS.search(base.__name__) for base in type(owner).__mro__):
            return False
        if owner is None or isinstance(owner, (AnyConv, nn.Linear)):
            return True
        if isinstance(owner, (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm)):  # a norm over several axes is no matrix
            return False
        # nn.MultiheadAttention.in_proj_weight, hand-made layers; not a scale of shape (1, C, 1, 1)
        return name.endswith('weight') and param.shape[0] > 1

    def before_step(self, update: Update) -> None:
        """Subtract the means or, with ``on='update'``, store the means of the weights."""
        # Those of the groups: of class weights only the drawn rows may be stepped.
        stepped = [param for group in update.optimizer.param_groups for param in group['params']]
        chosen = [(position, axes) for position, axes in self._axes if stepped[position].grad is not None]
        grads = [stepped[position].grad for position, _ in chosen]
        if self.on == 'update':
            self._means = {position: update.params[position].mean(axes, keepdim=True) for position, axes in chosen}
            return
        if not grads:
            return
        means = [grad.mean(axes, keepdim=True) for grad, (_, axes) in zip(grads, chosen, strict=True)]
        torch._foreach_sub_(grads, means)
        if self.with_weight_decay:
            decay = [group.get('weight_decay', 0.0) for group in update.optimizer.param_groups for _ in group['params']]
            for grad, (position, axes) in zip(grads, chosen, strict=True):
                # The optimizer adds decay * w, mean included; so take the mean's share out of the gradient.
                if decay[position]:
                    grad.sub_(stepped[position].mean(axes, keepdim=True), alpha=decay[position])

    def after_step(self, update: Update) -> None:
        """With ``on='update'``, restore the mean of each unit's weights."""
        for position, axes in self._axes:
            if position in self._means:
                param = update.params[position]
                param.sub_(param.mean(axes, keepdim=True) - self._means[position])
        self._means = {}


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
