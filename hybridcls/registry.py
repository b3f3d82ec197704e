"""The registries of hybridcls, where configs find plugins by name.

Each registry is a child of mmpretrain's registry of the same kind (and so a grandchild of mmengine's): a bare name
means ours if we have it, else mmpretrain's, else mmengine's or mmcv's. ``hybridcls.X`` means the same from any config
of any OpenMMLab package, and ``mmpretrain.X`` passes ours by.

The locations are imported when a registry is first asked for a name, so importing this file loads no model code.
"""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import mmengine.registry as _mmengine
import mmpretrain.registry as _mmpretrain
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope, Registry
from mmengine.utils import get_object_from_string

from .checks import UnknownNameError, check_known_keys, explain_unknown_name, without_type
from .compat.mmengine import add_to_root
from .compat.mmpretrain import import_mmcv_quietly, switch_off_broken_multimodal
from .signatures import arguments_of

__all__ = [
    'RUNNERS', 'RUNNER_CONSTRUCTORS', 'LOOPS', 'HOOKS', 'STRATEGIES', 'LOG_PROCESSORS', 'OPTIMIZERS',
    'OPTIM_WRAPPERS', 'OPTIM_WRAPPER_CONSTRUCTORS', 'PARAM_SCHEDULERS', 'DATASETS', 'DATA_SAMPLERS', 'TRANSFORMS',
    'MODELS', 'MODEL_WRAPPERS', 'WEIGHT_INITIALIZERS', 'BATCH_AUGMENTS', 'TASK_UTILS', 'METRICS', 'EVALUATORS',
    'VISUALIZERS', 'VISBACKENDS', 'INFERENCERS', 'FUNCTIONS', 'OPTIM_STAGES',
]  # fmt: skip

# Here, since each import of mmpretrain's models by a name comes from a registry, and every part of ours from this file.
switch_off_broken_multimodal()
import_mmcv_quietly()


# Keys that a registry's own function takes out of a config.
_BUILDER_KEYS = ('type', '_scope_', 'convert_to_iter_based')


_being_built: list[Any] = []  # the types of what is being built now, the outermost first


def _without_type(registry: str, cfg: Any, outer: list[Any]) -> str:
    sentence = without_type(f'registry {registry!r}', cfg)
    if not outer or outer[0] is None:
        return sentence
    name = outer[0] if isinstance(outer[0], str) else getattr(outer[0], '__name__', outer[0])
    return f'{name}: {sentence} A dict for a key of {name} replaces its default as a whole: write the type, too.'


