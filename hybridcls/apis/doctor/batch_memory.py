"""Measure the memory of a batch: on a GPU the largest that fits, on a CPU an estimate from two small batches."""

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from hybridcls.checks import counted
from hybridcls.compat.mmengine import bare_model
from hybridcls.compat.mmengine.accumulation import accumulation_counts, set_accumulation_counts
from hybridcls.engine.optim.update.parameter_names import wrappers_by_name
from hybridcls.replay.random_state import isolated_randomness

from ..memory import peak_memory
from .checkpointing_cost import checkpointing_cost
from .environment import available_memory
from .finding import NOTE, PROBLEM, WARNING, Finding
from .subject import Subject
from .train_step import TrainStep, pick, size_of

__all__ = ['check_memory']

_GIB = 2**30
_NEARLY = 0.8
_FEWEST, _LARGEST = 2, 32  # images of a step that is measured
_SECONDS_OF_PART, _SHARE = 2.0, 0.3  # that such a step takes, and of the free memory
_MOST, _SECONDS = 8192, 90.0
_FAR = 2**30  # updates until the training ends, while it is measured
_WANT_OF_MEMORY = ('ALLOC_FAILED', 'out of memory', 'CUBLAS_STATUS', 'CUDNN_STATUS', 'unable to find an engine')
_WHERE = 'train_dataloader.batch_size'


def check_memory(subject: Subject, runner: Any, data: dict, batch_size: int) -> Iterator[Finding]:
    """Report whether the batch of the config fits, and the largest that does; the training state is restored.

    Args:
        subject (Subject): Its ``facts`` get the numbers.
        runner (Runner): Ready to train.
        data (dict): A batch of it.
        batch_size (int): That of the config, of one process.
    """
    step = TrainStep(runner)
    device = next(bare_model(runner.model).parameters()).device
    look = dict(cpu=_estimated, cuda=_by_trial).get(device.type, _timed)
    with _as_before(runner):
        found = list(look(subject, step, data, batch_size))
    yield from found


