"""Switch the inference settings of a trained model in place, and restore them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hybridcls.compat.torch import version_of
from hybridcls.compat.torch_compiler import frozen_weights, is_compiled, uncompile
from hybridcls.models.adapters import add_token_merging
from hybridcls.models.adapters.lora import lora_layers
from hybridcls.models.adapters.lora_merging import merge_lora
from hybridcls.models.backbones.compiled_streams import check_compiler, compile_streams, compiled_parts

from .inference_settings import InferenceSettings

__all__ = ['PreparedNetwork', 'shape_of']


class PreparedNetwork:
    """Run a model with :class:`InferenceSettings`.

    A compiled model meets batches of one size: a smaller one is filled up with copies of its last image, whose answers
    are dropped; images of another size run uncompiled. On a CPU its code has the weights as constants: after writing
    to ``weight.data``, which nothing sees, call ``torch.compiler.reset()``.

    Args:
        model (nn.Module): In eval mode, on its device.
        collate (Callable): Makes a batch of packed samples.

    Attributes:
        settings (InferenceSettings): What holds now.
    """

    def __init__(self, model: Any, collate: Callable[[Sequence[Any]], Any]) -> None:
        self.model, self._collate = model, collate
        self.settings = InferenceSettings()
        self._undo: list[Callable[[], Any]] = []
        self._shape: tuple[int, ...] = ()
        self._size = 0
        self._weights: list[Tensor] = []  # that compiled code has as constants, and their state when it was compiled
        self._unmerged_state: list[tuple[int, int]] = []  # where LoRA is merged into them
        self._compiled_state: list[tuple[int, int]] = []

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(iter(self.model.parameters())).device

    def use(self, settings: InferenceSettings, batch_size: int = 0) -> None:
        """Switch to these settings; the weights are not changed.

        Args:
            settings (InferenceSettings): What shall hold.
            batch_size (int): Images of a compiled batch. Defaults to 0: those of the first one.

        Raises:
            ValueError: If the model has nothing that merges tokens.
            ImportError: If what ``torch.compile`` needs is missing.
        """
        self.check(settings)
        self.restore()
        if settings.token_merging_ratio is not None:
            self._undo.append(add_token_merging(self.model, settings.token_merging_ratio).undo)
        parts = list(compiled_parts(self.model).values()) if settings.compile else []
        self._unmerged_state = []
        if parts and lora_layers(self.model):
            self._unmerged_state = _state_of(_tensors_of(parts))  # what PEFT merges leaves no trace
            self._undo.append(merge_lora(self.model).undo)
        if settings.channels_last:
            self.model.to(memory_format=torch.channels_last)
            self._undo.append(lambda: self.model.to(memory_format=torch.contiguous_format))
        if parts:
            self._weights = _tensors_of(parts)
            self._undo += [partial(uncompile, part) for part in parts if not is_compiled(part)]
            compile_streams(self.model, share_variants=True, backend=_backend(settings), dynamic=False)
        self.settings, self._shape, self._size = settings, (), batch_size

    def check(self, settings: InferenceSettings) -> None:
        """Raise an ImportError if a requirement of ``torch.compile`` for the settings is missing."""
        if settings.compile:
            check_compiler(self.device.type, _backend(settings))

    def restore(self) -> None:
        """Restore the settings of a test."""
        while self._undo:
            self._undo.pop()()
        self.settings = InferenceSettings()

    @torch.no_grad()
    def predict(self, packed: Sequence[Any]) -> list[Any]:
        """Return the predictions of packed samples."""
        with self.precision():
            if not self.settings.compile:
                return self.model.test_step(self._collate(packed))
            shapes = {shape_of(one['inputs']) for one in packed}
            self._shape, self._size = self._shape or min(shapes), self._size or len(packed)
            if shapes != {self._shape} or len(packed) > self._size:
                with torch.compiler.set_stance('force_eager'):
                    return self.model.test_step(self._collate(packed))
            copies = [
                dict(inputs=packed[-1]['inputs'], data_samples=DataSample()) for _ in range(self._size - len(packed))
            ]
            self._drop_old_constants()
            with self._constants():
                return self.model.test_step(self._collate([*packed, *copies]))[: len(packed)]

    @property
    def _has_constants(self) -> bool:
        return self.settings.compile is True and self.device.type == 'cpu'

    def _constants(self) -> AbstractContextManager:
        """Return a context in which inductor compiles the weights as constants, on a CPU."""
        return frozen_weights() if self._has_constants else nullcontext()

    def _drop_old_constants(self) -> None:
        """Drop the compiled code if weights have changed since, as it would use the old ones."""
        if self._has_constants:
            state = self._unmerged_state + _state_of(self._weights)
            if self._compiled_state not in ([], state):
                torch.compiler.reset()
            self._compiled_state = state

    def precision(self) -> AbstractContextManager:
        """Return the context of mixed precision; without a dtype in the settings, an outer one remains in force."""
        if self.settings.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.settings.dtype)


def _backend(settings: InferenceSettings) -> str:
    return settings.compile if isinstance(settings.compile, str) else 'inductor'


def _tensors_of(parts: Sequence[nn.Module]) -> list[Tensor]:
    return [one for part in parts for one in (*part.parameters(), *part.buffers())]


def _state_of(tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Return address and version of each tensor, which change when it is replaced or written to.

    Writes through ``tensor.data`` are not noticed.
    """
    return [(one.data_ptr(), 0 if one.is_inference() else version_of(one)) for one in tensors]


def shape_of(inputs: Any) -> tuple[int, ...]:
    """Return the shape of an image, or the shapes of its views."""
    if isinstance(inputs, Tensor):
        return tuple(inputs.shape)
    return tuple(size for view in inputs for size in view.shape)
