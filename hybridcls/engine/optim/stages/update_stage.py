"""The base class of stages: a small class with its own state and six methods around an update."""

from typing import Any

from torch import Tensor, nn

from hybridcls.distributed.layouts import to_layout_of

from ..update.update import Update
from .renamed_moments import adopt_renamed

__all__ = ['UpdateStage']


class UpdateStage:
    """Base of all stages, whose methods do nothing.

    A stage of your own overrides the moments it needs, names what must survive a resume in ``tensor_state`` and
    ``number_state``, and is registered in ``OPTIM_STAGES``.

    - :meth:`start`: once, before the first update, when the weights are those that training starts from.
    - :meth:`before_forward`: before each forward pass (under gradient accumulation: of each micro-batch).
    - :meth:`second_pass`: after each backward pass.
    - :meth:`after_backward`: when the gradients of a micro-batch are there, or a pass failed.
    - :meth:`before_step`: once an update, on gradients that are complete, unscaled and clipped, before the step.
    - :meth:`after_step`: once an update, after a step that really happened.

    Attributes:
        kind (str): Two stages of one kind exclude each other. Defaults to the name of the class.
        has_second_pass (bool): It uses :meth:`second_pass`; one such stage at most. Defaults to whether the class
            overrides it.
        moves_weights (bool): It uses :meth:`before_forward`. Defaults to whether the class overrides it.
        tensor_state (tuple[str, ...]): Attributes that map positions to tensors shaped like the parameters there.
        number_state (tuple[str, ...]): Attributes that are plain numbers.

    Example:
        >>> class GradientNoise(UpdateStage):
        ...     def __init__(self, std):
        ...         self.std = std
        ...
        ...     def before_step(self, update):
        ...         for i in update.with_gradient():
        ...             update.params[i].grad.add_(torch.randn_like(update.params[i].grad), alpha=self.std)
        >>> GradientNoise(0.1).kind
        'GradientNoise'
    """

    kind: str = ''
    has_second_pass: bool = False
    moves_weights: bool = False
    tensor_state: tuple[str, ...] = ()
    number_state: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if 'kind' not in cls.__dict__ and not cls.kind:
            cls.kind = cls.__name__
        adopt_renamed(cls)
        if 'has_second_pass' not in cls.__dict__ and cls.second_pass is not UpdateStage.second_pass:
            cls.has_second_pass = True
        if 'moves_weights' not in cls.__dict__ and cls.before_forward is not UpdateStage.before_forward:
            cls.moves_weights = True

    def start(self, update: Update) -> None:
        """Inspect or copy the parameters. A state from a checkpoint has been loaded before."""

    def before_forward(self, update: Update) -> None:
        """Move the weights for the passes of this micro-batch alone; :meth:`after_backward` must restore them."""

    def needs_second_pass(self, update: Update) -> bool:
        """Return, before the forward pass, whether ``second_pass`` will call ``update.recompute_gradient``.

        If so, ``.grad`` holds the gradient of this micro-batch alone when ``second_pass`` comes.
        """
        return False

    def wants_sync(self) -> bool:
        """Return whether the first gradient is averaged over processes, if :meth:`needs_second_pass` is True."""
        return True

    def second_pass(self, update: Update) -> None:
        """Change the gradient, or compute another one."""

    def after_backward(self, update: Update) -> None:
        """Restore the weights. Also called after a failed forward or backward pass."""

    def before_step(self, update: Update) -> None:
        """Change the gradient of the step."""

    def after_step(self, update: Update) -> None:
        """Change the weights after the step."""

    def check_state(self, update: Update) -> None:
        """Raise if the state could not be loaded from a checkpoint again.

        Raises:
            ValueError: If a value is no tensor shaped like the parameter at its position.
        """
        if update.shards.is_fsdp1:  # the shapes of its flat pieces come and go
            return
        for name in self.tensor_state:
            for position, value in getattr(self, name).items():
                known = isinstance(position, int) and 0 <= position < len(update.params)
                want = tuple(update.params[position].shape) if known else f'one of {len(update.params)}'
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                if got != want:
                    raise ValueError(
                        f'{type(self).__name__}: expected {name}[{position!r}] to be a tensor shaped like the '
                        f'parameter at that position ({want}), got {got}. A tensor of another shape cannot be resumed '
                        'from a checkpoint; a plain number belongs in number_state.'
                    )

    def state_dict(self) -> dict[str, dict]:
        """Return ``dict(tensors={name: {position: Tensor}}, numbers={name: number})``."""
        return dict(
            tensors={name: dict(getattr(self, name)) for name in self.tensor_state},
            numbers={name: getattr(self, name) for name in self.number_state},
        )

    def load_state_dict(self, state: dict[str, dict], params: list[nn.Parameter]) -> None:
        """Load a state of :meth:`state_dict`, onto the devices and shards of ``params``.

        Raises:
            ValueError: If a tensor does not fit the parameter at its position.
        """
        for name in self.tensor_state:
            loaded = {}
            for position, value in state.get('tensors', {}).get(name, {}).items():
                try:
                    loaded[int(position)] = to_layout_of(value, params[int(position)])
                except (ValueError, IndexError) as error:
                    raise ValueError(
                        f'{type(self).__name__}: expected {name} of parameter {position} in the checkpoint to fit '
                        f'this model ({error}). Resume with the model and the parameter groups of the run that was '
                        'stopped.'
                    ) from error
            setattr(self, name, loaded)
        for name in self.number_state:
            if name in state.get('numbers', {}):
                setattr(self, name, state['numbers'][name])

    def __repr__(self) -> str:
        settings = {
            key: value
            for key, value in vars(self).items()
            if not key.startswith('_') and key not in {*self.tensor_state, *self.number_state}
        }
        return f'{type(self).__name__}({", ".join(f"{key}={value!r}" for key, value in settings.items())})'


adopt_renamed(UpdateStage)
