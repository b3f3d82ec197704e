"""The parts of a model that a config can refer to by name."""

from collections.abc import Iterable, Mapping

from torch import nn

from hybridcls.checks import did_you_mean

__all__ = ['ModelParts']


class ModelParts:
    """Find parts by their names: streams of a hybrid backbone, and submodules by their paths.

    A stream holds what sits on it: ``'cnn'`` is ``backbone.cnn`` and ``backbone.cbam``.

    Args:
        model (nn.Module): Any model; streams are known where a module has ``stream_parts()``.

    Example:
        >>> parts = ModelParts(nn.ModuleDict(dict(backbone=nn.Linear(2, 2), head=nn.Linear(2, 2))))
        >>> parts.value_of('head.weight', dict(backbone=0.1, head=2.0), default=1.0)
        2.0
    """

    def __init__(self, model: nn.Module) -> None:
        self._prefixes: dict[str, tuple[str, ...]] = {}
        self._top = tuple(name for name, child in model.named_children() if any(True for _ in child.parameters()))
        for path, module in model.named_modules():
            self._prefixes.setdefault(path, (f'{path}.',))
            if hasattr(module, 'stream_parts'):
                start = f'{path}.' if path else ''
                for stream, names in module.stream_parts().items():
                    self._prefixes[stream] = tuple(f'{start}{name}.' for name in names)
                    self._top += (stream,)

    @property
    def names(self) -> tuple[str, ...]:
        """The most common parts: the top-level submodules, and the streams."""
        return self._top

    def check(self, caller: str, key: str, names: Iterable[str]) -> None:
        """Raise a ValueError unless all names are parts of the model."""
        for name in names:
            if not name or name not in self._prefixes:
                raise ValueError(
                    f'{caller}: {key} names {name!r}, which is not a part of the '
                    f'model.{did_you_mean(name, self._top)} Its parts: {", ".join(self._top)}; the path of any '
                    'submodule works too.'
                )

    def value_of(self, param_name: str, values: Mapping[str, float], default: float) -> float:
        """Return the entry of ``values`` (by part) for a parameter; the innermost part decides."""
        found, longest = default, 0
        for part, value in values.items():
            for prefix in self._prefixes[part]:
                if len(prefix) > longest and param_name.startswith(prefix):
                    found, longest = value, len(prefix)
        return found

    def part_of(self, param_name: str) -> str:
        """Return the innermost of :attr:`names` that contains a parameter; ``''`` for one of the model itself."""
        inside = [
            (len(prefix), name)
            for name in self._top
            for prefix in self._prefixes[name]
            if param_name.startswith(prefix)
        ]
        return max(inside)[1] if inside else ''
