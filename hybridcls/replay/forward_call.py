"""Record the forward call of a training step, to repeat it."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hybridcls.compat.torch import call_compiled_by, compiler_in_use, version_of

from .random_state import get_random_state, isolated_randomness

__all__ = ['ForwardCall']


class ForwardCall:
    """Record the arguments with which a training step calls ``model``, and the model's output.

    It works by temporary forward hooks, so it does not matter who calls the model (``train_step`` of a plain model, of
    mmengine's wrappers, or a loop of your own), nor where the batch was preprocessed: what is recorded is what the
    model got.

    Args:
        model (nn.Module): The model, or its DDP or FSDP wrapper.
        remember_input (bool): Keep the arguments and the random state, for :meth:`replay`.

    Attributes:
        calls (int): How often the model was called.
        output (Any): What the model returned last.
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
        self._versions = [(tensor, version_of(tensor)) for tensor in _tensors_in((args, kwargs))]
        # The device is the model's: what is drawn elsewhere (a queue on the CPU) comes from the CPU's generator.
        self._device = next((param.device for param in module.parameters()), torch.device('cpu'))
        self._random_state = get_random_state(self._device)

    @torch.compiler.disable
    def _after(self, module: nn.Module, args: tuple, output: Any) -> None:
        self.calls += 1
        self.output = output

    def replay(self, same_randomness: bool) -> Any:
        """Repeat the recorded call with the model's present weights.

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
            if version_of(tensor) != version:
                raise RuntimeError(
                    f'{type(self.model).__name__} changed its input in place (a tensor of shape '
                    f'{tuple(tensor.shape)}), so a second pass would see another batch. Make its forward work on a '
                    'copy (x = x + 1 instead of x += 1).'
                )
        if not same_randomness:
            return self._repeat()
        with isolated_randomness(self._random_state, self._device):
            return self._repeat()

    def _repeat(self) -> Any:
        # Compiled as the first call was: compiled code draws other numbers than eager code from the same state.
        return call_compiled_by(self._compiler, self.model, *self._args, **self._kwargs)


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors_in(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors_in(part)
