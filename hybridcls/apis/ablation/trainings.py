"""Run the trainings of an ablation side by side, each in its own process and work dir."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from hybridcls.checks import counted
from hybridcls.compat.mmengine.default_device import set_device
from hybridcls.engine.checkpoints.files import atomic_write

from .arms import options_of_arm

__all__ = ['FAILURES_OF_AN_ARM', 'Training', 'TrainingError', 'run_trainings']

RESULT = 'ablation_result.json'
FINGERPRINT = 'ablation_fingerprint'  # there from the beginning of a training
_PRELOADED = ['hybridcls.engine', 'hybridcls.models', 'hybridcls.datasets', 'hybridcls.evaluation']
FAILURES_OF_AN_ARM = 2  # then its other seeds are left out; those that are running may still fail
_POLL = 0.05  # seconds


class TrainingError(RuntimeError):
    """A training of an ablation ended with an error other than a non-finite loss."""


@dataclass
class Training:
    """One training of an ablation, and its results.

    Args:
        arm (str): The arm.
        seed (int): Its seed.
        config (str): The config file.
        options (dict): Dotted keys to values.
        fingerprint (str): Of all that decides what comes out.
        metrics (dict[str, float]): Of the last validation.
        costs (list[dict]): What :class:`~hybridcls.engine.hooks.StepCostHook` measured, one a phase.
        failed (str): Why the arm failed with this seed; empty if it did not.
        skipped (bool): Whether it was left out, since the arm had failed before.
        seconds (float): Of the clock on the wall.
    """

    arm: str
    seed: int
    config: str
    options: dict[str, Any]
    fingerprint: str = ''
    metrics: dict[str, float] = field(default_factory=dict)
    costs: list[dict[str, Any]] = field(default_factory=list)
    failed: str = ''
    skipped: bool = False
    seconds: float = 0.0

    @property
    def folder_name(self) -> str:
        """The work dir of this training, relative to that of the ablation."""
        return os.path.join(self.arm, f'seed{self.seed}')


def run_trainings(
    trainings: Sequence[Training],
    folder: Path,
    contents: Mapping[str, str],
    jobs: int,
    threads: int,
    chance: Callable[[Mapping[str, float]], Optional[str]],
    tell: Callable[[str], None],
    shown: Collection[str] = (),
    device: str = 'auto',
) -> list[Training]:
    """Run all trainings that are not finished, ``jobs`` at a time, and return them with their results.

    The processes are forked from one that has imported everything, so that imports are paid once. An interrupted
    training goes on from its last checkpoint. When one is done, its checkpoints are removed.

    Args:
        trainings (Sequence[Training]): In the order in which they begin.
        folder (Path): Each has a work dir in it.
        contents (Mapping): All that each arm trains with, by its name, for the fingerprints.
        jobs (int), threads (int): Processes at a time, and threads of each.
        chance (Callable): From metrics to a sentence if they are not better than chance, else None.
        tell (Callable): Takes a line of progress.
        shown (Collection[str]): The metrics of such a line. Defaults to (): none.
        device (str): ``'cpu'``, ``'cuda'`` or ``'mps'``. Defaults to ``'auto'``: a GPU if there is one.

    Raises:
        TrainingError: If a training ends in an error that is no failure of its arm; the others end first.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(_PRELOADED)
    waiting = [_with_fingerprint(one, contents[one.arm]) for one in trainings]
    done: dict[tuple[str, int], Training] = {}
    for one in waiting:
        known = _known(one, folder)
        if known is not None:
            # A command that was killed may have left a result that it had not compared with chance.
            known.failed = known.failed or chance(known.metrics) or ''
            done[one.arm, one.seed] = known
    if done:
        were = 'was' if len(done) == 1 else 'were'
        tell(f'{counted(len(done), "training", of=len(waiting))} {were} done before.')
    order = [(one.arm, one.seed) for one in waiting]
    waiting = [one for one in waiting if (one.arm, one.seed) not in done]
    running: dict[Any, tuple[Training, float]] = {}
    error = ''
    try:
        while waiting or running:
            while waiting and len(running) < jobs and not error:
                one = waiting.pop(0)
                if _failures(done, one.arm) >= FAILURES_OF_AN_ARM:
                    one.skipped = True
                    done[one.arm, one.seed] = one
                    continue
                process = context.Process(target=_train, args=(asdict(one), str(folder), threads, device))
                process.start()
                running[process] = one, time.monotonic()
            for process in [process for process in running if not process.is_alive()]:
                one, began = running.pop(process)
                process.join()
                found = _known(one, folder)
                if found is None:
                    error = error or _why(one, folder, process.exitcode)
                    continue
                found.failed = found.failed or chance(found.metrics) or ''
                found.seconds = time.monotonic() - began
                _note(found, folder)
                done[one.arm, one.seed] = found
                said = found.failed or ', '.join(
                    f'{name} {value:.4g}' for name, value in found.metrics.items() if name in shown
                )
                tell(f'{len(done)} of {len(order)}: {one.arm}, seed {one.seed}: {said} ({found.seconds:.0f} s)')
            if error and not running:
                raise TrainingError(error)
            time.sleep(_POLL)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.join()
    return [done[key] for key in order]


