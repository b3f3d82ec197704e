"""A child process that runs one candidate."""

import multiprocessing
from typing import Any

from .candidate import Candidate, serve

__all__ = ['Child', 'ChildError']

# Forked from a process that has imported everything and computed nothing: quick, and safe for threads and CUDA.
_CONTEXT = 'forkserver' if 'forkserver' in multiprocessing.get_all_start_methods() else 'spawn'


class ChildError(RuntimeError):
    """The candidate cannot be run; the message says why."""


class Child:
    """Start the process of a candidate, which loads in the background.

    Args:
        candidate (Candidate): What it runs.
    """

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        context: Any = multiprocessing.get_context(_CONTEXT)
        if _CONTEXT == 'forkserver':
            # By its name: imported here, it would ignore warnings of whoever imports hybridcls.apis.
            context.set_forkserver_preload(['hybridcls.ignored_warnings', serve.__module__])
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(candidate, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def wait(self) -> None:
        """Wait until the candidate is loaded.

        Raises:
            ChildError: If it cannot be.
        """
        self._receive()

    def ask(self, name: str, *arguments: Any) -> Any:
        """Call a method of its runner: ``prepare``, ``run``, ``memory``, ``flops`` or ``answers``.

        Raises:
            ChildError: If that fails, or the process has ended.
        """
        try:
            self._connection.send((name, arguments))
        except OSError as error:
            raise ChildError('its process has ended') from error
        return self._receive()

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(2)
        if self._process.is_alive():
            self._process.terminate()

    def _receive(self) -> Any:
        try:
            is_good, value = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(2)
            raise ChildError(f'its process has ended (exit code {self._process.exitcode}): out of memory?') from error
        if not is_good:
            raise ChildError(value)
        return value
