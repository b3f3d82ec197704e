"""Decide, while images are predicted, whether compiling the model pays off for the remaining ones."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Optional

import torch
from mmpretrain.structures import DataSample

from hybridcls.compat.torch_compiler import compilation_failure, compiler_counts
from hybridcls.engine.runner.device_wait import wait_for_device
from hybridcls.models.backbones.compiled_streams import compiled_parts
from hybridcls.processor import BFLOAT16_FLAGS

from .compile_times import compile_key, note_seconds, noted_seconds
from .inference_settings import InferenceSettings
from .prepared_network import PreparedNetwork, shape_of

__all__ = ['TOLERANCE', 'CompilePlan', 'estimated_compile_seconds', 'fast_settings']

TOLERANCE = 0.1
"""How much a probability of the compared batch may change; more, and the model goes back."""
_EXPECTED_SHARE = 0.4  # of the eager time, where it pays: what is measured is 0.15 to 0.35
_TIMED_BATCHES = 2
_SECONDS, _SECONDS_A_LAYER = 10.0, 0.1  # of an idle processor


def fast_settings(device: torch.device, cpu_flags: Sequence[str]) -> tuple[Optional[InferenceSettings], str]:
    """Return the settings of ``hybridcls predict --fast`` for a device; or None, and the reason.

    Args:
        device (torch.device): Where the model is.
        cpu_flags (Sequence[str]): What the CPU can do, as ``/proc/cpuinfo`` names it.
    """
    if device.type == 'cuda':
        if torch.cuda.get_device_capability(device) < (8, 0):
            return None, f'{torch.cuda.get_device_name(device)} has no bfloat16'
        return InferenceSettings('bfloat16', True, True), ''
    if device.type != 'cpu':
        return None, f'no faster setting was measured on {device.type}'
    if not any(flag in cpu_flags for flag in BFLOAT16_FLAGS):
        return None, f'this CPU has neither {" nor ".join(BFLOAT16_FLAGS)}'
    return InferenceSettings('bfloat16', False, True), ''


def estimated_compile_seconds(model: torch.nn.Module) -> float:
    """Estimate the time of ``torch.compile`` on an idle machine from the number of layers; it varies threefold."""
    parts = compiled_parts(model).values()
    layers = sum(not any(module.children()) for part in parts for module in part.modules())
    return _SECONDS + _SECONDS_A_LAYER * layers


class CompilePlan:
    """Predict batches, and compile the model as soon as the remaining images make that worthwhile.

    The first batches run as ``before`` says, and are timed. If their time, times the images that are left, promises to
    save more than compiling is estimated to take, the model is compiled. Of a stream of images whose length is not
    known as much time is spent first as compiling takes: at most twice the time of the better choice.

    The batch that compiles is answered by both. It goes back, and says so, if compiling fails, if a probability of
    this batch moves by more than :data:`TOLERANCE`, or if the next batches are not faster.

    Args:
        network (PreparedNetwork): Runs the model.
        after (InferenceSettings): With ``compile``.
        batch_size (int): Of all batches but the last.
        left (int, optional): Images that are left; None is not known.
        tell (Callable): Takes a sentence about what was decided.
        caution (str): A sentence that is told with a change of the precision. Defaults to ``''``.

    Attributes:
        facts (dict[str, Any]): What was measured and decided, in JSON's types.
    """

    def __init__(
        self,
        network: PreparedNetwork,
        after: InferenceSettings,
        batch_size: int,
        left: Optional[int],
        tell: Callable[[str], Any],
        caution: str = '',
    ) -> None:
        self._network, self._after, self._batch_size, self._left = network, after, batch_size, left
        self._tell, self._caution = tell, caution
        self._before = network.settings
        self._estimate = self._idle_estimate = estimated_compile_seconds(network.model)
        self._key = ''
        self._spent, self._seconds_of_image = 0.0, 0.0
        self._batches = 0
        self._is_open = True
        self._times: list[float] = []
        self.facts: dict[str, Any] = dict(settings=self._before.name, compiled=False)
        if network.settings == after:  # a call before this one has compiled it
            self._is_open = False
            self.facts.update(settings=after.name, compiled=True)

    def leave_out(self, images: int) -> None:
        """Subtract unreadable images from the remaining ones."""
        if self._left is not None:
            self._left -= images

    def __call__(self, packed: Sequence[Any]) -> list[Any]:
        """Return the predictions of a batch."""
        if self._times:
            return self._compared_times(packed)
        if not self._is_open:
            return self._network.predict(packed)
        if not self._batches and self._after.compile is True:  # other backends keep nothing
            shapes = sorted({shape_of(one['inputs']) for one in packed})
            self._key = compile_key(self._network.model, self._after, self._batch_size, shapes)
            self._estimate = self._idle_estimate = noted_seconds(self._key) or self._idle_estimate
        used = time.process_time()
        answers, seconds = self._timed(packed)
        self._note_load(seconds, time.process_time() - used)
        self._spent += seconds
        self._batches += 1
        if self._left is not None:
            self._left -= len(packed)
        if self._batches > 1:  # the first one warms up
            self._seconds_of_image = seconds / len(packed)
        if self._left is not None and self._left <= 0:
            self._stay('no images are left')
        elif self._batches > _TIMED_BATCHES:
            self._decide(packed, answers)
        return answers

    def _note_load(self, seconds: float, used: float) -> None:
        """Scale the estimated compile time by the CPU load of other processes during this batch."""
        if self._network.device.type == 'cpu' and self._batches:
            share = used / (seconds * min(torch.get_num_threads(), os.cpu_count() or 1))
            self._estimate = self._idle_estimate / min(1.0, max(share, 0.1))

    def _decide(self, packed: Sequence[Any], answers: list[Any]) -> None:
        if self._left is None:
            if self._spent >= self._estimate and len(packed) == self._batch_size:
                self._compile(packed, answers)
            return
        rest = self._left * self._seconds_of_image
        if rest * (1 - _EXPECTED_SHARE) <= self._estimate:
            self._stay(f'the {self._left} images that are left take about {rest:.1f} s')
        elif len(packed) == self._batch_size:
            self._compile(packed, answers)

    def _stay(self, why: str) -> None:
        self._is_open = False
        why = f'{why}, and compiling takes about {self._estimate:.0f} s.'
        self.facts.update(estimated_compile_seconds=self._estimate, why=why)
        self._tell(f'fast: not compiled ({self._before.name}): {why}')

    def _compile(self, packed: Sequence[Any], answers: list[Any]) -> None:
        self._is_open = False
        try:
            self._network.check(self._after)
        except ImportError as error:
            return self._go_back(str(error))
        counts = compiler_counts()
        self._tell(
            f'fast: compiling, estimated at {self._estimate:.0f} s; the images that are left take about '
            f'{"?" if self._left is None else f"{self._left * self._seconds_of_image:.0f}"} s without.'
        )
        began = time.perf_counter()
        try:
            self._network.use(self._after, self._batch_size)
            compiled = self._network.predict(  # samples of their own: predictions are written onto them
                [dict(inputs=one['inputs'], data_samples=DataSample()) for one in packed]
            )
        except Exception as error:  # the same batch was answered without
            return self._go_back(f'{compilation_failure(error)}.')
        now = compiler_counts()
        seconds = time.perf_counter() - began
        if self._key:
            note_seconds(self._key, seconds * self._idle_estimate / self._estimate)
        breaks = sum(now.breaks.values()) - sum(counts.breaks.values())
        change, changed = _difference(answers, compiled)
        self.facts.update(
            settings=self._after.name, compiled=True, compile_seconds=seconds,
            estimated_compile_seconds=self._estimate, graphs=now.graphs - counts.graphs, graph_breaks=breaks,
            compared_images=len(packed), largest_change=change, changed_decisions=changed,
        )  # fmt: skip
        if not change <= TOLERANCE:
            return self._go_back(
                f'of {len(packed)} images that were answered by both a probability moves by {change:.3f}, more than '
                f'{TOLERANCE:g}.'
            )
        if self._caution:
            self._tell(self._caution)
        self._times = [self._seconds_of_image]
        return None

    def _compared_times(self, packed: Sequence[Any]) -> list[Any]:
        answers, seconds = self._timed(packed)
        self._times.append(seconds / self._batch_size)  # a smaller batch was filled up
        if len(self._times) <= _TIMED_BATCHES and len(packed) == self._batch_size:
            return answers
        eager, best = self._times[0], min(self._times[1:])
        self._times = []
        self.facts.update(eager_ms=1e3 * eager, compiled_ms=1e3 * best, share=best / eager)
        if best >= eager:
            self._go_back(f'compiled {1e3 * best:.1f} ms an image, without {1e3 * eager:.1f} ms.')
            return answers
        facts = self.facts
        self._tell(
            f'fast: {self._after.name} takes {1e3 * best:.1f} ms an image, {self._before.name} {1e3 * eager:.1f} ms '
            f'({best / eager:.2f}); compiled in {facts["compile_seconds"]:.0f} s, {facts["graph_breaks"]} graph '
            f'breaks. Of {facts["compared_images"]} images that both answered {facts["changed_decisions"]} changed '
            f'their class, and no probability by more than {facts["largest_change"]:.4f}.'
        )
        return answers

    def _go_back(self, why: str) -> None:
        self._network.use(self._before)
        self.facts.update(settings=self._before.name, compiled=False, why=why)
        self._tell(f'fast: not compiled ({self._before.name}): {why}')

    def _timed(self, packed: Sequence[Any]) -> tuple[list[Any], float]:
        began = time.perf_counter()
        answers = self._network.predict(packed)
        wait_for_device(self._network.device)
        return answers, time.perf_counter() - began


def _difference(before: list[Any], after: list[Any]) -> tuple[float, int]:
    """Return the largest change of a probability (of embeddings: 1 - cosine), and how many classes changed."""
    if 'pred_score' in before[0]:
        scores = [torch.stack([one.pred_score for one in of]).float() for of in (before, after)]
        change = float((scores[0] - scores[1]).abs().max())
        return change, int((scores[0].argmax(1) != scores[1].argmax(1)).sum())
    first, second = (torch.stack([one.embedding for one in of]).float() for of in (before, after))
    return float((1 - torch.cosine_similarity(first, second)).max()), 0
