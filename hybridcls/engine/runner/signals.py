"""Handle signals that ask a training to end, in its process and in its data loading workers."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Optional

__all__ = ['EXIT_REQUEUE', 'Preempted', 'SignalFlag', 'shield_workers']

EXIT_REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: a temporary failure, try again later
_ONE_AND_THE_SAME = 5.0  # seconds: Slurm signals torchrun and its processes, and torchrun passes the signal on


class Preempted(SystemExit):
    """The training was asked to end, and has saved; ``code`` is the exit status of the process."""


class SignalFlag:
    """Record a signal instead of ending; a second one, 5 seconds or more later, ends at once.

    Args:
        names (Sequence[str]): ``'SIGTERM'`` and the like.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.numbers = [signal.Signals[name] for name in names]
        self.received: Optional[signal.Signals] = None
        self._since = 0.0
        self._previous: dict[int, Any] = {}
        self._process = 0

    def install(self) -> bool:
        """Install the handlers; return whether that is possible (Python allows it in the main thread only)."""
        if threading.current_thread() is not threading.main_thread():
            return False
        self._process = os.getpid()
        self._previous = {number: signal.signal(number, self._receive) for number in self.numbers}
        return True

    def restore(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous = {}

    def _receive(self, number: int, frame: Optional[FrameType]) -> None:
        if os.getpid() != self._process or (
            self.received is not None and time.monotonic() - self._since > _ONE_AND_THE_SAME
        ):  # a forked process has inherited this, and trains nothing
            by_hand = number == signal.SIGINT  # which is a KeyboardInterrupt then
            signal.signal(number, signal.default_int_handler if by_hand else signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self.received is None:
            self.received, self._since = signal.Signals(number), time.monotonic()
            if number == signal.SIGINT:
                os.write(2, b'\nCtrl-C: this update is finished, then saved. Again, after 5 seconds: stop at once.\n')


class _ShieldedWorker:
    """A ``worker_init_fn`` for a dataloader whose workers end only at their parent's request.

    A signal to all processes of a job (Slurm, a terminal) would end the workers at once, and the training with
    "DataLoader worker is killed" before it can save.
    """

    def __init__(self, init: Optional[Callable[[int], None]], numbers: Sequence[int]) -> None:
        self.init = init
        self.numbers = list(numbers)

    def __call__(self, worker_id: int) -> None:
        for number in self.numbers:
            if number != signal.SIGTERM:
                signal.signal(number, signal.SIG_IGN)
        if signal.SIGTERM in self.numbers:  # the parent ends workers by it: who sent it matters
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_end_by_parent, args=(os.getppid(),), daemon=True).start()
        if self.init is not None:
            self.init(worker_id)


def _end_by_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def shield_workers(loader: Any, numbers: Sequence[int]) -> None:
    """Make a dataloader's workers ignore these signals; their parent may still end them."""
    if getattr(loader, 'num_workers', 0) > 0 and not isinstance(loader.worker_init_fn, _ShieldedWorker):
        loader.worker_init_fn = _ShieldedWorker(loader.worker_init_fn, numbers)
