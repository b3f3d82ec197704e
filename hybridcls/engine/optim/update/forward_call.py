"""The forward call that a training step made, remembered so that it can be made again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional, cast

import torch
from torch import Tensor, nn

from hybridcls.compat.torch import call_compiled_by, compiler_in_use
from hybridcls.replay.random_state import get_random_state, set_random_state

__all__ = ['ForwardCall', 'WanderingTensors', 'losses_of', 'total_loss']


_RUNNING_STATISTICS = ('running_mean', 'running_var')


class ForwardCall:
    """Watches ``model`` while a training step calls it: with what, and what came out.

    It works by temporary forward hooks, so it does not matter who calls the model (``train_step`` of a plain model, of
    mmengine's wrappers, or a loop of your own), nor where the batch was preprocessed: what is remembered is what the
    model got.

    Args:
        model (nn.Module): The model, or its DDP or FSDP wrapper.
        remember_input (bool): Keep the arguments and the random state, so that :meth:`again` works.
    """

    def __init__(self, model: nn.Module, remember_input: bool) -> None:
        self.model = model
        self.remember_input = remember_input
        self.calls = 0
        self.output: Any = None
        self._handles: list[Any] = []
        self._args: tuple = ()
        self._kwargs: dict = {}
        self._versions: list[tuple[Tensor, int]] = []
        self._device = torch.device('cpu')
        self._random_state: dict[str, Any] = {}
        self._compiler: Any = None

    def __enter__(self) -> 'ForwardCall':
        # First of the hooks: what other hooks do to the input they will do again.
        if self.remember_input:
            self._handles.append(self.model.register_forward_pre_hook(self._before, prepend=True, with_kwargs=True))
        self._handles.append(self.model.register_forward_hook(self._after))
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @torch.compiler.disable(recursive=False)
    def _before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self._compiler = compiler_in_use()
        self._remember(module, args, kwargs)

    @torch.compiler.disable
    def _remember(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self._args, self._kwargs = args, kwargs
        self._versions = [(tensor, tensor._version) for tensor in _tensors_in((args, kwargs))]
        # The device is the model's: what is drawn elsewhere (a queue on the CPU) comes from the CPU's generator.
        self._device = next((param.device for param in module.parameters()), torch.device('cpu'))
        self._random_state = get_random_state(self._device)

    @torch.compiler.disable
    def _after(self, module: nn.Module, args: tuple, output: Any) -> None:
        self.calls += 1
        self.output = output

    def again(self, same_randomness: bool) -> Any:
        """Call the model as it was called before, with the weights it has now.

        Args:
            same_randomness (bool): Draw the same random numbers (dropout, stochastic depth) as the first call did,
                and leave the generators as they were found.

        Raises:
            RuntimeError: If the model was not called exactly once, or changed its input in place.
        """
        if self.calls != 1 or not self.remember_input:
            what = 'was not called' if self.calls == 0 else f'was called {self.calls} times'
            raise RuntimeError(
                f'{type(self.model).__name__} {what} within optim_context, and a second pass (SAM) can repeat one '
                'call only. Call the model once in `with optim_wrapper.optim_context(model)`, then '
                'optim_wrapper.update_params(loss), as BaseModel.train_step does.'
            )
        for tensor, version in self._versions:
            if tensor._version != version:
                raise RuntimeError(
                    f'{type(self.model).__name__} changed its input in place (a tensor of shape '
                    f'{tuple(tensor.shape)}), so a second pass would see another batch. Make its forward work on a '
                    'copy (x = x + 1 instead of x += 1).'
                )
        if not same_randomness:
            return self._repeat()
        state_now = get_random_state(self._device)
        set_random_state(self._random_state, self._device)
        try:
            return self._repeat()
        finally:
            set_random_state(state_now, self._device)

    def _repeat(self) -> Any:
        # Compiled as the first call was: compiled code draws other numbers than eager code from the same state.
        return call_compiled_by(self._compiler, self.model, *self._args, **self._kwargs)


class WanderingTensors:
    """Tensors that a forward pass changes and no optimizer owns: a second pass must not change them again.

    BatchNorm's running statistics and its count of batches, queues and prototypes in buffers, frozen copies of a
    network that follow it. Which these are is seen from the first pass, by torch's count of in-place changes (and by
    identity, for buffers that are replaced); only running statistics go by their name, since torch's kernels write
    them without counting.

    Args:
        model (nn.Module): Whose tensors to watch.
        with_frozen (bool): Watch parameters that need no gradient too, not only buffers.
    """

    def __init__(self, model: nn.Module, with_frozen: bool = True) -> None:
        self._places: list[tuple[dict, str]] = []
        for module in model.modules():
            self._places += [(module._buffers, name) for name, buffer in module._buffers.items() if buffer is not None]
            if with_frozen:
                self._places += [
                    (module._parameters, name)
                    for name, param in module._parameters.items()
                    if param is not None and not param.requires_grad
                ]
        self._marks: list[tuple[Optional[Tensor], int]] = []
        self._kept: list[tuple[dict, str, Tensor, Tensor]] = []

    def mark(self) -> None:
        """Remember how things stand before the first pass."""
        found = [holder.get(name) for holder, name in self._places]
        self._marks = [(tensor, -1 if tensor is None else tensor._version) for tensor in found]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Undo, at the end, what is done inside to the tensors that have moved since :meth:`mark`.

        Buffers that the first pass replaced, and did not write to (a queue of embeddings, say), are inside what they
        were at :meth:`mark`: a second pass sees what the first one saw.
        """
        moved: list[tuple[dict, str, Tensor, Tensor]] = []
        for (holder, name), (tensor, version) in zip(self._places, self._marks, strict=True):
            present = holder.get(name)
            if present is None or (
                present is tensor and tensor._version == version and name not in _RUNNING_STATISTICS
            ):
                continue
            moved.append((holder, name, present, present.detach().clone()))
            if tensor is not None and present is not tensor and tensor._version == version:
                holder[name] = tensor
        try:
            yield
        finally:
            _put_back(moved)

    def keep(self) -> None:
        """Copy all of them before a first pass that may have to be undone (its input may be bad)."""
        self._kept = [
            (holder, name, holder[name], holder[name].detach().clone())
            for holder, name in self._places
            if holder.get(name) is not None
        ]

    def put_back(self) -> None:
        """Undo what has been done to them since :meth:`keep`."""
        _put_back(self._kept)
        self._kept = []


