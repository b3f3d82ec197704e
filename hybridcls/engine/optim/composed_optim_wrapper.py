"""The update of a training step: small stages around any optimizer, in any training that mmengine's Runner can run."""
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Optional, Union

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from hybridcls.checks import check_known_keys, check_number
from hybridcls.registry import OPTIM_WRAPPERS

from .bad_loss import BadLossError, BadLossGuard
from .forward_call import ForwardCall, WanderingTensors, losses_of, total_loss
from .precision import read_precision
from .sharding import Shards
from .stage_list import build_stages
from .stages.update_stage import Update, UpdateStage
from .wrapper_state import pack_state, unpack_state

__all__ = ['ComposedOptimWrapper']


@OPTIM_WRAPPERS.register_module()
class ComposedOptimWrapper(OptimWrapper):
    """mmengine's OptimWrapper with stages, mixed precision on every device, and a check of the losses.

    What happens to the loss of a micro-batch, and, when the update is due, to the weights::

        backward -> probe (SAM: climb, the same forward call again, come back)
        -> unscale -> clip -> transform (gradient centralization) -> optimizer.step -> settle (Lookahead)

    Without stages it does what mmengine's OptimWrapper does, and with ``amp`` what its AmpOptimWrapper does, to the
    same bits. It works with any model whose training step enters ``optim_context``, calls the model once, and passes
    the loss to ``update_params``: that is what BaseModel and mmengine's DDP and FSDP wrappers do.

    Args:
        optimizer (torch.optim.Optimizer): The optimizer; in a config, a dict.
        stages (dict | Sequence, optional): Named stages, ``dict(sam=dict(type='SAM', rho=0.05), ...)``, visited in
            this order. A child config switches one off with ``stages=dict(sam=None)``. Defaults to None.
        amp (bool | str | torch.dtype, optional): ``'bfloat16'``, or ``'float16'`` with a loss scaler, on CPU and GPU.
            True takes bfloat16 on a CPU and float16 elsewhere. Defaults to None: off.
        clip_grad (dict, optional): Arguments of ``clip_grad_norm_``, or with ``type='value'`` of
            ``clip_grad_value_``. What is clipped is the gradient that is stepped with; its norm before is logged as
            ``grad_norm``, over all shards. Defaults to None.
        accumulative_counts (int): Micro-batches an update. A stage such as SAM does its work in each of them.
            Defaults to 1.
        dtype (str | torch.dtype, optional): Another name for ``amp``, that of AmpOptimWrapper.
        loss_scale (str | float | dict, optional): ``'dynamic'``, a constant, or arguments of GradScaler. Defaults to
            None: ``'dynamic'`` with float16, none with bfloat16.
        use_fsdp (bool): Use the loss scaler for sharded gradients. Defaults to False.
        bad_loss (str): When a loss is NaN or infinite: ``'stop'`` raises and names it, ``'skip'`` drops the update,
            ``'ignore'`` does not look. The weights stay as they were. Defaults to ``'stop'``.
        most_bad_losses (int): With ``'skip'``: so many updates in a row may be dropped. Defaults to 20.

    Raises:
        ValueError: For numbers out of range, two stages of one kind, or (before the first update) parameters that
            all need no gradient.
        TypeError: For keys that nobody knows.

    Example:
        >>> from mmengine.model import BaseModel
        >>> class Regression(BaseModel):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.linear = nn.Linear(2, 1)
        ...
        ...     def forward(self, inputs, data_samples=None, mode='loss'):
        ...         return dict(loss_square=self.linear(inputs).square().mean())
        >>> model = Regression()
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> wrapper = ComposedOptimWrapper(optimizer, amp='bfloat16', clip_grad=dict(max_norm=1.0))
        >>> sorted(model.train_step(dict(inputs=torch.ones(3, 2)), wrapper)), wrapper.updates
        (['loss', 'loss_square'], 1)
    """

    def __init__(self,
                 optimizer: torch.optim.Optimizer,
                 stages: Union[dict, Sequence, None] = None,
                 amp: Union[bool, str, torch.dtype, None] = None,
                 clip_grad: Optional[dict] = None,
                 accumulative_counts: int = 1,
                 dtype: Union[str, torch.dtype, None] = None,
                 loss_scale: Union[str, float, dict, None] = None,
                 use_fsdp: bool = False,
                 bad_loss: str = 'stop',
                 most_bad_losses: int = 20) -> None:
        who = type(self).__name__
        check_number(who, 'accumulative_counts', accumulative_counts, 1, integer=True)
        super().__init__(optimizer, accumulative_counts, _check_clip_grad(who, clip_grad))
        self.stages: dict[str, UpdateStage] = build_stages(who, stages)
        self._prober = next((stage for stage in self.stages.values() if stage.probes), None)
        params = [param for group in optimizer.param_groups for param in group['params']]
        device_type = params[0].device.type if params else 'cpu'
        self.precision = read_precision(who, amp, dtype, loss_scale, use_fsdp, device_type)
        self._bad_losses = BadLossGuard(who, bad_loss, most_bad_losses)
        self._update: Optional[Update] = None
        self._shards = Shards()
        self._wandering: Optional[WanderingTensors] = None
        self._call: Optional[ForwardCall] = None
        self._wants_regrad = False
        self._aside: Optional[list[Optional[Tensor]]] = None
        self._spoiled = False  # a loss of this update was bad
        self._checked_loss = False
        self._updates = 0
        self._has_loaded_gradients = False

    @property
    def loss_scaler(self) -> Any:
        """The loss scaler, or None; under the name it has in AmpOptimWrapper."""
        return self.precision.scaler

    @loss_scaler.setter
    def loss_scaler(self, scaler: Any) -> None:
        self.precision.scaler = scaler

    @property
    def updates(self) -> int:
        """Updates done so far; skipped ones do not count."""
        return self._updates

    # ------------------------------------------------------------------ before a micro-batch

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Take over where the Runner stands: ``init_counts`` of ``max_counts`` micro-batches are done.

        Stages take their copies of the weights only at the first update: the Runner loads weights before it calls
        this, FlexibleRunner may do so after it.
        """
        _check_trainable(type(self).__name__, self._params())
        if self._has_loaded_gradients:  # nothing is lost in the middle of an accumulation: no warning of mmengine's
            self._inner_count, self._max_counts = init_counts, max_counts
            self._remainder_counts = max_counts % self._accumulative_counts
        else:
            super().initialize_count_status(model, init_counts, max_counts)
        self._update = None  # parameters may have been wrapped, frozen or added since

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Preprocess and call the model in here: mixed precision, no needless synchronisation, the call remembered."""
        update = self._begin(model)
        self._wants_regrad = self._prober is not None and not self._spoiled and self._prober.wants_regrad(update)
        if self._wants_regrad and self._wandering is not None:
            self._wandering.mark()
        sync = self._prober.wants_sync() if self._wants_regrad else None
        self._call = ForwardCall(model, remember_input=self._wants_regrad)
        with self._sync_context(model, sync), self.precision.autocast(), self._call:
            yield

    def _begin(self, model: Optional[nn.Module] = None) -> Update:
        """Start the stages at the first update, and describe the one at hand."""
        if self._update is None or len(self._update.params) != sum(
                len(group['params']) for group in self.optimizer.param_groups):
            params = self._params()
            _check_trainable(type(self).__name__, params)
            names, owners = _places_of(params, model)
            self._shards = Shards(model)
            if self._prober is not None and model is not None:
                self._wandering = WanderingTensors(model, with_frozen=not self._shards.is_fsdp1)
            self._update = Update(self.optimizer, params, names, owners, self._shards, self._updates,
                                  regrad=self._regrad, log=self._log)
            with torch.no_grad():
                for stage in self.stages.values():
                    stage.start(self._update)
        update = self._update
        update.optimizer, update.count = self.optimizer, self._updates
        update.is_first = self._inner_count % self._accumulative_counts == 0
        update.is_last = self.should_sync()
        update.may_overflow = self.precision.scaler is not None
        return update

    def _params(self) -> list[nn.Parameter]:
        return [param for group in self.optimizer.param_groups for param in group['params']]

    def _sync_context(self, model: nn.Module, sync: Optional[bool]) -> Any:
        """Average gradients over processes or not; None asks mmengine's rule: only where the update is due."""
        if sync is None:
            sync = self.should_sync()
        if not sync and not self._shards.can_climb_alone and self._prober is not None:
            sync = True  # gradients that FSDP leaves unsharded could not be set aside for a second pass
        return nullcontext() if sync or not hasattr(model, 'no_sync') else model.no_sync()

    # ------------------------------------------------------------------ after the forward pass

    def update_params(self,
                      loss: Tensor,
                      step_kwargs: Optional[dict] = None,
                      zero_kwargs: Optional[dict] = None) -> None:
        """Take the gradient of ``loss`` and, with the last micro-batch of an update, step.

        Args:
            loss (Tensor): Scalar, what the model's ``parse_losses`` gave.
            step_kwargs (dict, optional): Arguments of ``optimizer.step``.
            zero_kwargs (dict, optional): Arguments of ``optimizer.zero_grad``.

        Raises:
            BadLossError: If the loss is not finite and ``bad_loss`` says to stop.
        """
        aside = self._set_gradients_aside() if self._wants_regrad else None
        scale = self.scale_loss(1.)
        self.backward(self.scale_loss(loss))
        try:
            self._guard(loss)
            if self._prober is not None and not self._spoiled:
                self._probe(loss, scale, aside)
        except BadLossError:
            self.optimizer.zero_grad()
            raise
        finally:
            self._call, self._wants_regrad = None, False
        if self.should_update():
            if self._spoiled:
                self._spoiled = False
            else:
                self.step(**(step_kwargs or {}))
            self.zero_grad(**(zero_kwargs or {}))

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Backward pass of the scaled loss; counts the micro-batch."""
        scaler = self.precision.scaler
        (loss if scaler is None else scaler.scale(loss)).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs: Any) -> None:
        """Unscale, clip, transform, step, settle. A step that the loss scaler skips counts as none."""
        update = self._begin()
        scaler = self.precision.scaler
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        if self.clip_grad_kwargs:
            self._clip_grad()
        with torch.no_grad():
            for stage in self.stages.values():
                stage.transform(update)
        if not self._step_optimizer(**kwargs):
            return
        self._updates += 1
        self._bad_losses.relax()
        update.count = self._updates
        with torch.no_grad():
            for stage in self.stages.values():
                stage.settle(update)

    def _step_optimizer(self, **kwargs: Any) -> bool:
        """Step; False if the loss scaler found an overflow and skipped it."""
        scaler = self.precision.scaler
        if scaler is None:
            self.optimizer.step(**kwargs)
            return True
        calls: list[int] = []
        counter = self.optimizer.register_step_post_hook(lambda *_: calls.append(1))
        try:
            scaler.step(self.optimizer, **kwargs)
        finally:
            counter.remove()
        stepped = bool(calls)
        if stepped and getattr(self.optimizer, '_step_supports_amp_scaling', False):
            # Fused optimizers are always called, and look at the overflow flag on the device.
            stepped = not any(flag.item() for flag in scaler._found_inf_per_device(self.optimizer).values())
        scaler.update(self.precision.constant_scale)
        return stepped

    def _clip_grad(self) -> None:
        if self.clip_grad_kwargs.keys() <= {'max_norm', 'norm_type', 'error_if_nonfinite'} and self._shards.is_fsdp1:
            # Each process sees pieces of the gradient; torch's own function would clip by the norm of its pieces.
            options = dict(self.clip_grad_kwargs)
            grads = [param.grad for param in self._params() if param.grad is not None]
            norm = self._shards.norm(grads, float(options.get('norm_type', 2.)))
            if options.get('error_if_nonfinite') and not torch.isfinite(norm):
                raise RuntimeError(f'{type(self).__name__}: clip_grad: the norm of the gradient is {float(norm)}.')
            factor = (options['max_norm'] / (norm + 1e-6)).clamp(max=1.)
            if grads:
                torch._foreach_mul_(grads, factor.to(grads[0].device))
            self.message_hub.update_scalar(f'train/{self.grad_name}', float(norm))
            return
        super()._clip_grad()

    def _guard(self, loss: Tensor) -> None:
        if self._spoiled or not self._bad_losses.is_bad(loss):
            return
        output = None if self._call is None else self._call.output
        self._spoiled = True
        self._bad_losses.handle(loss, losses_of(output), self._inner_count)

    # ------------------------------------------------------------------ a second gradient

    def _set_gradients_aside(self) -> list[Optional[Tensor]]:
        """Leave ``.grad`` empty for the gradient of this micro-batch alone; return what earlier ones left."""
        params = self._params()
        aside = [param.grad for param in params]
        if self._inner_count % self._accumulative_counts == 0:
            aside = [None] * len(params)  # zeros at most
        for param in params:
            param.grad = None
        return aside

    def _probe(self, loss: Tensor, scale: float, aside: Optional[list[Optional[Tensor]]]) -> None:
        update = self._update
        if update is None or (aside is None and self._prober.wants_regrad(update)):
            raise RuntimeError(
                f'{type(self).__name__}: update_params was called without optim_context, and '
                f'{type(self._prober).__name__} must know which call of the model to repeat. Call the model in '
                '`with optim_wrapper.optim_context(model):`, as BaseModel.train_step does.')
        update.grad_scale = scale * (1. if self.precision.scaler is None else self.precision.scaler.get_scale())
        self._aside = aside
        if aside is not None and not self._checked_loss:
            self._check_loss(loss)
        held = self._wandering.held() if aside is not None and self._wandering is not None else nullcontext()
        try:
            with held, torch.no_grad():
                self._prober.probe(update)
        except BadLossError:
            if self._bad_losses.action == 'stop' or self._bad_losses.dropped_in_a_row > self._bad_losses.most:
                raise
        finally:
            self._aside = None

    def _check_loss(self, loss: Tensor) -> None:
        """See once that the loss of a second pass will mean what the loss of the first one does."""
        found = total_loss(self._call.model, self._call.output).detach()
        if not torch.allclose(found.float(), loss.detach().float(), rtol=1e-3, atol=1e-6, equal_nan=True):
            raise ValueError(
                f'{type(self).__name__}: update_params got the loss {float(loss.detach()):g}, and the losses that '
                f'{type(self._call.model).__name__} returned amount to {float(found):g}: a second pass would follow '
                'another loss. Do all weighting of losses in forward or parse_losses.')
        self._checked_loss = True

    def _regrad(self, same_randomness: bool = True) -> Tensor:
        """Gradient of this micro-batch at the weights as they are now, added to what earlier ones left."""
        call, aside = self._call, self._aside
        if aside is None or call is None:
            raise RuntimeError(f'{type(self).__name__}: a stage asked for another gradient, and its wants_regrad had '
                               'not said so before the forward pass.')
        for param, grad in zip(self._params(), aside, strict=True):
            param.grad = grad
        self._inner_count -= 1  # the same micro-batch again
        counted = self._inner_count + 1
        try:
            # Weights have changed under the cache of an autocast that somebody may have entered further out.
            torch.clear_autocast_cache()
            with torch.enable_grad():
                with self._sync_context(call.model, None), self.precision.autocast():
                    output = call.again(same_randomness)
                loss = total_loss(call.model, output)
                self.backward(self.scale_loss(loss))
        finally:
            self._inner_count = counted
            torch.clear_autocast_cache()
        if self._bad_losses.is_bad(loss):
            self._spoiled = True
            self._bad_losses.handle(loss, losses_of(output), counted, ' at the weights of the second pass')
            raise BadLossError('dropped')
        return loss.detach()

    def _log(self, name: str, value: Any) -> None:
        self.message_hub.update_scalar(f'train/{name}', value)

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict:
        """The optimizer's state, with that of the stages, the loss scaler and a half-done update.

        Tensors that belong to a parameter stand with the optimizer's own, by the position of the parameter; so FSDP
        gathers and shards them as it does momenta.
        """
        return pack_state(self, super().state_dict())

    def load_state_dict(self, state_dict: dict) -> None:
        """Take over a state of this wrapper, or of mmengine's OptimWrapper or AmpOptimWrapper."""
        super().load_state_dict(unpack_state(self, state_dict))

    def __repr__(self) -> str:
        stages = ''.join(f'  {name}: {stage!r}\n' for name, stage in self.stages.items()) or '  none\n'
        return f'{super().__repr__()}precision: {self.precision!r}\nstages:\n{stages}'


