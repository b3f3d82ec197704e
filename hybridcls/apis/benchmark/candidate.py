"""Run one candidate of a benchmark in its own process, so that memory is measured separately."""

import gc
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch
from mmpretrain.structures import DataSample
from PIL import Image

from hybridcls.checkpoint_reading import trust_checkpoints
from hybridcls.engine.runner.device_wait import wait_for_device

from ..artifact.shipped.runtime import Model
from ..counted_flops import counted_flops
from ..inference_settings import InferenceSettings
from ..inferencer import HybridInferencer
from ..trained_model import Source

__all__ = ['Candidate', 'GraphRunner', 'NetworkRunner', 'sentence_of', 'serve']

_NOISE = (180, 240)  # (h, w) of the image that the pipeline is shown


@dataclass(frozen=True)
class Candidate:
    """One way to run a model: a checkpoint with inference settings, or an artifact.

    Args:
        name (str): In the table.
        settings (InferenceSettings, optional): Of the model; None for an artifact.
        source: The checkpoint, or the folder of the artifact.
        threads (int): Of the CPU.
        more (dict): ``device``, ``config``, ``calibration`` of a :class:`HybridInferencer`.
        trust (bool): Whether code in the checkpoint may run. Defaults to False.
    """

    name: str
    settings: Optional[InferenceSettings]
    source: Source
    threads: int
    more: dict[str, Any] = field(default_factory=dict)
    trust: bool = False

    def open(self) -> 'Union[NetworkRunner, GraphRunner]':
        """Load the candidate into this process."""
        torch.set_num_threads(self.threads)
        if self.trust:
            trust_checkpoints()
        if self.settings is None:
            return GraphRunner(str(self.source), self.threads)
        return NetworkRunner(HybridInferencer(self.source, **self.more), self.settings)


class NetworkRunner:
    """Run a trained model with given settings."""

    def __init__(self, model: HybridInferencer, settings: InferenceSettings) -> None:
        self.model, self.settings = model, settings
        self.device = model.device
        noise = np.random.default_rng(0).integers(0, 256, (*_NOISE, 3), dtype=np.uint8)
        self._image = model.pipeline(dict(img=Image.fromarray(noise)))['inputs']
        model.network.use(settings)

    def prepare(self, batch_size: int) -> Callable[[], Any]:
        """Return a function that predicts a batch of noise."""
        network = self.model.network
        torch.compiler.reset()
        network.use(self.settings, batch_size)
        packed = [dict(inputs=self._image, data_samples=DataSample()) for _ in range(batch_size)]

        def run() -> None:
            self.model.forward(packed)
            wait_for_device(self.device)

        return run

    def answers(self, inputs: Sequence[Any]) -> dict[str, np.ndarray]:
        """Return the outputs for preprocessed images, by name."""
        samples = self.model.forward([dict(inputs=_tensors(one), data_samples=DataSample()) for one in inputs])
        names = dict(probabilities='pred_score', embedding='embedding')
        return {
            name: torch.stack([one.get(key) for one in samples]).float().cpu().numpy()
            for name, key in names.items()
            if key in samples[0]
        }

    def flops(self) -> int:
        """Count the operations for one image; a multiply-add counts as two."""
        network = self.model.network
        network.use(self.settings.uncompiled)
        found = counted_flops(lambda: self.model.forward([dict(inputs=self._image, data_samples=DataSample())]))
        network.use(self.settings)
        return found