def _put_back(moved: list[tuple[dict, str, Tensor, Tensor]]) -> None:
    for holder, name, tensor, _ in moved:
        holder[name] = tensor
    if moved:
        with torch.no_grad():
            torch._foreach_copy_([entry[2] for entry in moved], [entry[3] for entry in moved])


def losses_of(output: Any) -> dict[str, Tensor]:
    """The named losses in what a model returned; each a scalar tensor."""
    if isinstance(output, Tensor):
        return {'loss': output}
    if not isinstance(output, dict):
        return {}
    found: dict[str, Tensor] = {}
    for name, value in output.items():
        parts = [part for part in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(part, Tensor)]
        if parts:
            found[name] = cast(Tensor, sum(part.detach().float().mean() for part in parts))
    return found


def total_loss(model: nn.Module, output: Any) -> Tensor:
    """The loss that the model's train step would pass on: by ``parse_losses`` of the model, or of the wrapped one.

    Raises:
        TypeError: If there is no way to a loss from the output.
    """
    if isinstance(output, Tensor) and output.numel() == 1:
        return output
    parse = getattr(model, 'parse_losses', None) or getattr(getattr(model, 'module', None), 'parse_losses', None)
    if parse is not None and isinstance(output, dict):
        return parse(output)[0]
    if isinstance(output, dict) and any('loss' in name for name in output):
        return sum(value.mean() for name, value in output.items() if 'loss' in name)
    raise TypeError(
        f'A second pass (SAM) got a {type(output).__name__} from {type(model).__name__}, and knows no loss in it. Let '
        'its forward return a dict of losses (and give the model parse_losses, as mmengine.model.BaseModel has), or '
        'the loss itself.'
    )


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors_in(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors_in(part)
