"""Tensors that a forward pass changes although no optimizer owns them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Optional

import torch
from torch import Tensor, nn

from hybridcls.compat.torch import buffers_in, parameters_in, version_of

__all__ = ['MutableState']

# torch's kernels write these without counting it as an in-place change.
_RUNNING_STATISTICS = ('running_mean', 'running_var')


# A module's own dict of buffers or parameters, a name in it, the tensor there, and a copy of it.
_Copied = tuple[dict[str, Any], str, Tensor, Tensor]


class MutableState:
    """Buffers that a forward pass changes, and that a second pass over the same batch must not change again.

    BatchNorm's running statistics and its count of batches, queues and prototypes in buffers, frozen copies of a
    network that follow it. Which of them change is seen from the first pass, by torch's count of in-place changes (and
    by identity, for buffers that are replaced); only running statistics go by their name.

    Args:
        modules (Iterable[nn.Module]): Whose buffers to watch, those of their submodules included.
        with_frozen (bool): Watch parameters that need no gradient too, not only buffers.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> state = MutableState([norm])
        >>> state.record()
        >>> first = norm(torch.randn(4, 2))
        >>> with state.rolled_back():
        ...     second = norm(torch.randn(4, 2))
        >>> int(norm.num_batches_tracked)
        1
    """

    def __init__(self, modules: Iterable[nn.Module], with_frozen: bool = False) -> None:
        self._places: list[tuple[dict[str, Any], str]] = []
        for module in modules:
            for part in module.modules():
                buffers = buffers_in(part)
                self._places += [(buffers, name) for name, buffer in buffers.items() if buffer is not None]
                if with_frozen:
                    params = parameters_in(part)
                    self._places += [
                        (params, name)
                        for name, param in params.items()
                        if param is not None and not param.requires_grad
                    ]
        self._recorded: list[tuple[Optional[Tensor], int]] = []
        self._snapshot: list[_Copied] = []

    def record(self) -> None:
        """Note the tensors and their versions before the first pass; nothing is copied."""
        found = [holder.get(name) for holder, name in self._places]
        self._recorded = [(tensor, -1 if tensor is None else version_of(tensor)) for tensor in found]

    @contextmanager
    def rolled_back(self, on_copies: bool = False) -> Iterator[None]:
        """Undo, at the end of the block, its changes to the tensors that have changed since :meth:`record`.

        Args:
            on_copies (bool): Let the modules have copies inside, which autograd may keep: for a second pass whose
                backward pass comes after this context. By default they keep their tensors, which a wrapper (DDP) or
                an optimizer may know too, and the values are copied back. Buffers that the first pass replaced, and
                did not write to (a queue of embeddings, say), are then inside what they were at :meth:`record`: a
                second pass sees what the first one saw.
        """
        changed: list[_Copied] = []
        for (holder, name), (recorded, version) in zip(self._places, self._recorded, strict=True):
            present = holder.get(name)
            if present is None:
                continue
            is_unwritten = recorded is not None and version_of(recorded) == version
            if present is recorded and is_unwritten and name not in _RUNNING_STATISTICS:
                continue
            copy = present.detach().clone()
            changed.append((holder, name, present, copy))
            if on_copies:
                holder[name] = copy
            elif present is not recorded and is_unwritten:
                holder[name] = recorded
        try:
            yield
        finally:
            if on_copies:
                for holder, name, tensor, _ in changed:
                    holder[name] = tensor
            else:
                _copy_back(changed)

    def snapshot(self) -> None:
        """Copy all tensors before a first pass that may have to be undone (its loss may not be finite)."""
        self._snapshot = [
            (holder, name, holder[name], holder[name].detach().clone())
            for holder, name in self._places
            if holder.get(name) is not None
        ]

    def restore(self) -> None:
        """Undo the changes since :meth:`snapshot`."""
        _copy_back(self._snapshot)
        self._snapshot = []


def _copy_back(copied: list[_Copied]) -> None:
    for holder, name, tensor, _ in copied:
        holder[name] = tensor
    if copied:
        with torch.no_grad():
            torch._foreach_copy_([tensor for _, _, tensor, _ in copied], [copy for _, _, _, copy in copied])
