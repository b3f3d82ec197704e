"""The update of a training step: small stages around any optimizer, in any training that mmengine's Runner can run."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Optional, Union

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from hybridcls.checks import check_number
from hybridcls.distributed.layouts import Shards, is_row_shard
from hybridcls.registry import OPTIM_WRAPPERS

from .stages.stage_list import build_stages
from .stages.update_stage import Update, UpdateStage
from .update.clipping import check_clip_grad, clip_pieces
from .update.forward_call import losses_of, total_loss
from .update.nonfinite_loss import NonFiniteLossError, NonFiniteLossGuard
from .update.parameter_names import check_trainable, named_owners, parameters_of
from .update.precision import read_precision
from .update.second_pass import SecondPass
from .update.state_dict import Gradients, LoadedState, gather_gradients, pack_state, restart_stale_stages, unpack_state

__all__ = ['ComposedOptimWrapper']


@OPTIM_WRAPPERS.register_module()
class ComposedOptimWrapper(OptimWrapper):
    """mmengine's OptimWrapper with stages, mixed precision on every device, and a check of the losses.

    What happens to the loss of a micro-batch, and, when the update is due, to the weights::

        backward -> second_pass (SAM: climb, the same forward call again, come back)
        -> unscale -> clip -> transform (gradient centralization) -> optimizer.step -> after_step (Lookahead)

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
        nonfinite_loss (str): When a loss is NaN or infinite: ``'raise'`` raises and names it, ``'skip'`` drops the
            update, ``'ignore'`` does not look. The weights stay as they were. Defaults to ``'raise'``.
        max_skipped_updates (int): With ``'skip'``: so many updates in a row may be dropped. Defaults to 20.

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

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        stages: Union[dict, Sequence, None] = None,
        amp: Union[bool, str, torch.dtype, None] = None,
        clip_grad: Optional[dict] = None,
        accumulative_counts: int = 1,
        dtype: Union[str, torch.dtype, None] = None,
        loss_scale: Union[str, float, dict, None] = None,
        use_fsdp: bool = False,
        nonfinite_loss: str = 'raise',
        max_skipped_updates: int = 20,
    ) -> None:
        caller = type(self).__name__
        check_number(caller, 'accumulative_counts', accumulative_counts, 1, integer=True)
        super().__init__(optimizer, accumulative_counts, check_clip_grad(caller, clip_grad))
        self.stages: dict[str, UpdateStage] = build_stages(caller, stages)
        self.initial_state = {name: stage.state_dict() for name, stage in self.stages.items()}
        self._prober = next((stage for stage in self.stages.values() if stage.has_second_pass), None)
        params = parameters_of(optimizer)
        device_type = params[0].device.type if params else 'cpu'
        # An overflow in a piece of the gradient concerns all processes.
        use_sharded_scaler = use_fsdp or any(is_row_shard(param) for param in params)
        self.precision = read_precision(caller, amp, dtype, loss_scale, use_sharded_scaler, device_type)
        self.nonfinite_losses = NonFiniteLossGuard(caller, nonfinite_loss, max_skipped_updates)
        self._second_pass = SecondPass(caller, optimizer)
        self._shards = Shards()
        self._update: Optional[Update] = None
        self._updates = 0
        self._skip_update = False  # a loss of the update at hand was bad
        self._is_state_checked = False
        self._loaded: Optional[LoadedState] = None
        self.gathered_gradients: Optional[Gradients] = None

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
        check_trainable(type(self).__name__, parameters_of(self.optimizer))
        if self._loaded is not None and self._loaded.is_half_done:  # nothing is lost: no warning of mmengine's
            self._inner_count, self._max_counts = init_counts, max_counts
            self._remainder_counts = max_counts % self._accumulative_counts
        else:
            super().initialize_count_status(model, init_counts, max_counts)
        self._update = None  # parameters may have been wrapped, frozen or added since

    @torch.compiler.disable
    def optim_context(self, model: nn.Module) -> '_Uncompiled':
        """Preprocess and call the model in here: mixed precision, no needless synchronisation, the call remembered."""
        return _Uncompiled(self._micro_batch(model))

    @contextmanager
    def _micro_batch(self, model: nn.Module) -> Iterator[None]:
        update = self._begin(model)
        update.is_first = self._inner_count % self._accumulative_counts == 0
        update.is_last = self.should_sync()
        wanted = self._prober is not None and not self._skip_update and self._prober.needs_second_pass(update)
        call = self._second_pass.begin(model, wanted, may_be_undone=self.nonfinite_losses.skips)
        sync = self._prober.wants_sync() if self._prober is not None and wanted else None
        with self.sync_context(model, sync), self.precision.autocast(), call:
            yield

    def _begin(self, model: Optional[nn.Module] = None) -> Update:
        """Start the stages at the first update, and describe the one at hand."""
        update = self._update
        if update is None or len(update.params) != sum([len(group['params']) for group in self.optimizer.param_groups]):
            update = self._start(model)
        update.optimizer, update.count = self.optimizer, self._updates
        return update

    def _start(self, model: Optional[nn.Module]) -> Update:
        params = parameters_of(self.optimizer)
        check_trainable(type(self).__name__, params)
        names, owners = named_owners(params, model)
        self._shards = Shards(model)
        if model is not None and (self._prober is not None or self.nonfinite_losses.skips):
            self._second_pass.watch(model, with_frozen=not self._shards.is_fsdp1)
        update = self._update = Update(
            self.optimizer,
            params,
            names,
            owners,
            self._shards,
            self._updates,
            recompute_gradient=self._regrad,
            log=self._log,
        )
        update.may_overflow = self.precision.scaler is not None
        restart_stale_stages(self)
        with torch.no_grad():
            for stage in self.stages.values():
                stage.start(update)
                stage.check_state(update)
        return update

    def sync_context(self, model: Any, sync: Optional[bool] = None) -> Any:
        """Average gradients over processes or not; None asks mmengine's rule: only where the update is due."""
        if sync is None:
            sync = self.should_sync()
        if not sync and not self._shards.can_climb_alone and self._prober is not None:
            sync = True  # gradients that FSDP leaves unsharded could not be set aside for a second pass
        return nullcontext() if sync or not hasattr(model, 'no_sync') else model.no_sync()

    # ------------------------------------------------------------------ after the forward pass

    @torch.compiler.disable
    def update_params(
        self, loss: Tensor, step_kwargs: Optional[dict] = None, zero_kwargs: Optional[dict] = None
    ) -> None:
        """Take the gradient of ``loss`` and, with the last micro-batch of an update, step.

        Args:
            loss (Tensor): Scalar, what the model's ``parse_losses`` gave.
            step_kwargs (dict, optional): Arguments of ``optimizer.step``.
            zero_kwargs (dict, optional): Arguments of ``optimizer.zero_grad``.

        Raises:
            NonFiniteLossError: If the loss is not finite and ``nonfinite_loss`` says to stop.
        """
        if self._second_pass.wanted:
            self._second_pass.set_gradients_aside(self._inner_count % self._accumulative_counts == 0)
        self.nonfinite_losses.record(loss)
        scale = self.scale_loss(1.0)
        self.backward(self.scale_loss(loss))
        try:
            if self.nonfinite_losses.is_nonfinite():
                self._second_pass.undo_first()
                if not self._skip_update:
                    self.drop_update(self._second_pass.losses, loss)
            if self._prober is not None and not self._skip_update:
                self._probe(self._prober, loss, scale)
        except NonFiniteLossError:
            self.optimizer.zero_grad()
            raise
        finally:
            self._second_pass.end()
        if self.should_update():
            if self._skip_update:
                self._skip_update = False
            else:
                self.step(**(step_kwargs or {}))
            self.zero_grad(**(zero_kwargs or {}))

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Backward pass of the scaled loss; counts the micro-batch."""
        self.precision.scaled(loss).backward(**kwargs)
        self._inner_count += 1
        self.gathered_gradients = None  # those of a checkpoint before

    def drop_update(self, losses: dict[str, Tensor], loss: Tensor, place: str = '') -> None:
        """A loss of the update at hand was bad: do without it, or stop, as ``nonfinite_loss`` says.

        Args:
            losses (dict[str, Tensor]): The losses by name.
            loss (Tensor): Their total.
            place (str): Where it happened, if not at the weights themselves.

        Raises:
            NonFiniteLossError: If the run stops here.
        """
        self._skip_update = True
        if self._update is not None:
            self._update.is_dropped = True
        self.nonfinite_losses.handle(losses, loss, self._inner_count, place)

    def _probe(self, prober: UpdateStage, loss: Tensor, scale: float) -> None:
        update = self._update
        if update is None or (not self._second_pass.wanted and prober.needs_second_pass(update)):
            raise RuntimeError(
                f'{type(self).__name__}: update_params was called without optim_context, and '
                f'{type(prober).__name__} must know which call of the model to repeat. Call the model in '
                '`with optim_wrapper.optim_context(model):`, as BaseModel.train_step does.'
            )
        update.is_dropped = False
        update.grad_scale = self.precision.scale_on(loss.device) * scale
        with self._second_pass.held(loss), torch.no_grad():
            prober.second_pass(update)

    def _regrad(self, same_randomness: bool = True) -> Tensor:
        """What stages know as ``update.recompute_gradient``."""
        count = self._inner_count
        with self._second_pass.again() as call:
            self._inner_count = count - 1  # it is the micro-batch before, not another one
            try:
                with self.sync_context(call.model), self.precision.autocast():
                    output = call.again(same_randomness)
                loss = total_loss(call.model, output)
                self.nonfinite_losses.record(loss)
                self.backward(self.scale_loss(loss))
            finally:
                self._inner_count = count
        if self.nonfinite_losses.is_nonfinite():
            self.drop_update(losses_of(output), loss, ' at the weights of the second pass')
            self.optimizer.zero_grad()
        return loss.detach()

    def step(self, **kwargs: Any) -> None:
        """Unscale, clip, transform, step, after_step. A step that the loss scaler skips counts as none."""
        update = self._begin()
        update.is_first, update.is_last = self._accumulative_counts == 1, True
        self.precision.unscale(self.optimizer)
        if self.clip_grad_kwargs:
            self._clip_grad()
        with torch.no_grad():
            for stage in self.stages.values():
                stage.before_step(update)
        if not self.precision.step(self.optimizer, **kwargs):
            return
        self._updates += 1
        self.nonfinite_losses.reset()
        update.count = self._updates
        with torch.no_grad():
            for stage in self.stages.values():
                stage.after_step(update)
                if not self._is_state_checked:
                    stage.check_state(update)
        self._is_state_checked = True

    def _clip_grad(self) -> None:
        if (self._shards.is_fsdp1 or self._shards.has_row_shards) and self.grad_name == 'grad_norm':
            # Each process sees pieces of the gradient; torch's own function would clip by the norm of its pieces.
            norm = clip_pieces(parameters_of(self.optimizer), self._shards, **self.clip_grad_kwargs)
            self._log(self.grad_name, float(norm))
        else:
            super()._clip_grad()

    def _log(self, name: str, value: Any) -> None:
        self.message_hub.update_scalar(f'train/{name}', value)

    # ------------------------------------------------------------------ state

    def gather_for_checkpoint(self) -> None:
        """Collect what only this process has of a half-accumulated gradient; all processes must come here together.

        hybridcls' CheckpointHook calls it. Without it such gradients are not in a checkpoint of several processes.
        """
        self.gathered_gradients = gather_gradients(self)

    def state_dict(self) -> dict:
        """The optimizer's state, with that of the stages, the loss scaler and a half-done update.

        Tensors that belong to a parameter stand with the optimizer's own, by the position of the parameter; so FSDP
        gathers and shards them as it does momenta.
        """
        return pack_state(self, super().state_dict())

    def load_state_dict(self, state_dict: dict) -> None:
        """Take over a state of this wrapper, or of mmengine's OptimWrapper or AmpOptimWrapper."""
        super().load_state_dict(unpack_state(self, state_dict))
        self._update = None  # stages start again, with what was loaded

    def __repr__(self) -> str:
        stages = ''.join(f'  {name}: {stage!r}\n' for name, stage in self.stages.items()) or '  none\n'
        return f'{super().__repr__()}precision: {self.precision!r}\nstages:\n{stages}'


class _Uncompiled:
    """A context that is entered and left outside of torch.compile; what is called in it is compiled."""

    def __init__(self, context: AbstractContextManager) -> None:
        self._context = context

    @torch.compiler.disable
    def __enter__(self) -> None:
        self._context.__enter__()

    @torch.compiler.disable
    def __exit__(self, *error: Any) -> Optional[bool]:
        return self._context.__exit__(*error)
