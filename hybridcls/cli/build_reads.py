"""Record which function receives each key of a config, by tracing the calls while its parts are built."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from types import CodeType, FrameType
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from hybridcls.engine.config.origins import RUNNER_KEYS
from hybridcls.engine.config.shared_keys import classifying_head
from hybridcls.engine.config.takers import INSIDE, READ, UNKNOWN, UNREAD, Taker, Takers
from hybridcls.engine.config.tree import Path, datasets_in, dotted, is_a, leaves_in, put_at, takes, value_at, walk
from hybridcls.engine.runner.global_instances import isolated_globals

__all__ = ['build_and_record']


class _Wanted(NamedTuple):
    """One key of a part; ``is_argument``: whether it is an argument of the part, or inside a dict that is."""

    name: str
    path: Path
    value: Any
    is_argument: bool


class _Part(NamedTuple):
    """The config of one class, with its keys, except those of the parts inside it."""

    path: Path
    kind: type
    keys: list[_Wanted]


def build_and_record(cfg: Config, takers: Takers) -> list[str]:
    """Build the parts of a config, and record in ``takers`` which function received each key without a signature.

    A key is read by the first function that receives its value under its name, or whose code names it among its
    ``**kwargs``. One that an object stores stays ``'unknown'``; one of a class that was built without any function
    receiving it is ``'unread'``.

    Args:
        cfg (Config): A completed config; not changed. The model is built on the meta device, without weights.
        takers (Takers): Of this config; changed in place.

    Returns:
        list[str]: A message for each part that could not be built.
    """
    cfg = _without_weights(cfg)
    recorder = _Recorder(list(_parts(cfg, takers)))
    notes = []
    with isolated_globals(), DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'hybridcls'):
        Visualizer.get_instance('explain')  # some hooks need one
        for place, build in _builders(cfg):
            try:
                with recorder.recording():
                    build()
            except Exception as error:  # classes of any package may raise any error
                notes.append(f'{dotted(place)} was not built: {type(error).__name__}: {str(error)[:200]}')
    for part in recorder.parts:
        for key in part.keys:
            _record(takers, recorder, part, key)
    return notes


def _record(takers: Takers, recorder: '_Recorder', part: _Part, key: _Wanted) -> None:
    taker = takers.at(key.path)
    if taker is None or taker.status not in (UNKNOWN, INSIDE):
        return
    if key.path in recorder.readers:
        takers.found[key.path] = Taker(f'{recorder.readers[key.path]} (seen while building)', READ)
    elif taker.status == UNKNOWN and key.path in recorder.kept:
        takers.found[key.path] = Taker(f'{recorder.kept[key.path]} stores it for later', UNKNOWN)
    elif taker.status == UNKNOWN and part.path in recorder.built:
        takers.found[key.path] = Taker(f'{part.kind.__qualname__} was built without reading it', UNREAD)


def _parts(cfg: Config, takers: Takers) -> Iterator[_Part]:
    paths = sorted(takers.parts, key=len, reverse=True)
    keys: dict[Path, list[_Wanted]] = {path: [] for path in paths}
    for path, _ in leaves_in(cfg):
        inner = next((part for part in paths if path[: len(part)] == part), None)
        if inner is not None and path[-1] not in ('type', '_scope_'):
            while isinstance(path[-1], int):  # of a list of plain values, the list
                path = path[:-1]
            if len(path) > len(inner) and path not in {key.path for key in keys[inner]}:
                keys[inner].append(_Wanted(str(path[-1]), path, value_at(cfg, path), len(path) == len(inner) + 1))
    for path in paths:
        if inspect.isclass(takers.parts[path]):
            yield _Part(path, takers.parts[path], keys[path])


def _builders(cfg: Config) -> Iterator[tuple[Path, Callable[[], Any]]]:
    """Yield a builder for each part, without weights and as far as possible without data."""
    from hybridcls import registry

    model: list[Any] = []
    if cfg.get('model') is not None:
        yield ('model',), lambda: model.append(_model(cfg))
    for path, dataset in datasets_in(cfg):
        yield path, lambda dataset=dataset: _dataset(dataset)  # type: ignore[misc]
    for key in ('val_evaluator', 'test_evaluator'):
        for path, node in walk(cfg.get(key), (key,)):
            if isinstance(node, dict) and 'type' in node and is_a('METRICS', node, object):
                yield path, lambda node=node: registry.METRICS.build(node)  # type: ignore[misc]
    for key in ('default_hooks', 'custom_hooks'):
        hooks = cfg.get(key) or ()
        for name in hooks if isinstance(hooks, dict) else range(len(hooks)):
            if isinstance(hooks[name], dict) and 'type' in hooks[name]:
                hook = {inner: value for inner, value in hooks[name].items() if inner != 'priority'}
                yield (key, name), lambda hook=hook: registry.HOOKS.build(hook)  # type: ignore[misc]
    if cfg.get('optim_wrapper') is not None:
        yield ('optim_wrapper',), lambda: _optim_wrapper(cfg, model)


def _without_weights(cfg: Config) -> Config:
    """Return a copy whose model can be built without network, weights file or number of classes."""
    cfg = Config({key: deepcopy(value) for key, value in cfg.items() if key in RUNNER_KEYS})
    head = classifying_head(cfg)
    if head is not None and head.get('num_classes') is None:
        head['num_classes'] = 2  # counted when a training begins; here any number will do
    for _, node in walk(cfg.get('model')):
        if isinstance(node, dict) and 'model_name' in node:
            node.update(pretrained=False)
            node.pop('checkpoint_path', None)
    for path, value in list(leaves_in(cfg)):
        put_at(cfg, path, _fresh(value))
    return cfg


def _fresh(value: Any) -> Any:
    """Return an equal object with its own identity, if the type allows one."""
    if isinstance(value, str) and len(value) > 1:
        return ''.join(list(value))
    return float(repr(value)) if type(value) is float else value


def _is_fresh(value: Any) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return any(type(one) is float or (isinstance(one, str) and len(one) > 1) for one in values)


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two equal values are one object, or lists of the same objects."""
    if isinstance(one, (list, tuple)):
        return all(map(_is_same, one, other))
    return one is other