def _failures(done: Mapping[tuple[str, int], Training], arm: str) -> int:
    return sum(bool(one.failed) for (name, _), one in done.items() if name == arm)


def _with_fingerprint(one: Training, text: str) -> Training:
    facts = json.dumps([text, one.options, one.seed], sort_keys=True, default=repr)
    one.fingerprint = hashlib.sha256(facts.encode()).hexdigest()
    return one


def _known(one: Training, folder: Path) -> Optional[Training]:
    with suppress(OSError, ValueError, TypeError):
        known = Training(**json.loads((folder / one.folder_name / RESULT).read_text()))
        if known.fingerprint == one.fingerprint:
            return known
    return None


def _note(one: Training, folder: Path) -> None:
    atomic_write(json.dumps(asdict(one), indent=1).encode(), folder / one.folder_name / RESULT)


def _why(one: Training, folder: Path, code: Optional[int]) -> str:
    if code is not None and code < 0:  # the last line of its log is then no reason
        name = signal.Signals(-code).name if -code in {*signal.Signals} else f'signal {-code}'
        advice = ' That may be a lack of memory: try fewer --jobs.' if name == 'SIGKILL' else ''
        return (
            f'ablate: the training of the arm {one.arm} with seed {one.seed} was killed ({name}).{advice} The same '
            'command goes on from here.'
        )
    log = folder / one.folder_name / 'training.log'
    lines = [line for line in log.read_text(errors='replace').splitlines() if line.strip()] if log.exists() else []
    last = lines[-1] if lines else f'exit code {code}'
    return f'ablate: the training of the arm {one.arm} with seed {one.seed} failed: {last} The whole log: {log}'


def _train(content: dict[str, Any], folder: str, threads: int, device: str) -> None:
    """Train in this process, which then exits."""
    import torch

    _end_with_parent()
    one = Training(**content)
    work_dir = Path(folder) / one.folder_name
    if _is_of_others(one, work_dir):
        shutil.rmtree(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    atomic_write(one.fingerprint.encode(), work_dir / FINGERPRINT)
    log = os.open(work_dir / 'training.log', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    torch.set_num_threads(threads)
    if device != 'auto':
        set_device(device)
    from hybridcls.engine.optim import NonFiniteLossError

    try:
        one.metrics = _metrics_of(one, work_dir)
    except NonFiniteLossError as error:
        one.failed = str(error).splitlines()[0]
    for path in sorted(work_dir.rglob('step_cost.json')):
        one.costs.append(json.loads(path.read_text()))
    sys.stdout.flush()
    for checkpoint in work_dir.rglob('*.pth'):
        checkpoint.unlink()
    _note(one, Path(folder))


def _is_of_others(one: Training, work_dir: Path) -> bool:
    """Return whether the folder holds checkpoints of a training with other settings, which must not be resumed."""
    begun = work_dir / FINGERPRINT
    return (work_dir / RESULT).exists() or (begun.exists() and begun.read_text() != one.fingerprint)


def _end_with_parent() -> None:
    """End this process when its parent is killed; otherwise the next command would train beside it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait = parent.join

    def end() -> None:
        wait()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def _metrics_of(one: Training, work_dir: Path) -> dict[str, float]:
    from hybridcls.engine import (
        TrainOptions,
        build_runner,
        is_chain,
        load_config,
        prepare_training,
        run_chain,
        run_training,
    )
    from hybridcls.engine.runner.outcome import outcome_of

    options = TrainOptions(resume='auto')
    given = {**one.options, 'randomness.seed': one.seed}
    cfg = load_config(one.config, options_of_arm(one.config, given))
    if is_chain(cfg):
        metrics = run_chain(cfg, options, str(work_dir))[-1].metrics
    else:
        runner = build_runner(prepare_training(cfg, options, str(work_dir)))
        run_training(runner)
        metrics = outcome_of(runner, work_dir).metrics
    return {name.removeprefix('val/'): value for name, value in metrics.items() if name.startswith('val/')}
