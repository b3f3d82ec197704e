"""Run the main function of a command: mistakes of the user end in one sentence, bugs in a traceback.

Nothing heavy is imported here, so that ``--help`` and a mistyped path are answered at once.
"""

import errno
import gc
import linecache
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from traceback import walk_tb
from types import TracebackType
from typing import Any, Optional

from .old_modules import answer_old_names

__all__ = ['run_tool', 'explain_error']

# The disk is full, beyond a quota, read-only, or a place of it is in use.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EBUSY)

_PACKAGE = Path(__file__).resolve().parent
TRACEBACK_VARIABLE = 'HYBRIDCLS_TRACEBACK'


def run_tool(main: Callable[[], Any]) -> None:
    """Run ``main`` and exit: 0 on success, 2 for a mistake of the user, 130 when interrupted.

    75 is a training that was asked to end by a signal, and has saved (PreemptionHook): start it again.

    An exception that :func:`explain_error` can explain is printed as that sentence, without traceback (the environment
    variable ``HYBRIDCLS_TRACEBACK=1`` shows it). Every other one passes through, with its traceback and status 1.
    Of several processes only the first prints at once: the others, which nearly always say the same, wait for the
    launcher to end them.
    """
    # A plugin in the working folder is imported by name, as with `python -m`; last, so that it hides nothing.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    from .ignored_warnings import ignore_useless_warnings  # here: its import ignores them already

    ignore_useless_warnings()
    status: Any = 0
    try:
        main()
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:
        print('Interrupted.', file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        sentence = explain_error(error)
        if sentence is None or os.environ.get(TRACEBACK_VARIABLE, '0') not in ('', '0'):
            raise
        if os.environ.get('RANK', '0') != '0':
            time.sleep(3)
        print(f'\nerror: {sentence}\n({TRACEBACK_VARIABLE}=1 shows where it was raised.)', file=sys.stderr, flush=True)
        sys.exit(2)
    _leave_the_other_processes()  # here, where no exception keeps the frames of the training alive
    if status:
        sys.exit(status)


def _leave_the_other_processes() -> None:
    """Destroy the process group, if there is one: gloo's threads sometimes abort a process that exits with it.

    They also abort one whose DDP model outlives the group: a Runner is a circle of references, collected first.
    """
    distributed = sys.modules.get('torch.distributed')
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        gc.collect()
        distributed.destroy_process_group()


def explain_error(error: BaseException) -> Optional[str]:
    """Return the sentence to print for a mistake that the user can fix, or None for a bug in the program.

    The user can fix what hybridcls raised itself, by a ``raise`` of its own (such errors are sentences; that a class
    takes no such key is one of them, :func:`~hybridcls.engine.config.parts.check_parts`), what the constructor of a
    part of the config raised (a package that is missing, a value that it does not take), and a file that is missing or
    may not be touched, on a disk that may be full.
    """
    frame = _innermost(error.__traceback__)
    if frame is None:
        return None
    if _raised_by_us(frame):
        # A number that we pass on is for programs; the sentence is all that stands beside it.
        if isinstance(error, OSError) and error.strerror and not error.filename:
            return error.strerror
        return str(error)
    if isinstance(error, OSError) and _is_of_the_compiler(error, frame):
        return (
            f'torch: expected a folder that can be made for what torch.compile builds, got {error.filename} '
            f'({error.strerror}). Set TORCHINDUCTOR_CACHE_DIR to another one.'
        )
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)):
        return str(error) or None
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        return str(error)
    code, built = frame.tb_frame.f_code, _being_built(error)
    if built is not None and code.co_name == '__init__' and _raises(code.co_filename, frame.tb_lineno):
        return f'{built.__name__}: {error}'
    in_runner = str(frame.tb_frame.f_globals.get('__name__')).startswith('mmengine.runner.')
    if in_runner and code.co_name.startswith('build_') and _raises(code.co_filename, frame.tb_lineno):
        return f'mmengine ({code.co_name}): {error}'
    if code.co_name == 'call_hook' and error.__context__ is not None:  # a TypeError of a hook, raised again
        return explain_error(error.__context__)
    return None


def _is_of_the_compiler(error: OSError, frame: TracebackType) -> bool:
    """Whether torch's folder cannot be made: it makes it when torchvision is imported, whatever is asked for (2.14)."""
    folder = os.environ.get('TORCHINDUCTOR_CACHE_DIR')  # torch sets it before
    if not folder or not isinstance(error.filename, str) or frame.tb_frame.f_code.co_name != 'makedirs':
        return False
    wanted = Path(os.path.abspath(folder))
    return Path(error.filename) in (wanted, *wanted.parents)


def _innermost(trace: Optional[TracebackType]) -> Optional[TracebackType]:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace


def _raised_by_us(frame: TracebackType) -> bool:
    file = Path(frame.tb_frame.f_code.co_filename).resolve()
    tool = getattr(sys.modules['__main__'], '__file__', None)
    if _PACKAGE not in file.parents and (tool is None or file != Path(tool).resolve()):
        return False
    return _raises(str(file), frame.tb_lineno)


def _raises(file: str, line: int) -> bool:
    return linecache.getline(file, line).strip().startswith('raise ')


def _being_built(error: BaseException) -> Optional[type]:
    """Return the class that mmengine was building from a config when its constructor raised the error."""
    registries = sys.modules.get('mmengine.registry')
    built: Optional[type] = None
    is_called = False
    for frame, _ in walk_tb(error.__traceback__):
        code = frame.f_code
        if registries is not None and code is registries.build_from_cfg.__code__:
            built, is_called = None, True
        elif code.co_name != '__init__':
            built, is_called = None, False  # something else went wrong after the constructor was called
        elif is_called:
            built, is_called = type(frame.f_locals[code.co_varnames[0]]), False
    return built


answer_old_names(globals())
