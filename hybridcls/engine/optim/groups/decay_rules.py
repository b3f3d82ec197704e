"""Rules for parameters that are exempt from weight decay."""

import fnmatch
import re
from collections.abc import Mapping

from torch import Tensor, nn

from hybridcls.compat.torch import AnyBatchNorm

__all__ = ['DecayRules']

# LayerNorm2d, BatchNormAct2d, RmsNorm, GlobalResponseNorm, ...; not NormLinear, which holds a matrix.
_NORM_CLASS = re.compile(r'Norm(Act)?(\d[dD]?)?(Fp32)?$')
_POSITIONS = re.compile(
    r'(^|_)(pos(ition)?_?emb(ed(ding)?)?s?(_win)?|rel(ative)?_pos\w*|attention_biases)$|'
    r'^relative_position_bias\w*$'
)
_TOKENS = re.compile(r'(^|_)tokens?$|^class_embedding$')
_SCALES = re.compile(r'^gamma(_?\d)?$|layer_?scale')


class DecayRules:
    """Assign parameters to kinds, each with a weight decay factor; the first matching kind decides.

    ``special``: tables of positions and relative positions, class, distillation, register and mask tokens, and what a
    module lists in ``no_weight_decay()``, as timm's models do. ``norm``: parameters of norms. ``bias``. ``dwconv``:
    kernels of depthwise convolutions. ``flat``: all else of one dimension (scales of layers, temperatures).

    Args:
        model (nn.Module): Whose ``no_weight_decay()``, and those of its submodules, are read.
        factors (Mapping[str, float]): Factor by kind; a kind that is not given is no kind of its own.

    Example:
        >>> rules = DecayRules(nn.BatchNorm2d(3), dict(norm=0., bias=0.5))
        >>> norm, linear = nn.BatchNorm2d(3), nn.Linear(2, 2)
        >>> rules.factor('0.bias', norm, norm.bias), rules.factor('1.bias', linear, linear.bias)
        (0.0, 0.5)
    """

    def __init__(self, model: nn.Module, factors: Mapping[str, float]) -> None:
        self._factors = dict(factors)
        self._listed: list[str] = []
        for path, module in model.named_modules():
            if callable(getattr(module, 'no_weight_decay', None)):
                self._listed += [f'{path}.{name}' if path else name for name in module.no_weight_decay()]
        self._exact = set(self._listed)
        self._patterns = [name for name in self._listed if set(name) & set('*?[')]

    def factor(self, name: str, owner: nn.Module, param: Tensor) -> float:
        """Return the weight decay factor of the parameter ``name`` of the model, which ``owner`` holds."""
        for kind in self._kinds_of(name, owner, param):
            if kind in self._factors:
                return self._factors[kind]
        return 1.0

    def _kinds_of(self, name: str, owner: nn.Module, param: Tensor) -> list[str]:
        leaf = name.rsplit('.', 1)[-1]
        table = name.rsplit('.', 2)[-2] if isinstance(owner, nn.Embedding) and '.' in name else leaf
        kinds = []
        if (
            name in self._exact
            or _POSITIONS.search(table)
            or _TOKENS.search(leaf)
            or any(fnmatch.fnmatchcase(name, pattern) for pattern in self._patterns)
        ):
            kinds.append('special')
        if self.is_norm(owner):
            kinds.append('norm')
        if leaf == 'bias' or (leaf.endswith('_bias') and param.dim() == 1):
            kinds.append('bias')
        if isinstance(owner, nn.Conv2d) and owner.in_channels == owner.groups > 1:
            kinds.append('dwconv')
        if param.dim() <= 1 or _SCALES.search(leaf):
            kinds.append('flat')
        return kinds

    @staticmethod
    def is_norm(module: nn.Module) -> bool:
        """Return whether a module is a normalization layer, by its class or the name of one of its classes."""
        return isinstance(module, (AnyBatchNorm, nn.GroupNorm, nn.LayerNorm)) or any(
            _NORM_CLASS.search(base.__name__) for base in type(module).__mro__
        )