def _check_clip_grad(who: str, clip_grad: Optional[dict]) -> Optional[dict]:
    if clip_grad is None:
        return None
    if not isinstance(clip_grad, dict) or not clip_grad:
        raise TypeError(f'{who}: clip_grad={clip_grad!r} must be a dict such as dict(max_norm=5.0), or None.')
    kind = clip_grad.get('type', 'norm')
    if kind not in ('norm', 'value'):
        raise ValueError(f"{who}: clip_grad.type={kind!r} must be 'norm' or 'value'.")
    known = ['clip_value', 'foreach'] if kind == 'value' else ['max_norm', 'norm_type', 'error_if_nonfinite', 'foreach']
    check_known_keys(f'{who} (clip_grad)', clip_grad, ['type', *known])
    if known[0] not in clip_grad:
        raise ValueError(f'{who}: clip_grad={dict(clip_grad)} lacks {known[0]}.')
    check_number(who, f'clip_grad.{known[0]}', clip_grad[known[0]], 0)
    return dict(clip_grad)  # mmengine takes `type` out of it


def _check_trainable(who: str, params: list[nn.Parameter]) -> None:
    if not any(param.requires_grad for param in params):
        raise ValueError(f'{who}: none of the {len(params)} parameters of the optimizer needs a gradient, so no stage '
                         'and no optimizer has anything to do. Unfreeze a part of the model (requires_grad, '
                         'frozen_stages, lora_rank).')


def _places_of(params: list[nn.Parameter], model: Optional[nn.Module]) -> tuple[list[str], list[Optional[nn.Module]]]:
    """Names and owners of parameters; of a shared one, the first."""
    found: dict[int, tuple[str, nn.Module]] = {}
    for prefix, module in () if model is None else model.named_modules():
        for name, param in module._parameters.items():
            if param is not None:
                found.setdefault(id(param), (f'{prefix}.{name}' if prefix else name, module))
    places = [found.get(id(param), ('', None)) for param in params]
    names = [re.sub(r'(^|\.)(module|_fsdp_wrapped_module|_orig_mod)\.', r'\1', name) for name, _ in places]
    return names, [owner for _, owner in places]
