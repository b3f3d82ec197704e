"""How the tools speak: one sentence where the user can mend it, a traceback where we have to.

Nothing heavy is imported here, so that ``--help`` and a mistyped path are answered at once.
"""

import gc
import inspect
import linecache
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any, Optional

from .checks import did_you_mean
from .old_modules import answer_old_names
from .signatures import arguments_of

__all__ = ['run_tool', 'explain_error']

_PACKAGE = Path(__file__).resolve().parent
TRACEBACK_VARIABLE = 'HYBRIDCLS_TRACEBACK'

# Warnings of dependencies that a user can do nothing about: how the text begins, and the module.
_OF_NO_USE = (
    ('', r'mmcv\.'),  # compiled operations that are not installed, which nothing here uses
    ('', r'mmengine\.utils\.dl_utils\.setup_env'),  # threads of a process, which it sets itself
    ('This DataLoader will create', ''),  # the console says it beside the number of workers
    ('Grad strides do not match bucket view strides', ''),  # the layout that cuDNN and MKL-DNN choose
)


def run_tool(main: Callable[[], Any]) -> None:
    """Run ``main`` and end the process: 0 when done, 2 for a mistake of the user, 130 when interrupted.

    75 is a training that was asked to end by a signal, and has saved (PreemptionHook): start it again.

    An exception that :func:`explain_error` can explain is printed as that sentence, without traceback (the environment
    variable ``HYBRIDCLS_TRACEBACK=1`` shows it). Every other one passes through, with its traceback and status 1.
    Of several processes only the first prints at once: the others, which nearly always say the same, wait for the
    launcher to end them.
    """
    # A plugin in the working folder is imported by name, as with `python -m`; last, so that it hides nothing.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for message, module in _OF_NO_USE:
        warnings.filterwarnings('ignore', message, UserWarning, module)
    status: Any = 0
    try:
        main()
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:
        print('\nInterrupted. The same command with --resume goes on from the last checkpoint.', file=sys.stderr)
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
    """End the process group, if there is one: gloo's threads abort a process that ends with them, now and then.

    They also abort one whose DDP model outlives the group: a Runner is a circle of references, collected first.
    """
    distributed = sys.modules.get('torch.distributed')
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        gc.collect()
        distributed.destroy_process_group()


def explain_error(error: BaseException) -> Optional[str]:
    """Return the sentence to print for a mistake that the user can mend, or None for a fault of the program.

    Mendable is what hybridcls raised itself, by a ``raise`` of its own (such errors are sentences), what the
    constructor of a part of the config raised (a package that is missing, a value that it does not take), a file that
    is missing or may not be touched, and a config key that a class does not take.
    """
    frame = _innermost(error.__traceback__)
    if frame is None:
        return None
    if _raised_by_us(frame):
        return str(error)
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)):
        return str(error) or None
    code, built = frame.tb_frame.f_code, _being_built(error)[0]
    if isinstance(error, KeyError) and _builds(code) and 'type' not in frame.tb_frame.f_locals.get('cfg', ['type']):
        return _no_type(error)
    sentence = (_wrong_key(error) or _wrong_key_somewhere(error)) if isinstance(error, TypeError) else None
    if sentence is not None:
        return sentence
    if built is not None and code.co_name == '__init__' and _raises(code.co_filename, frame.tb_lineno):
        return f'{built.__name__}: {error}'
    in_runner = Path(code.co_filename).parts[-3:-1] == ('mmengine', 'runner')
    if in_runner and code.co_name.startswith('build_') and _raises(code.co_filename, frame.tb_lineno):
        return f'mmengine ({code.co_name}): {error}'
    if code.co_name == 'call_hook' and error.__context__ is not None:  # a TypeError of a hook, raised again
        return explain_error(error.__context__)
    return None


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


