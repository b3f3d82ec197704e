"""Read private state of mmengine's Runner: built loops, the starting checkpoint, the unwrapped model."""

from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from mmengine.runner import Runner
    from mmengine.runner.base_loop import BaseLoop

__all__ = ['bare_model', 'built_loop', 'loaded_from', 'resume_from', 'resumes', 'rewrap']


def built_loop(runner: 'Runner', kind: str) -> Optional['BaseLoop']:
    """Return the loop ``'train'``, ``'val'`` or ``'test'`` if it is built; ``runner.train_loop`` would build it."""
    from mmengine.runner.base_loop import BaseLoop

    loop = getattr(runner, f'_{kind}_loop')
    return loop if isinstance(loop, BaseLoop) else None


def bare_model(model: Any) -> Any:
    """Return the model without the wrappers for several processes and for test-time augmentation."""
    from mmengine.model import BaseTTAModel, is_model_wrapper

    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def resumes(runner: 'Runner') -> bool:
    """Return whether the run resumes a checkpoint with its state."""
    return bool(runner._resume)


def loaded_from(runner: 'Runner') -> Optional[str]:
    """Return the checkpoint that the run resumes or starts from; None if there is none, or the choice is open."""
    return runner._load_from


def resume_from(runner: 'Runner', path: Optional[str]) -> None:
    """Set the checkpoint from which a run that has not begun resumes; None for no resuming."""
    runner._load_from, runner._resume = path, path is not None


def rewrap(runner: 'Runner', caller: str) -> None:
    """Build the model's ``DistributedDataParallel`` again after ``requires_grad`` of parameters has changed.

    It waits for the gradients of those that needed one when it was built. Without a wrapper nothing is done.

    Raises:
        ValueError: If the model is wrapped in another way.
    """
    import gc

    from mmengine.model import is_model_wrapper
    from torch.nn.parallel import DistributedDataParallel

    wrapper = runner.model
    if not is_model_wrapper(wrapper):
        return
    if not isinstance(wrapper, DistributedDataParallel):
        raise ValueError(
            f'{caller}: expected a model that DistributedDataParallel spreads over processes, got '
            f'{type(wrapper).__name__}, of which no part can be frozen for a time. Set frozen_epochs=0.'
        )
    model = wrapper.module
    del wrapper, runner.model
    gc.collect()  # its buckets are as large as the weights
    runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), model)
    runner._maybe_compile('train_step')