class GraphRunner:
    """Run an exported model in the runtime of its format."""

    device = torch.device('cpu')

    def __init__(self, folder: str, threads: int) -> None:
        self._run = (opened := Model(folder, check_files=False, threads=threads)).run
        self._shape = [int(size) for size in opened.sidecar['model']['input']['shape'][1:]]

    def prepare(self, batch_size: int) -> Callable[[], Any]:
        """Return a function that predicts a batch of noise."""
        batch = np.random.default_rng(0).integers(0, 256, (batch_size, *self._shape), dtype=np.uint8)
        return lambda: self._run(batch)

    def answers(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs for RGB images, uint8 (N, h, w, C), by name."""
        found = self._run(inputs)
        return {name: found[name] for name in ('probabilities', 'embedding') if name in found}

    def flops(self) -> None:
        """Return None: operations of a graph are not counted."""
        return


def serve(candidate: Candidate, connection: Any) -> None:
    """Answer (method, arguments) requests of another process until it closes the connection."""
    asked: dict[str, Callable[..., Any]] = {}
    try:
        runner = candidate.open()
        asked = dict(answers=runner.answers, flops=runner.flops)
        state: dict[str, Callable[[], Any]] = {}
        held = _held(runner.device)

        def prepare(batch_size: int) -> float:
            state['run'] = runner.prepare(batch_size)
            return _seconds_of(state['run'])

        asked.update(
            prepare=prepare, run=lambda: _seconds_of(state['run']),
            memory=lambda: peak_of_process(state['run'], runner.device, held),
        )  # fmt: skip
        connection.send((True, None))
    except Exception as error:
        connection.send((False, sentence_of(error)))
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            name, arguments = connection.recv()
            try:
                answer = True, asked[name](*arguments)
            except Exception as error:
                answer = False, sentence_of(error)
            if not answer[0]:  # out here, where the frames of the error hold no memory any more
                _release_device_memory()
            connection.send(answer)


def _release_device_memory() -> None:
    """Give the GPU's memory that this process keeps for later to the other candidates, which share the GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def peak_of_process(
    run: Callable[[], Any], device: torch.device, held: Optional[int] = None
) -> dict[str, Optional[int]]:
    """Return the peak memory of this process (on a GPU: of its tensors) in a call, in bytes, and that above ``held``.

    On Linux and on GPUs alone; elsewhere the numbers are None. Without ``held`` it is what there was before the call:
    of a process that has computed before, that has the memory which its allocator keeps.

    Numbers of a GPU are exact, those of Linux to about 1 MiB for each processor that took part: it counts the pages of
    each apart, and adds up late. If the system took pages away during the call (where memory is short, it drops those
    that it can read again from a file), a peak would be too low by them: the call is repeated, twice at most, and the
    highest is returned.
    """
    gc.collect()
    if device.type == 'cuda':
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        peak = torch.cuda.max_memory_allocated(device)
        return dict(peak=peak, beyond=peak - (before if held is None else held))
    peak = beyond = 0
    for _ in range(3):
        earlier = _status(forget_peak=True)
        if earlier is None:
            return dict(peak=None, beyond=None)
        run()
        now = _status() or earlier
        peak = max(peak, now['VmHWM'])
        beyond = max(beyond, now['VmHWM'] - (earlier['VmRSS'] if held is None else held))
        if now.get('RssFile', 0) >= earlier.get('RssFile', 0) and now.get('VmSwap', 0) <= earlier.get('VmSwap', 0):
            break
    return dict(peak=peak, beyond=beyond)


def _held(device: torch.device) -> Optional[int]:
    """Return the memory in use; None where it is not known."""
    if device.type == 'cuda':
        return torch.cuda.memory_allocated(device)
    found = _status()
    return None if found is None else found['VmRSS']


def _status(forget_peak: bool = False) -> Optional[dict[str, int]]:
    """Return what Linux says of the memory of this process, in bytes, its peak from now on if told; or None."""
    try:
        if forget_peak:
            Path('/proc/self/clear_refs').write_text('5', encoding='ascii')
        text = Path('/proc/self/status').read_text(encoding='ascii', errors='replace')
    except OSError:
        return None
    found = {name: 1024 * int(number) for name, number in re.findall(r'^(\w+):\s+(\d+) kB', text, re.MULTILINE)}
    return found if {'VmRSS', 'VmHWM'} <= found.keys() else None


def _seconds_of(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def sentence_of(error: Exception) -> str:
    """Return the message of an error, with its class unless it was written for users."""
    text = str(error).strip().splitlines()
    return (
        f'{type(error).__name__}: {text[0]}'
        if text and not isinstance(error, (ValueError, ImportError))
        else (' '.join(text) or type(error).__name__)
    )


def _tensors(image: Any) -> Any:
    """Return the tensors of one image, or of its views, as a pipeline packs them."""
    return torch.from_numpy(image) if isinstance(image, np.ndarray) else [torch.from_numpy(view) for view in image]