def _wrong_key(error: TypeError) -> Optional[str]:
    """Explain a key that a class, or one of its parents, does not take, where the class was built from a config."""
    cls, arguments = _being_built(error)
    known, are_all = arguments_of(cls) if cls is not None else ([], False)
    key = next((key for key in arguments if key not in known), None) if are_all else None
    if cls is None or key is None:
        return None
    return f'{cls.__name__} takes no key {key!r}.{did_you_mean(key, known)} Its keys: {", ".join(known) or "none"}.'


def _builds(code: CodeType) -> bool:
    return code.co_filename.endswith('build_functions.py')


def _being_built(error: BaseException) -> tuple[Optional[type], dict]:
    """Return the class whose constructor, called by a registry, raised the error, and the arguments it got."""
    trace, building = error.__traceback__, None
    while trace is not None:
        code, local = trace.tb_frame.f_code, trace.tb_frame.f_locals
        if _builds(code) and 'obj_cls' in local:
            building = local
        elif code.co_name != '__init__':
            building = None  # something else went wrong after the constructor was called
        trace = trace.tb_next
    if building is None or not inspect.isclass(building['obj_cls']):
        return None, {}
    return building['obj_cls'], building.get('args', {})


def _wrong_key_somewhere(error: TypeError) -> Optional[str]:
    """Explain a key that is in the config, where what takes its keys was not built by a registry (a dataloader)."""
    taker, _, rest = str(error).partition('() got an unexpected keyword argument ')
    key = rest.split("'")[1] if rest.count("'") > 1 else ''
    config = _config_of(error)
    places = [path for path, _ in _nodes(config) if path.rsplit('.', 1)[-1] == key]
    if not key or not places:
        return None
    name = taker.removesuffix('.__init__').rsplit('.', 1)[-1]
    known = _arguments_of(taker, _innermost(error.__traceback__))
    keys = f' Its keys: {", ".join(known)}.' if known else ''
    return f'{" or ".join(places)}: {name} takes no key {key!r}.{did_you_mean(key, known)}{keys}'


def _no_type(error: KeyError) -> Optional[str]:
    """Explain a dict of the config that should say what it is, and does not: often its name is mistyped."""
    frame = _innermost(error.__traceback__)
    built = frame.tb_frame.f_locals.get('cfg') if frame is not None else None
    nodes = dict(_nodes(_config_of(error)))
    path = next((path for path, node in nodes.items() if isinstance(node, dict) and node == built), None)
    if path is None or built is None:
        return None
    above, _, own = path.rpartition('.')
    siblings = (
        [key for key, node in (nodes.get(above) or {}).items() if key != own and 'type' in (node or ())]
        if isinstance(nodes.get(above), dict)
        else []
    )
    return f"{path} = {dict(built)} has no 'type', so nothing can be built from it.{did_you_mean(own, siblings)}"


def _config_of(error: BaseException) -> Any:
    """The config that was worked on when ``error`` was raised, the innermost if there are several."""
    found, trace = None, error.__traceback__
    while trace is not None:
        local = trace.tb_frame.f_locals.get('cfg')
        if type(local).__name__ == 'Config':
            found = local
        trace = trace.tb_next
    return found


def _nodes(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Yield the dotted path of every value in a config, and the value."""
    entries = node.items() if hasattr(node, 'items') else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in entries:
        here = f'{path}.{key}' if path else str(key)
        yield here, value
        yield from _nodes(value, here)


def _arguments_of(taker: str, frame: Optional[TracebackType]) -> list[str]:
    """The arguments of ``Class.__init__``, ``Class.method`` or a function, as a frame that calls it sees them."""
    if frame is None:
        return []
    first, *others = taker.rsplit('<locals>.', 1)[-1].split('.')
    code = frame.tb_frame
    mine = code.f_locals.get('self', code.f_locals.get('cls'))
    ancestors = {cls.__name__: cls for cls in inspect.getmro(mine if inspect.isclass(mine) else type(mine))}
    found = ancestors.get(first) or code.f_globals.get(first)
    for name in others:
        found = getattr(found, name, None)
    if not callable(found):
        return []
    return [name for name in arguments_of(found)[0] if name != 'self']


answer_old_names(globals())
