"""Build the parts of a config to find which function receives the keys that no signature names."""

import inspect
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from hybridcls.engine.config.origins import RUNNER_KEYS
from hybridcls.engine.config.shared_keys import classifying_head
from hybridcls.engine.config.taker import INSIDE, READ, UNKNOWN, UNREAD, Taker, Takers
from hybridcls.engine.config.tree import Path, datasets_in, dotted, is_a, leaves_in, put_at, takes, value_at, walk
from hybridcls.engine.runner.global_instances import isolated_globals

from .call_recorder import BuiltPart, CallRecorder, Key

__all__ = ['build_and_record', 'record_reads']


def build_and_record(cfg: Config, takers: Takers) -> list[str]:
    """Run :func:`record_reads`, and return a message for each part that could not be built."""
    return [
        f'{dotted(place)} was not built: {type(error).__name__}: {str(error)[:200]}'
        for place, error in record_reads(cfg, takers)
    ]


def record_reads(cfg: Config, takers: Takers) -> list[tuple[Path, Exception]]:
    """Build the parts of a config, and record in ``takers`` which function received each key without a signature.

    A key is read by the first function that receives its value under its name, or whose code names it among its
    ``**kwargs``. One that an object stores stays ``'unknown'``; one of a class that was built without any function
    receiving it is ``'unread'``.

    Args:
        cfg (Config): A completed config; not changed. The model is built on the meta device, without weights.
        takers (Takers): Of this config; changed in place.

    Returns:
        list[tuple[Path, Exception]]: The parts that could not be built, each with its error.
    """
    cfg = _without_weights(cfg)
    recorder = CallRecorder(list(_parts(cfg, takers)))
    failed: list[tuple[Path, Exception]] = []
    with isolated_globals(), DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'hybridcls'):
        Visualizer.get_instance('explain')  # some hooks need one
        for place, build in _builders(cfg):
            try:
                with recorder.recording():
                    build()
            except Exception as error:  # classes of any package may raise any error
                failed.append((place, error))
    for part in recorder.parts:
        for key in part.keys:
            _record(takers, recorder, part, key)
    return failed


def _record(takers: Takers, recorder: CallRecorder, part: BuiltPart, key: Key) -> None:
    taker = takers.at(key.path)
    if taker is None or taker.status not in (UNKNOWN, INSIDE):
        return
    if key.path in recorder.readers:
        takers.found[key.path] = Taker(f'{recorder.readers[key.path]} (seen while building)', READ)
    elif taker.status == UNKNOWN and key.path in recorder.kept:
        takers.found[key.path] = Taker(f'{recorder.kept[key.path]} stores it for later', UNKNOWN)
    elif taker.status == UNKNOWN and part.path in recorder.built:
        takers.found[key.path] = Taker(f'{part.kind.__qualname__} was built without reading it', UNREAD)


def _parts(cfg: Config, takers: Takers) -> Iterator[BuiltPart]:
    paths = sorted(takers.parts, key=len, reverse=True)
    keys: dict[Path, list[Key]] = {path: [] for path in paths}
    for path, _ in leaves_in(cfg):
        inner = next((part for part in paths if path[: len(part)] == part), None)
        if inner is not None and path[-1] not in ('type', '_scope_'):
            while isinstance(path[-1], int):  # of a list of plain values, the list
                path = path[:-1]
            if len(path) > len(inner) and path not in {key.path for key in keys[inner]}:
                keys[inner].append(Key(str(path[-1]), path, value_at(cfg, path), len(path) == len(inner) + 1))
    for path in paths:
        if inspect.isclass(takers.parts[path]):
            yield BuiltPart(path, takers.parts[path], keys[path])


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
    """Return a copy of a config whose model can be built without network, weight files or number of classes."""
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
    """Return an equal object with a new identity, if the type allows that."""
    if isinstance(value, str) and len(value) > 1:
        return ''.join(list(value))
    return float(repr(value)) if type(value) is float else value


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
    except Exception as error:  # a fused optimizer, for example
        try:
            return build_optim_wrapper(torch.nn.Sequential(torch.nn.Linear(2, 2)), cfg.optim_wrapper)
        except Exception:  # not because of the meta tensors
            raise error from None