def _model(cfg: Config) -> Any:
    import torch

    from hybridcls.registry import MODELS

    model = deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with torch.device('meta'):
        return MODELS.build(model)


def _dataset(cfg: dict) -> Any:
    from hybridcls.registry import DATASETS

    if not takes('DATASETS', cfg, 'lazy_init'):
        raise ValueError(f'{cfg["type"]} has no lazy_init, and would read its data')
    return DATASETS.build({**cfg, 'lazy_init': True})


def _optim_wrapper(cfg: Config, built: list[Any]) -> Any:
    """Build the wrapper for the model, or for a model of one layer if the optimizer rejects meta tensors."""
    import torch
    from mmengine.optim import build_optim_wrapper

    try:
        return build_optim_wrapper(built[0], cfg.optim_wrapper)
    except Exception:  # a fused optimizer, for example
        return build_optim_wrapper(torch.nn.Sequential(torch.nn.Linear(2, 2)), cfg.optim_wrapper)


class _Recorder:
    """Record the calls of a build.

    Attributes:
        readers (dict[Path, str]): The first function that received a key.
        kept (dict[Path, str]): The attribute of a built object that stores it.
        built (set[Path]): The parts that were built.
    """

    def __init__(self, parts: list[_Part]) -> None:
        self.parts = parts
        self.readers: dict[Path, str] = {}
        self.kept: dict[Path, str] = {}
        self.built: set[Path] = set()
        self._of_kind: dict[type, list[_Part]] = {}
        for part in parts:
            self._of_kind.setdefault(part.kind, []).append(part)
        self._names = {key.name for part in parts for key in part.keys}
        self._interest: dict[CodeType, tuple[set[str], set[str], str]] = {}
        self._building: list[tuple[FrameType, Any, list[_Part]]] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record until the end of the block; an active profiler is restored afterwards."""
        before, built = sys.getprofile(), set(self.built)
        sys.setprofile(self._watch)
        try:
            yield
        except Exception:  # parts may be incomplete
            self.built = built
            raise
        finally:
            sys.setprofile(before)
            self._building.clear()

    def _watch(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == 'call':
            if frame.f_code.co_name == '__init__':
                self._begin(frame)
            if self._building:
                self._look(frame)
        elif event == 'return' and self._building and self._building[-1][0] is frame:
            _, built, parts = self._building.pop()
            for part in parts:
                self.built.add(part.path)
                self._look_into(built, part)

    def _begin(self, frame: FrameType) -> None:
        """Check whether this call constructs parts of the config."""
        code = frame.f_code
        if not code.co_argcount:
            return
        instance = frame.f_locals.get(code.co_varnames[0])
        parts = self._of_kind.get(type(instance))
        if not parts or any(built is instance for _, built, _ in self._building):
            return
        given = frame.f_locals
        named = [name for name in _arguments(code) if name in self._names]
        fitting = [
            part
            for part in parts
            if all(_equal(given[key.name], key.value) for key in part.keys if key.name in named and key.is_argument)
        ]
        if fitting:
            self._building.append((frame, instance, fitting))

    def _look(self, frame: FrameType) -> None:
        """Check which keys this function receives."""
        code = frame.f_code
        if code not in self._interest:
            constants = {one for one in code.co_consts if isinstance(one, str)} & self._names
            keywords = (
                code.co_varnames[len(_arguments(code)) + bool(code.co_flags & inspect.CO_VARARGS)]
                if (code.co_flags & inspect.CO_VARKEYWORDS)
                else ''
            )
            self._interest[code] = ({*_arguments(code)} & self._names, constants, keywords)
        named, constants, keywords = self._interest[code]
        if not named and not (keywords and constants):
            return
        given = frame.f_locals
        others = given[keywords] if keywords else {}
        for _, _, parts in self._building:
            for part in parts:
                for key in part.keys:
                    if key.path in self.readers:
                        continue
                    by_name = key.name in named and _equal(given[key.name], key.value) and _was_given(frame, key)
                    if by_name or (key.name in constants and _holds(others, key)):
                        self.readers[key.path] = _caller(frame)

    def _look_into(self, built: Any, part: _Part) -> None:
        """Check which keys an object stores, by name or inside a dict."""
        for attribute, value in getattr(built, '__dict__', {}).items():
            for key in part.keys:
                if (attribute == key.name and _equal(value, key.value)) or _holds(value, key):
                    self.kept[key.path] = f'{part.kind.__qualname__}.{attribute}'


def _arguments(code: CodeType) -> tuple[str, ...]:
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _was_given(frame: FrameType, key: _Wanted) -> bool:
    """Return whether the caller passed the key: an argument with its default value may be equal by chance."""
    default = _default(frame, key.name)
    if default is inspect.Parameter.empty or not _equal(default, key.value):
        return True
    if _is_fresh(key.value):
        return _is_same(frame.f_locals[key.name], key.value)
    caller = frame.f_back
    held = caller.f_locals.values() if caller is not None else ()
    return any(_holds(one, key) for one in held)


def _holds(value: Any, key: _Wanted) -> bool:
    """Return whether ``value`` is a dict with the key and its value."""
    return isinstance(value, dict) and key.name in value and _equal(value[key.name], key.value)


def _default(frame: FrameType, name: str) -> Any:
    """Return the default of an argument of the running function, if the function can be found."""
    code = frame.f_code
    first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    functions = [getattr(cls, code.co_name, None) for cls in type(first).__mro__] + [frame.f_globals.get(code.co_name)]
    for function in functions:
        if function is not None and getattr(inspect.unwrap(function), '__code__', None) is code:
            return inspect.signature(function).parameters[name].default
    return inspect.Parameter.empty


def _caller(frame: FrameType) -> str:
    return getattr(frame.f_code, 'co_qualname', frame.f_code.co_name).removesuffix('.__init__')  # since Python 3.11


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    if type(one) is not type(other) and not (isinstance(one, dict) and isinstance(other, dict)):
        return False
    try:
        return bool(one == other)
    except Exception:  # arrays and tensors have no truth value
        return False