def _estimated(subject: Subject, step: TrainStep, data: dict, batch_size: int) -> Iterator[Finding]:
    step = _UpdateStep(step.runner)
    step(_part(data, _FEWEST))  # the optimizer makes its state
    peak = _peak(step, _part(data, _FEWEST))
    began = time.perf_counter()
    step(_part(data, _FEWEST))
    affordable = min(_SECONDS_OF_PART / (time.perf_counter() - began), _SHARE * available_memory() / max(1, peak))
    large = int(max(2 * _FEWEST, min(batch_size, _LARGEST, _FEWEST * affordable)))
    sizes, peaks, seconds = (large // 2, large), [], []
    for count in sizes:
        peaks.append(_peak(step, _part(data, count)))
        step(_part(data, count))
        seconds.append(step.seconds)
    each = max(0.0, (peaks[1] - peaks[0]) / (sizes[1] - sizes[0]))
    lasting = _lasting(step.runner)
    needed = lasting + peaks[0] + each * (batch_size - sizes[0])
    free = available_memory() + lasting  # which are in use already
    fits = int((free - lasting - peaks[0]) / each) + sizes[0] if each else 0
    subject.facts['memory'] = dict(
        device='cpu', batch_size=batch_size, bytes=int(needed), bytes_an_image=int(each), bytes_lasting=lasting,
        free=free, largest=fits, measured_with=list(sizes),
    )  # fmt: skip
    subject.facts['step_seconds_an_image'] = seconds[1] / sizes[1]
    part = _part(data, large)
    cost = checkpointing_cost(step.runner.model, lambda: step(part), lambda: _peak(step, part))
    text = (
        f'a batch of {batch_size} takes about {needed / _GIB:.2f} GiB ({lasting / _GIB:.2f} GiB of weights, gradients '
        f'and optimizer, {each / 2**20:.1f} MiB an image; from steps of {sizes[0]} and {sizes[1]})'
    )
    if cost is not None:
        subject.facts['memory']['checkpointing'] = cost._asdict()
        text += f'; {cost}'
    if free > lasting and needed > _NEARLY * free:
        level = PROBLEM if needed > free else WARNING
        yield Finding(
            level, _WHERE, f'{text}, and {free / _GIB:.2f} GiB are free.', f'batch_size={max(1, int(fits * _NEARLY))}'
        )
    else:
        yield Finding(NOTE, _WHERE, f'{text}.')


def _timed(subject: Subject, step: TrainStep, data: dict, batch_size: int) -> Iterator[Finding]:
    part = _part(data, batch_size)
    step(part)
    step(part)
    subject.facts['step_seconds_an_image'] = step.seconds / batch_size
    kind = next(step.runner.model.parameters()).device.type
    yield Finding(NOTE, _WHERE, f'a batch of {batch_size} fits; how much memory it takes is not measured on {kind}.')


@contextmanager
def _silent() -> Iterator[None]:
    """Silence the output to stderr of torch's native profiler."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _peak(step: TrainStep, data: dict) -> int:
    with _silent():
        return peak_memory(lambda: step(data), 'cpu')


def _part(data: dict, count: int) -> dict:
    return pick(data, [number % size_of(data) for number in range(count)])


def _lasting(runner: Any) -> int:
    """Return the bytes of weights, buffers, gradients (as large as the trained weights) and optimizer state."""
    model = bare_model(runner.model)
    tensors = [*model.parameters(), *model.buffers(), *(one for one in model.parameters() if one.requires_grad)]
    for state in getattr(getattr(runner.optim_wrapper, 'optimizer', None), 'state', {}).values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    return sum(one.numel() * one.element_size() for one in tensors)


def _by_trial(subject: Subject, step: TrainStep, data: dict, batch_size: int) -> Iterator[Finding]:
    device = next(bare_model(step.runner.model).parameters()).device
    began = time.monotonic()
    few = min(_FEWEST, batch_size)
    _count_from(step.runner, is_last=True)
    has_room = _fits(step, _part(data, few), False)  # the optimizer makes its state, which all steps need room for
    works = few if has_room and few < batch_size else 0
    fails, count = (0, batch_size) if has_room else (few, few // 2)
    while count > works and count <= _MOST and time.monotonic() - began < _SECONDS:
        torch.cuda.reset_peak_memory_stats(device)
        if _fits(step, _part(data, count), works > 0, works >= batch_size, _passes(step.runner, count == batch_size)):
            works = count
            if count == batch_size:
                subject.facts['step_seconds_an_image'] = step.seconds / count
                subject.facts['memory'] = dict(
                    device='cuda', batch_size=batch_size, bytes=torch.cuda.max_memory_allocated(device)
                )
        else:
            fails = count
        count = (works + fails) // 2 if fails else 2 * count
    facts = subject.facts.setdefault('memory', dict(device='cuda', batch_size=batch_size))
    facts['largest'] = works
    at_least = '' if fails == works + 1 else ' at least'
    total = torch.cuda.get_device_properties(device).total_memory / _GIB
    if works < batch_size:
        what = (
            f'a batch of {batch_size} does not fit the {total:.0f} GiB of the GPU;{at_least} '
            f'{counted(works, "image")} {"does" if works == 1 else "do"}.'
        )
        change = f'batch_size={works}' if works else 'model.backbone.with_cp=True, --amp, or a smaller model'
        yield Finding(PROBLEM, _WHERE, what, f'{change} (with optim_wrapper.accumulative_counts for the same update)')
    else:
        peak = facts.get('bytes', 0) / _GIB
        part = _part(data, batch_size)
        cost = checkpointing_cost(
            step.runner.model, lambda: step(part), lambda: peak_memory(lambda: step(part), device)
        )
        what = (
            f'a batch of {batch_size} takes {peak:.2f} GiB of the GPU; by trial '
            f'{counted(works, "image")}{at_least} {"fits" if works == 1 else "fit"}'
        )
        yield Finding(NOTE, _WHERE, f'{what}.' if cost is None else f'{what}; {cost}.')


def _fits(step: TrainStep, data: dict, smaller_worked: bool, whole_worked: bool = False, times: int = 1) -> bool:
    """Train steps, and return whether memory sufficed; their memory is released.

    Args:
        step (TrainStep): Its ``seconds`` are those of the last one.
        data (dict): A batch.
        smaller_worked (bool): Fewer images did, and errors of cuBLAS and cuDNN, which have no class, mean want of it.
        whole_worked (bool): The batch of the config did, so that every RuntimeError comes from the size.
        times (int): Steps one after the other. Defaults to 1.
    """
    try:
        for _ in range(times):
            step(data)
        fits = True
    except torch.OutOfMemoryError:  # its frames hold all activations, so that memory is given back outside
        fits = False
    except RuntimeError as error:
        is_named = any(word in str(error) for word in _WANT_OF_MEMORY)
        if not whole_worked and not (smaller_worked and is_named):
            raise
        fits = False
    if not fits:
        _forget_unscaled_gradients(step.runner)
    step.runner.optim_wrapper.zero_grad()
    gc.collect()
    torch.cuda.empty_cache()
    return fits


def _forget_unscaled_gradients(runner: Any) -> None:
    """Let loss scalers begin a step again: one that failed after its gradients were unscaled would bar all others."""
    device = next(bare_model(runner.model).parameters()).device
    for wrapper in wrappers_by_name(runner.optim_wrapper).values():
        scaler = getattr(wrapper, 'loss_scaler', None)
        if scaler is not None and scaler.is_enabled():
            scaler.scale(torch.zeros((), device=device))  # which makes the scale, if the first step failed
            scaler.update(scaler.get_scale())


def _passes(runner: Any, is_timed: bool) -> int:
    """Return how many steps a trial needs, and begin an update with the first of them.

    Of micro-batches that are accumulated, the second one meets the gradients of the first in memory. A step is timed
    when one before it has allocated its memory.
    """
    accumulates = _count_from(runner, is_last=False)
    return 2 if accumulates or is_timed else 1


def _count_from(runner: Any, is_last: bool) -> bool:
    """Let the next micro-batch be the last of its update, or the first; return whether an update has several."""
    several = False
    for wrapper in wrappers_by_name(runner.optim_wrapper).values():
        per_update = accumulation_counts(wrapper).per_update
        set_accumulation_counts(wrapper, per_update - 1 if is_last else 0, _FAR * per_update)
        several = several or per_update > 1
    return several


class _UpdateStep(TrainStep):
    """Train a step that ends an update, whatever is accumulated: its gradients come and go with it."""

    def __call__(self, data: dict) -> float:
        _count_from(self.runner, is_last=True)
        return super().__call__(data)


@contextmanager
def _as_before(runner: Any) -> Iterator[None]:
    """Restore weights, buffers, optimizer state and random state after the block.

    The copies lie on the CPU: on a GPU they would take from the memory that is measured.
    """
    model, wrapper = bare_model(runner.model), runner.optim_wrapper
    tensors = _on_cpu({**dict(model.named_parameters()), **dict(model.named_buffers())})
    state = _on_cpu(wrapper.state_dict())
    wrappers = wrappers_by_name(wrapper).values()
    counts = [accumulation_counts(one) for one in wrappers]
    try:
        with isolated_randomness():
            yield
    finally:
        wrapper.zero_grad()
        with torch.no_grad():
            for name, one in (*model.named_parameters(), *model.named_buffers()):
                one.copy_(tensors[name])
        wrapper.load_state_dict(state)
        for one, (done, _, total) in zip(wrappers, counts, strict=True):
            set_accumulation_counts(one, done, total)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().to('cpu', copy=True)
    if isinstance(value, dict):
        return {key: _on_cpu(one) for key, one in value.items()}
    return [_on_cpu(one) for one in value] if isinstance(value, list) else value
