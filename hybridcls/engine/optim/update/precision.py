"""The precision of a model's computation: autocast, and the loss scaler that float16 needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional, Union

import torch
from torch import Tensor

from hybridcls.checks import did_you_mean
from hybridcls.compat.torch import drop_momentum, left_by_overflow, without_momentum

__all__ = ['Precision', 'read_precision']

_TYPES = {
    'float16': torch.float16,
    'fp16': torch.float16,
    'bfloat16': torch.bfloat16,
    'bf16': torch.bfloat16,
    'float32': torch.float32,
    'float64': torch.float64,
}


class Precision:
    """Autocast of one dtype on one kind of device, with or without a loss scaler.

    Args:
        dtype (torch.dtype, optional): ``torch.float16`` or ``torch.bfloat16``; None switches autocast off.
        device_type (str): ``'cpu'``, ``'cuda'``, ...
        scaler (torch.amp.GradScaler, optional): Anything with its methods.
        constant_scale (float, optional): Keep the scale at this number instead of letting it grow and shrink.
    """

    def __init__(
        self,
        dtype: Optional[torch.dtype] = None,
        device_type: str = 'cpu',
        scaler: Optional[Any] = None,
        constant_scale: Optional[float] = None,
    ) -> None:
        self.dtype = dtype
        self.device_type = device_type
        self.scaler = scaler
        self.constant_scale = constant_scale

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Run the block in this precision."""
        if self.dtype is None:
            yield
            return
        with torch.autocast(self.device_type, dtype=self.dtype):
            yield

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the scaled loss for the backward pass."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def scale_on(self, device: torch.device) -> Union[float, Tensor]:
        """Return the loss scale; with a scaler it is a tensor, to avoid waiting for the device."""
        return 1.0 if self.scaler is None else self.scaler.scale(torch.ones((), device=device))

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide gradients by the loss scale."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer, **kwargs: Any) -> bool:
        """Step; return False if the scaler found an overflow and skipped the step."""
        if self.scaler is None:
            optimizer.step(**kwargs)
            return True
        calls: list[int] = []
        without = without_momentum(optimizer)
        counter = optimizer.register_step_post_hook(lambda *_: calls.append(1))
        try:
            self.scaler.step(optimizer, **kwargs)
        finally:
            counter.remove()
        stepped = bool(calls) and not left_by_overflow(self.scaler, optimizer)
        if not stepped:
            drop_momentum(optimizer, without)
        self.scaler.update(self.constant_scale)
        return stepped

    def __repr__(self) -> str:
        name = 'off' if self.dtype is None else str(self.dtype).removeprefix('torch.')
        return name + (' with a loss scaler' if self.scaler is not None else '')


def read_precision(
    caller: str,
    amp: Union[bool, str, torch.dtype, None],
    dtype: Union[str, torch.dtype, None],
    loss_scale: Union[str, float, dict, None],
    use_fsdp: bool,
    device_type: str,
) -> Precision:
    """Turn the keys of a config into a :class:`Precision`.

    Args:
        caller (str): Name that errors start with.
        amp (bool | str | torch.dtype, optional): True, or the dtype; None and False are off.
        dtype (str | torch.dtype, optional): The same under the name that mmengine's AmpOptimWrapper gives it.
        loss_scale (str | float | dict, optional): As in AmpOptimWrapper: ``'dynamic'``, a constant scale, or
            arguments of ``torch.amp.GradScaler``. None means ``'dynamic'`` with float16 and no scaler with bfloat16.
        use_fsdp (bool): Scale with ``ShardedGradScaler``.
        device_type (str): Where the parameters are.

    Raises:
        ValueError: If a name is no dtype, or ``amp`` and ``dtype`` contradict each other.
        TypeError: If a value is of the wrong kind.

    Example:
        >>> read_precision('me', 'bfloat16', None, None, False, 'cpu')
        bfloat16
        >>> read_precision('me', None, 'float16', None, False, 'cpu')
        float16 with a loss scaler
    """
    if not isinstance(amp, (bool, str, torch.dtype, type(None))):
        raise TypeError(
            f"{caller}: expected amp to be a bool, a name of a dtype or None, got {amp!r}. Use 'bfloat16', 'float16', "
            'True or None.'
        )
    if amp is False:
        if dtype is not None or loss_scale is not None:
            key = 'dtype' if dtype is not None else 'loss_scale'
            raise ValueError(f'{caller}: expected no {key} beside amp=False, got one. Drop one of them.')
        return Precision(device_type=device_type)
    from_amp = None if amp is None or amp is True else _to_dtype(caller, 'amp', amp)
    from_dtype = None if dtype is None else _to_dtype(caller, 'dtype', dtype)
    if from_amp is not None and from_dtype is not None and from_amp != from_dtype:
        raise ValueError(f'{caller}: amp={amp!r} and dtype={dtype!r} contradict each other. Give one of them.')
    chosen = from_amp or from_dtype
    if chosen is None:
        if amp is None and loss_scale is None:
            return Precision(device_type=device_type)
        # What mmengine's autocast takes when no dtype is named: bfloat16 is the fast one on a CPU.
        chosen = torch.bfloat16 if device_type == 'cpu' else torch.float16
    if chosen in (torch.float32, torch.float64):
        chosen = None  # autocast to a full type changes nothing
    if loss_scale is None and chosen is not torch.float16:
        return Precision(chosen, device_type)
    scaler, constant = _make_scaler(caller, 'dynamic' if loss_scale is None else loss_scale, use_fsdp, device_type)
    return Precision(chosen, device_type, scaler, constant)


def _to_dtype(caller: str, key: str, value: Union[str, torch.dtype]) -> torch.dtype:
    if isinstance(value, torch.dtype) and value in _TYPES.values():
        return value
    if isinstance(value, str) and value.removeprefix('torch.') in _TYPES:
        return _TYPES[value.removeprefix('torch.')]
    hint = did_you_mean(value, _TYPES) if isinstance(value, str) else ''
    raise ValueError(f'{caller}: expected {key} to be one of {", ".join(map(repr, _TYPES))}, got {value!r}.{hint}')


def _make_scaler(
    caller: str, loss_scale: Union[str, float, dict], use_fsdp: bool, device_type: str
) -> tuple[Any, Optional[float]]:
    scaler_class: type[torch.amp.GradScaler] = torch.amp.GradScaler
    if use_fsdp:
        from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

        scaler_class = ShardedGradScaler
    if loss_scale == 'dynamic':
        return scaler_class(device=device_type), None
    if isinstance(loss_scale, (int, float)) and not isinstance(loss_scale, bool):
        return scaler_class(device=device_type, init_scale=float(loss_scale)), float(loss_scale)
    if isinstance(loss_scale, dict):
        return scaler_class(**{'device': device_type, **loss_scale}), None
    raise TypeError(
        f"{caller}: expected loss_scale to be 'dynamic', a number, or a dict of arguments of torch.amp.GradScaler, got "
        f'{loss_scale!r}.'
    )
