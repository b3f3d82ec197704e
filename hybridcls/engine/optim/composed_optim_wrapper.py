"""The update of a training step: stages around any optimizer, in any training of mmengine's Runner."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Optional, Union

import torch
from mmengine.dist import get_world_size
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from hybridcls.checks import check_number
from hybridcls.compat.mmengine import (
    accumulation_counts,
    clip_and_log_gradient,
    count_micro_batch,
    set_accumulation_counts,
)
from hybridcls.compat.torch import Uncompiled, follow_fused_groups, late_momentum
from hybridcls.distributed.drawn_rows import check_row_gradient, updating_drawn_rows
from hybridcls.distributed.layouts import Shards, is_row_shard, to_layout_of
from hybridcls.registry import OPTIM_WRAPPERS
from hybridcls.renames import keeps_old_spellings
from hybridcls.replay.mutable_state import MutableState

from .stages.stage_list import build_stages, warn_of_drawn_rows
from .stages.stage_states import load_stages, pack_stages, restart_stages
from .stages.update_stage import UpdateStage
from .update.accumulated_gradients import Gradients, accumulated_gradients, gather_gradients, own_gradients
from .update.clipping import check_clip_grad, clip_pieces
from .update.loaded_state import LoadedState, fingerprint
from .update.losses import check_same_loss
from .update.micro_batch import MicroBatch
from .update.nonfinite_loss import NonFiniteLossGuard
from .update.parameter_names import check_trainable, named_owners, parameters_of
from .update.precision import read_precision
from .update.state_dict import UpdateState, pack_state, unpack_state
from .update.update import Update

__all__ = ['ComposedOptimWrapper']


@OPTIM_WRAPPERS.register_module()
@keeps_old_spellings
class ComposedOptimWrapper(OptimWrapper):
    """mmengine's OptimWrapper with stages, mixed precision on every device, and a check of the losses.

    What happens to the loss of a micro-batch, and, when the update is due, to the weights::

        before_forward (MSAM: ascend) -> forward, backward
        -> second_pass (SAM: ascend, the same forward call again, restore the weights) -> after_backward (MSAM: restore)
        -> unscale -> clip -> before_step (gradient centralization) -> optimizer.step -> after_step (Lookahead)

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
        TypeError: For unknown keys.

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
        self._two_pass_stage = next((stage for stage in self.stages.values() if stage.has_second_pass), None)
        self._moving_stages = [stage for stage in self.stages.values() if stage.moves_weights]
        params = parameters_of(optimizer)
        device_type = params[0].device.type if params else 'cpu'
        # An overflow in a piece of the gradient concerns all processes.
        use_sharded_scaler = use_fsdp or any(is_row_shard(param) for param in params)
        self.precision = read_precision(caller, amp, dtype, loss_scale, use_sharded_scaler, device_type)
        self.nonfinite_losses = NonFiniteLossGuard(caller, nonfinite_loss, max_skipped_updates)
        self._mutable_state: Optional[MutableState] = None
        self._shards = Shards()
        self._update: Optional[Update] = None
        self._batch: Optional[MicroBatch] = None
        self._updates = 0
        self._is_loss_checked = False
        self._is_state_checked = False
        self._loaded: Optional[LoadedState] = None
        self._gathered_gradients: Optional[Gradients] = None

    @property
    def loss_scaler(self) -> Any:
        """The loss scaler, or None; it has the same name in AmpOptimWrapper."""
        return self.precision.scaler

    @loss_scaler.setter
    def loss_scaler(self, scaler: Any) -> None:
        self.precision.scaler = scaler

    @property
    def updates(self) -> int:
        """Number of updates so far, skipped ones excluded."""
        return self._updates

    # ------------------------------------------------------------------ before a micro-batch

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Take over the Runner's progress: ``init_counts`` of ``max_counts`` micro-batches are done.

        Stages take their copies of the weights only at the first update: the Runner loads weights before it calls
        this, FlexibleRunner may do so after it.
        """
        check_trainable(type(self).__name__, parameters_of(self.optimizer))
        if self._loaded is not None and self._loaded.is_half_done:
            set_accumulation_counts(self, init_counts, max_counts)
        else:
            super().initialize_count_status(model, init_counts, max_counts)
        self._update = None  # parameters may have been wrapped, frozen or added since

    @torch.compiler.disable
    def optim_context(self, model: nn.Module) -> Uncompiled:
        """Run preprocessing and model in this context: mixed precision, no needless synchronization, call recorded."""
        return Uncompiled(self._micro_batch(model))

    def _micro_batch(self, model: nn.Module) -> AbstractContextManager:
        """Prepare the present micro-batch; return the context of its forward pass."""
        update, stage, guard = self._begin(model), self._two_pass_stage, self.nonfinite_losses
        counts = accumulation_counts(self)
        update.is_first, update.is_last = counts.is_between_updates, self.should_sync()
        update.is_dropped, update.micro_batch = guard.is_dropping, None
        # Gradients that FSDP leaves unsharded could not be set aside for a second pass, nor such weights restored.
        must_average = (stage is not None or bool(self._moving_stages)) and not self._shards.can_ascend_alone
        is_averaged = update.is_last or must_average
        batch = MicroBatch(model, update.params, self.precision, guard, self._mutable_state, counts.done + 1)
        if stage is not None and not guard.is_dropping and stage.needs_second_pass(update):
            batch.plan_second_pass(round(1 / self.scale_loss(1.0)), is_averaged)
            is_averaged = stage.wants_sync() or must_average
        self._batch = batch
        forward_pass = batch.forward_pass(is_averaged)
        return self._at_moved_weights(update, forward_pass) if self._moving_stages else forward_pass

    @contextmanager
    def _at_moved_weights(self, update: Update, forward_pass: AbstractContextManager) -> Iterator[None]:
        """Run the forward pass at the weights of before_forward; an error restores them, else after_backward does."""
        try:
            with torch.no_grad():
                for stage in self._moving_stages:
                    stage.before_forward(update)
            torch.clear_autocast_cache()  # of an autocast that the caller may have entered further out
            with forward_pass:
                yield
        except BaseException:
            self._restore_weights()
            raise

    def _restore_weights(self) -> None:
        if self._update is not None:
            with torch.no_grad():
                for stage in self._moving_stages:
                    stage.after_backward(self._update)
            torch.clear_autocast_cache()

    def _begin(self, model: Optional[nn.Module] = None) -> Update:
        """Start the stages at the first update, and describe the present one."""
        update = self._update
        if update is None or len(update.params) != sum([len(group['params']) for group in self.optimizer.param_groups]):
            update = self._start(model)
        update.optimizer, update.count = self.optimizer, self._updates
        return update

    def _start(self, model: Optional[nn.Module]) -> Update:
        params = parameters_of(self.optimizer)
        check_trainable(type(self).__name__, params)
        check_row_gradient(type(self).__name__, self.optimizer, self._two_pass_stage is not None)
        warn_of_drawn_rows(self.stages, params)
        names, owners = named_owners(params, model)
        self._shards = Shards(model)
        self._mutable_state = None
        if model is not None and (self._two_pass_stage is not None or self.nonfinite_losses.skips):
            self._mutable_state = MutableState([model], with_frozen=not self._shards.is_fsdp1)
        update = self._update = Update(self.optimizer, params, names, owners, self._shards, self._updates)
        update.may_overflow, update.message_hub = self.precision.scaler is not None, self.message_hub
        self._restart_stale_stages(params)
        with torch.no_grad():
            for stage in self.stages.values():
                stage.start(update)
                stage.check_state(update)
        return update

    # ------------------------------------------------------------------ after the forward pass

    @torch.compiler.disable
    def update_params(
        self, loss: Tensor, step_kwargs: Optional[dict] = None, zero_kwargs: Optional[dict] = None
    ) -> None:
        """Compute the gradient of ``loss``, and step with the last micro-batch of an update.

        Args:
            loss (Tensor): Scalar, what the model's ``parse_losses`` gave.
            step_kwargs (dict, optional): Arguments of ``optimizer.step``.
            zero_kwargs (dict, optional): Arguments of ``optimizer.zero_grad``.

        Raises:
            NonFiniteLossError: If the loss is not finite and ``nonfinite_loss`` is ``'raise'``.
        """
        batch, self._batch = self._batch, None
        if self._moving_stages:
            if batch is None:
                raise self._no_optim_context(self._moving_stages[0], 'must move the weights before that')
            try:
                self._take_gradient(loss, batch)
            finally:
                self._restore_weights()
        else:
            self._take_gradient(loss, batch)
        if self.should_update():
            if not self.nonfinite_losses.ends_dropped_update():
                self.step(**(step_kwargs or {}))
            self.zero_grad(**(zero_kwargs or {}))

    def _take_gradient(self, loss: Tensor, batch: Optional[MicroBatch]) -> None:
        """Compute the gradient of a micro-batch in one or two passes; none if a loss is not finite."""
        guard = self.nonfinite_losses
        if batch is not None and batch.has_second_pass:
            batch.set_gradients_aside(accumulation_counts(self).is_between_updates)
        guard.record(loss)
        scale = self.scale_loss(1.0)
        self.backward(self.scale_loss(loss))
        if guard.is_nonfinite():
            self.optimizer.zero_grad()
            if batch is not None:
                batch.undo_forward_pass()
            guard.drop_update({} if batch is None else batch.losses, loss, accumulation_counts(self).done)
        elif self._two_pass_stage is not None and not guard.is_dropping:
            self._second_pass(self._two_pass_stage, batch, loss, scale)

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Run the backward pass of the scaled loss, and count the micro-batch."""
        self.precision.scaled(loss).backward(**kwargs)
        count_micro_batch(self)
        self._gathered_gradients = None  # those of a checkpoint before

    def _second_pass(self, stage: UpdateStage, batch: Optional[MicroBatch], loss: Tensor, scale: float) -> None:
        update = self._update
        is_replayed = batch is not None and batch.has_second_pass
        if update is None or (not is_replayed and stage.needs_second_pass(update)):
            raise self._no_optim_context(stage, 'must know which call to repeat')
        if batch is not None and is_replayed and not self._is_loss_checked:
            check_same_loss(type(self).__name__, batch.call.model, batch.call.output, loss)
            self._is_loss_checked = True
        update.micro_batch = batch if is_replayed else None
        update.loss_scale = self.precision.scale_on(loss.device)
        update.grad_scale = update.loss_scale * scale
        try:
            with nullcontext() if batch is None else batch.rolled_back(), torch.no_grad():
                stage.second_pass(update)
        finally:
            update.micro_batch = None  # it holds the images

    def _no_optim_context(self, stage: UpdateStage, why: str) -> RuntimeError:
        return RuntimeError(
            f'{type(self).__name__}: expected the model to be called in optim_context, as {type(stage).__name__} '
            f'{why}, got update_params without it. Call the model in `with optim_wrapper.optim_context(model):`, as '
            'BaseModel.train_step does.'
        )

    def step(self, **kwargs: Any) -> None:
        """Unscale, clip, before_step, step, after_step. A step that the loss scaler skips is not counted."""
        update = self._begin()
        update.is_first, update.is_last = accumulation_counts(self).per_update == 1, True
        with updating_drawn_rows(self.optimizer):
            self.precision.unscale(self.optimizer)
            if self.clip_grad_kwargs:
                self._clip_gradient(self.clip_grad_kwargs)
            with torch.no_grad():
                for stage in self.stages.values():
                    stage.before_step(update)
            late_momentum(self.optimizer)
            stepped = self.precision.step(self.optimizer, **kwargs)
        if not stepped:
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

    def _clip_gradient(self, settings: dict) -> None:
        if (self._shards.is_fsdp1 or self._shards.has_row_shards) and self.grad_name == 'grad_norm':
            # Each process sees pieces of the gradient; torch's own function would clip by the norm of its pieces.
            norm = clip_pieces(parameters_of(self.optimizer), self._shards, **settings)
            self.message_hub.update_scalar(f'train/{self.grad_name}', float(norm))
        else:
            clip_and_log_gradient(self)

    # ------------------------------------------------------------------ state

    def gather_for_checkpoint(self) -> None:
        """Collect this process's part of a partially accumulated gradient; all processes must call this together.

        hybridcls' CheckpointHook calls it. Without it such gradients are not in a checkpoint of several processes.
        """
        if self._accumulates_alone and not accumulation_counts(self).is_between_updates:
            self._gathered_gradients = gather_gradients(parameters_of(self.optimizer))

    @property
    def _accumulates_alone(self) -> bool:
        """Whether each process accumulates its own gradient until the update."""
        return get_world_size() > 1 and self._shards.accumulates_alone

    def state_dict(self) -> dict:
        """Return the state of the optimizer, the stages, the loss scaler and a partially accumulated update.

        Tensors that belong to a parameter stand with the optimizer's own, by the position of the parameter; so FSDP
        gathers and shards them as it does momenta.
        """
        params, counts = parameters_of(self.optimizer), accumulation_counts(self)
        beside = (
            self._loaded if self._update is None else LoadedState(fingerprint(params, self._shards), counts.done, False)
        )
        stages, tensors = pack_stages(self.stages, self._update)
        numbers = dict(updates=self._updates, stages=stages, **self.nonfinite_losses.state())
        if beside is not None:
            numbers.update(count=beside.done, weights=beside.weights)
        gradients: Gradients = {}
        if not counts.is_between_updates:
            alone = self._accumulates_alone
            gradients = accumulated_gradients(type(self).__name__, params, alone, self._gathered_gradients)
        scaler = {} if self.loss_scaler is None else self.loss_scaler.state_dict()
        return pack_state(super().state_dict(), UpdateState(numbers, tensors, gradients, scaler))

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state of this wrapper, or of mmengine's OptimWrapper or AmpOptimWrapper.

        Raises:
            ValueError: If a tensor does not fit the parameter at its position.
        """
        params = parameters_of(self.optimizer)
        of_optimizer, (numbers, tensors, gradients, scaler) = unpack_state(state_dict, params)
        load_stages(type(self).__name__, self.stages, numbers.get('stages', {}), tensors, params)
        self._updates = int(numbers.get('updates', 0))
        self.nonfinite_losses.load_state(numbers)
        for position, gradient in own_gradients(gradients).items():
            params[position].grad = to_layout_of(gradient, params[position])
        is_half_done = bool(gradients) or self.nonfinite_losses.is_dropping
        self._loaded = LoadedState(numbers.get('weights'), numbers.get('count'), is_half_done)
        if self.loss_scaler is not None and scaler:
            self.loss_scaler.load_state_dict(scaler)
        super().load_state_dict(of_optimizer)
        follow_fused_groups(self.optimizer, self.optimizer.param_groups)
        self._update = None  # stages start again, with what was loaded

    def _restart_stale_stages(self, params: list) -> None:
        """Discard a loaded state that belongs to other weights; the model's weights must be loaded before."""
        loaded, self._loaded = self._loaded, None
        counts = accumulation_counts(self)
        done = counts.done if counts.total >= 0 else None
        if loaded is not None and loaded.is_stale(fingerprint(params, self._shards), done):
            if loaded.is_half_done:
                self.optimizer.zero_grad()
            self.nonfinite_losses.is_dropping = False
            restart_stages(type(self).__name__, self.stages, self.initial_state, params)

    def __repr__(self) -> str:
        stages = ''.join(f'  {name}: {stage!r}\n' for name, stage in self.stages.items()) or '  none\n'
        return f'{super().__repr__()}precision: {self.precision!r}\nstages:\n{stages}'