class HintingRegistry(Registry):
    """A registry whose error for an unknown name suggests alternatives.

    What the configs of another package (``default_scope='mmpretrain'``) build from here is looked up in that package
    first and here then: the parts that our classes build by default have bare names, which only we know.

    Raises:
        UnknownNameError: From :meth:`get` and :meth:`build` (a ``KeyError``), for a name that neither this registry
            nor its parents know. ``name in registry`` stays a plain question.
    """

    def import_from_location(self) -> None:
        """Import the modules that register parts here, without mmpretrain's prints about missing packages."""
        MMLogger.get_current_instance()  # made in the block below it would write all logs of the process to nowhere
        with redirect_stdout(StringIO()):
            super().import_from_location()

    def get(self, key: str) -> type:
        """Return the object registered under ``key``, here or in a parent registry."""
        found = self._find(key)
        if found is None:
            raise UnknownNameError(explain_unknown_name(key, self, _all_registries(), _places_of_plugins()))
        return found

    def build(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """Build the object that a config describes.

        Raises:
            TypeError: If its class takes no such key; names those that it takes.
            UnknownNameError: If the config has no ``type``, or nothing is registered under it.
        """
        is_dict = isinstance(cfg, (dict, Config))
        outer, around = _being_built[-1:], len(_being_built)
        _being_built.append(cfg['type'] if is_dict and 'type' in cfg else None)
        with self._scope_of(cfg):
            try:
                return super().build(cfg, *args, **kwargs)
            except TypeError:
                self._check_keys(cfg)
                raise
            except KeyError:
                if is_dict and not {'type', 'runner_type'} & {*cfg}:
                    raise UnknownNameError(_without_type(self.name, cfg, outer)) from None
                raise
            finally:
                del _being_built[around:]

    def _check_keys(self, cfg: Any) -> None:
        """Raise a TypeError for a key that the class of a config does not take."""
        kind: Any = self.class_of(cfg) if isinstance(cfg, (dict, Config)) and 'type' in cfg else None
        names, are_all = arguments_of(kind) if kind is not None else ([], False)
        if are_all:
            check_known_keys(kind.__name__, [key for key in cfg if key not in _BUILDER_KEYS], names)

    def build_filled(self, cfg: dict, **known: Any) -> Any:
        """Build from a config, filling known arguments that its class takes and the config leaves open.

        What was filled or given under these names is an attribute of the object, if only because it is set here.

        Args:
            cfg (dict): With ``type``.
            **known: By argument; None: not known here.
        """
        names, are_all = arguments_of(self.class_of(cfg))
        filled = {
            key: value
            for key, value in known.items()
            if value is not None and cfg.get(key) is None and (key in names or not are_all)
        }
        part = self.build({**cfg, **filled})
        for key in known:
            value = filled.get(key, cfg.get(key))
            if value is not None and not hasattr(part, key):
                setattr(part, key, value)
        return part

    def class_of(self, cfg: dict) -> Any:
        """Return the class (or function) that :meth:`build` would call."""
        kind = cfg['type']
        if not isinstance(kind, str):
            return kind
        with self._scope_of(cfg), self.switch_scope_and_registry(cfg.get('_scope_')) as registry:
            return registry.get(kind)

    @contextmanager
    def _scope_of(self, cfg: Any) -> Iterator[None]:
        kind = cfg.get('type') if isinstance(cfg, (dict, Config)) and cfg.get('_scope_') is None else None
        if isinstance(kind, str):
            with self.switch_scope_and_registry(None) as registry:
                known = Registry.get(registry, kind) is not None
            if not known:
                with DefaultScope.overwrite_default_scope(self.scope):
                    yield
                return
        yield

    def __contains__(self, key: str) -> bool:
        return self._find(key) is not None

    def _find(self, key: str) -> Any:
        # mmengine answers ``hybridcls.X`` with a parent's X if it is asked in the scope of another package. In our own
        # scope it would look no further than here, and the same name would work in one config and not in the next.
        name = key.removeprefix(f'{self.scope}.') if isinstance(key, str) else key
        is_twice = name != key and name.startswith(f'{self.scope}.')  # mmengine would take the second one out
        found = None if is_twice else super().get(name)
        # A class that a config of the lazy style imports is named by its module.
        return get_object_from_string(key) if found is None and name != key and '.' in name else found


def _all_registries() -> list[Registry]:
    return [globals()[name] for name in __all__ if name in globals()]


def _places_of_plugins() -> list[Path]:
    """Return the folders that may contain a class that was not imported: this package, and the user's own."""
    return [Path(__file__).parent, Path.cwd() / 'projects', Path.cwd()]


def _child_of(name: str, place: str, *rooms: str) -> Registry:
    """Create the child of a registry.

    Args:
        name (str): Of the registry.
        place (str): The package, of mmpretrain and of hybridcls, whose import registers everything of this kind.
        *rooms (str): The packages of hybridcls to import instead, where fewer do.
    """
    # An empty Registry is falsy, hence the explicit test.
    parent = getattr(_mmpretrain, name) if hasattr(_mmpretrain, name) else getattr(_mmengine, name)
    # A parent's own locations are not imported when a child falls back to it, so mmpretrain's stand here again.
    # (It has none of these kinds, and its engine imports all its models.)
    mmpretrain_places = [] if name in ('INFERENCERS', 'OPTIM_WRAPPERS') else [f'mmpretrain.{place}']
    own_places = [f'hybridcls.{room}' for room in rooms or (place,)]
    registry = HintingRegistry(
        parent.name, parent=parent, scope='hybridcls', locations=[*mmpretrain_places, *own_places]
    )
    add_to_root(registry)
    return registry


RUNNERS = _child_of('RUNNERS', 'engine')
RUNNER_CONSTRUCTORS = _child_of('RUNNER_CONSTRUCTORS', 'engine')
LOOPS = _child_of('LOOPS', 'engine', 'engine', 'engine.runner.corruption_test_loop')
HOOKS = _child_of('HOOKS', 'engine', 'engine.hooks', 'engine.distillation')
STRATEGIES = _child_of('STRATEGIES', 'engine', 'engine.runner.fsdp_strategy')
LOG_PROCESSORS = _child_of('LOG_PROCESSORS', 'engine')
OPTIMIZERS = _child_of('OPTIMIZERS', 'engine', 'engine.optim')
OPTIM_WRAPPERS = _child_of('OPTIM_WRAPPERS', 'engine', 'engine.optim')
OPTIM_WRAPPER_CONSTRUCTORS = _child_of('OPTIM_WRAPPER_CONSTRUCTORS', 'engine', 'engine.optim')
PARAM_SCHEDULERS = _child_of('PARAM_SCHEDULERS', 'engine', 'engine.runner.reduce_on_plateau')
DATASETS = _child_of('DATASETS', 'datasets')
DATA_SAMPLERS = _child_of('DATA_SAMPLERS', 'datasets')
TRANSFORMS = _child_of('TRANSFORMS', 'datasets')
MODELS = _child_of('MODELS', 'models')
MODEL_WRAPPERS = _child_of('MODEL_WRAPPERS', 'models')
WEIGHT_INITIALIZERS = _child_of('WEIGHT_INITIALIZERS', 'models')
BATCH_AUGMENTS = _child_of('BATCH_AUGMENTS', 'models')
TASK_UTILS = _child_of('TASK_UTILS', 'models')
METRICS = _child_of('METRICS', 'evaluation')
EVALUATORS = _child_of('EVALUATORS', 'evaluation')
VISUALIZERS = _child_of('VISUALIZERS', 'visualization')
VISBACKENDS = _child_of('VISBACKENDS', 'visualization')
INFERENCERS = _child_of('INFERENCERS', 'apis')
FUNCTIONS = _child_of('FUNCTIONS', 'datasets', 'datasets', 'engine.hooks')  # of dataloaders
# Neither mmpretrain nor mmengine has these kinds.
OPTIM_STAGES = HintingRegistry('optimization stage', scope='hybridcls', locations=['hybridcls.engine.optim'])
