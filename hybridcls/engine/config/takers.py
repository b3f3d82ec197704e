"""Find, without building anything, the class or function whose signature names each key of a config."""

from collections.abc import Callable, Sequence
from typing import Any, Optional

from mmengine.config import Config

from hybridcls.checks import did_you_mean
from hybridcls.old_modules import answer_old_names
from hybridcls.signatures import owners_of, takes_argument

from .argument_kinds import (
    DEFAULT_TYPES,
    DICT_ARGUMENTS,
    HANDED_ON,
    REGISTRIES,
    entry_of,
    hands_on,
    is_named,
    load,
    timm_class,
)
from .origins import RUNNER_KEYS
from .taker import UNKNOWN, UNREAD, Taker, Takers, label
from .tree import Path, class_of, holds_datasets, is_a

__all__ = ['DEFAULT_HOOKS', 'takers_of']

_BY_RUNNER = 'Runner'
DEFAULT_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
_OF_SCHEDULERS = dict(
    convert_to_iter_based='build_iter_from_epoch', begin_fraction='fractions', end_fraction='fractions'
)
_OF_ENVIRONMENT = dict(tf32='build_runner', compile_streams='run_training', channels_last='run_training')
# Keys of the top level that the Runner itself does not read.
_OTHERS = dict(
    activation_checkpointing='Runner.train',
    cfg_options='run_chain',
    compile='Runner.train',
    custom_imports='load_config',
    data_split='data_splits',
    efficient_conv_bn_eval='Runner.train',
    find_unused_parameters='Runner.wrap_model',
    inference='HybridInferencer',
    phases='run_chain',
    runner_type='build_runner',
    strategy='FlexibleRunner',
    sync_bn='Runner.wrap_model',
    tta_model='tools/test.py --tta',
    tta_pipeline='tools/test.py --tta',
)


def takers_of(cfg: Config) -> Takers:
    """Find the taker of each key, by its path; a key that only a ``**kwargs`` takes is ``'unknown'``.

    Args:
        cfg (Config): Read, completed or not. Variables (top-level keys that nothing but the files reads) and shared
            keys have no taker.
    """
    return _Walk(cfg).takers


class _Walk:
    def __init__(self, cfg: Config) -> None:
        self.takers = Takers()
        self.found = self.takers.found
        for key, value in cfg.items():
            if key in RUNNER_KEYS:
                self.found[(key,)] = Taker(_OTHERS.get(key, _BY_RUNNER))
                self._top_level(key, value, cfg)

    def _top_level(self, key: str, value: Any, cfg: Config) -> None:
        place: Path = (key,)
        if key in ('train_cfg', 'val_cfg', 'test_cfg'):
            self._loop(place, value)
        elif key.endswith('_dataloader'):
            self.dataloader(place, value)
        elif key in ('val_evaluator', 'test_evaluator'):
            has_metrics = isinstance(value, dict) and 'metrics' in value
            self.part(place, value, 'EVALUATORS' if has_metrics else 'METRICS', 'Evaluator' if has_metrics else None)
        elif key == 'default_hooks':
            self._default_hooks(place, value)
        elif key == 'custom_hooks':
            self.part(place, value, 'HOOKS', also=dict(priority='Runner.register_hook'))
        elif key == 'param_scheduler':
            self.part(place, value, 'PARAM_SCHEDULERS', also=_OF_SCHEDULERS)
        elif key == 'optim_wrapper':
            self._optim_wrapper(place, value)
        elif key in ('model', 'tta_model'):
            self.part(place, value, 'MODELS')
        elif key == 'data_preprocessor':
            model = class_of('MODELS', cfg.get('model'))
            self.part(place, value, 'MODELS', entry_of(DEFAULT_TYPES, model, key))
            if isinstance(value, dict) and place not in self.takers.parts:
                self._all(place, value, Taker(f'data_preprocessor of {label(model)}', UNKNOWN))
        elif key == 'tta_pipeline':
            self.part(place, value, 'TRANSFORMS')
        elif key == 'visualizer':
            self.part(place, value, 'VISUALIZERS', 'Visualizer')
        elif key == 'log_processor':
            self.part(place, value, 'LOG_PROCESSORS', 'LogProcessor')
        elif key == 'model_wrapper_cfg':
            self.part(place, value, 'MODEL_WRAPPERS', 'MMDistributedDataParallel')
        elif key == 'strategy':
            self.part(place, value, 'STRATEGIES')
        elif isinstance(value, dict):
            self._settings(key, value)

    def part(
        self,
        path: Path,
        node: Any,
        registry: str,
        default: Optional[str] = None,
        also: Optional[dict[str, str]] = None,
        is_certain: bool = True,
    ) -> None:
        """Record a dict that a registry builds, or a list or a dict of them.

        Args:
            path (Path): Where it stands.
            node: Anything else than these is the value of an argument, of which there is nothing to say.
            registry (str): Its kind.
            default (str, optional): Its type where it names none.
            also (dict[str, str], optional): Keys that are read by another before it is built, to that other.
            is_certain (bool): Whether exactly its keys become arguments: then one that is no argument is unread.
        """
        if isinstance(node, (list, tuple)):
            for number, one in enumerate(node):
                self.part((*path, number), one, registry, default, also, is_certain)
        elif isinstance(node, dict) and ('type' in node or default is not None):
            kind = class_of(registry, node if 'type' in node else {**node, 'type': default})
            name = f'{kind.__module__.split(".")[0]}.{label(kind)}' if kind is not None else registry
            self.found.update({(*path, key): Taker(name) for key in ('type', '_scope_') if key in node})
            self.call(path, node, kind, registry, also or {}, is_certain)
        elif isinstance(node, dict) and 'dataset' in node:
            self.dataloader(path, node)
        elif isinstance(node, dict):
            for name, one in node.items():
                self._value((*path, name), one, registry, also, is_certain)

    def call(
        self, path: Path, node: dict, kind: Any, registry: str, also: dict[str, str], is_certain: bool = True
    ) -> None:
        """Record a dict whose keys are the arguments of ``kind``."""
        if kind is None:
            self._all(path, node, Taker(f'{node.get("type")!r}: no {registry} has this name', UNKNOWN))
            return
        self.takers.parts[path] = kind
        owners, _ = owners_of(kind)
        for name in owners:
            registry_of, default = entry_of(HANDED_ON, kind, name) or ('', None)
            if not registry_of:
                continue
            inner = class_of(registry_of, dict(type=node.get(name, default)))
            further = owners_of(inner)[0] if inner is not None else ()
            also = {**{key: label(inner) for key in further if key not in owners}, **also}
        for key, value in node.items():
            place: Path = (*path, key)
            if key in also:
                self.found[place] = Taker(also[key])
            elif key in owners:
                self.found[place] = Taker(label(kind, owners[key]))
            elif place not in self.found:
                self.found[place] = self._stranger(key, kind, is_certain)
            self._argument(place, value, kind, registry)

    def _stranger(self, key: str, kind: Any, is_certain: bool) -> Taker:
        """Return the taker of a key that no signature names."""
        owners, are_all = owners_of(kind)
        if not are_all:
            return Taker(f'**kwargs of {label(kind)}', UNKNOWN)
        if not is_certain:
            return Taker(f'{label(kind)} does not name it', UNKNOWN)
        return Taker(f'{label(kind)} takes no such key.{did_you_mean(key, owners)}', UNREAD)

    def _argument(self, place: Path, value: Any, kind: Any, registry: str) -> None:
        """Descend into the value of an argument, if something is built from it."""
        key = str(place[-1])
        called = entry_of(DICT_ARGUMENTS, kind, key)
        default = entry_of(DEFAULT_TYPES, kind, key)
        if called is not None:
            if isinstance(value, dict):
                self.call(place, value, load(called[0]), registry, dict.fromkeys(called[1], label(kind)))
        elif default is not None:
            self.part(place, value, 'MODELS', default)
        elif key in ('cnn', 'vit') and is_named(kind, 'hybridcls.models.backbones.HybridBackbone'):
            self._stream(place, value)
        elif key == 'teacher' and isinstance(value, dict) and 'model_name' in value:
            self._timm(place, value, [], 'timm')
        elif registry != 'FUNCTIONS':
            # Builders of layers (`norm_cfg`) take keys of their own out of such a dict, and other packages may.
            is_layer = key.endswith('_cfg') or key == 'norm'
            self._value(place, value, registry, is_certain=not is_layer and hands_on(owners_of(kind)[0].get(key)))

    def _value(
        self, place: Path, value: Any, registry: str, also: Optional[dict[str, str]] = None, is_certain: bool = True
    ) -> None:
        """Record what is built from a value: by the name of its key, or else by the registry of its parent."""
        key = str(place[-1])
        if key == 'dataloader' or key.endswith('_dataloader'):
            self.dataloader(place, value)
        elif holds_datasets(key):
            self.part(place, value, 'DATASETS')
        elif key.endswith('pipeline'):
            self.part(place, value, 'TRANSFORMS')
        elif key in REGISTRIES:
            popped = dict(magnitude_key='RandAugment') if key == 'policies' else None
            self.part(place, value, REGISTRIES[key], also=popped)
        else:
            self.part(place, value, registry, also=also, is_certain=is_certain)

    def _all(self, path: Path, node: dict, taker: Taker) -> None:
        for key in node:
            self.found.setdefault((*path, key), taker)

    def _stream(self, path: Path, node: Any) -> None:
        """Record a stream of a HybridBackbone: a timm model, or a registered backbone."""
        if not isinstance(node, dict):
            return
        from hybridcls.models.backbones import RegisteredStream, TimmStream

        if 'type' not in node or is_a('MODELS', node, TimmStream):
            self.part(path, node, 'MODELS', 'TimmStream')
            self._timm(path, node, [TimmStream], '')
            return
        own, _ = owners_of(RegisteredStream)
        self.part(path, node, 'MODELS', also={key: 'RegisteredStream' for key in own if key != 'backbone'})

    def _timm(self, path: Path, node: dict, takers: list, model_key: str) -> None:
        """Record the arguments of a timm model, whose class its entry point declares."""
        import timm
        from timm.models import build_model_with_cfg

        if takers:
            self.takers.parts[path] = takers[0]
        model = timm_class(node.get('model_name'))
        for kind in (*takers, model, timm.create_model, build_model_with_cfg):
            for key in node if kind is not None else ():
                taker = self.found.get((*path, key))
                if takes_argument(kind, key) and (taker is None or taker.status == UNKNOWN):
                    self.found[(*path, key)] = Taker(label(kind))
        self._all(path, node, Taker('**kwargs of timm.create_model', UNKNOWN))

    def dataloader(self, path: Path, node: Any) -> None:
        """Record a dataloader: torch's arguments, and the parts that the Runner builds first."""
        if not isinstance(node, dict):
            return
        from torch.utils.data import DataLoader

        runners = dict.fromkeys(
            ('dataset', 'sampler', 'batch_sampler', 'collate_fn', 'worker_init_fn', 'num_batch_per_epoch'),
            'Runner.build_dataloader',
        )
        if node.get('worker_init_fn') is None:
            runners['disable_subprocess_warning'] = 'Runner.build_dataloader'
        batches = class_of('DATA_SAMPLERS', node.get('batch_sampler'))
        if batches is not None:
            runners['batch_size'] = label(batches)
        for key, value in node.items():
            place: Path = (*path, key)
            if key in runners:
                self.found[place] = Taker(runners[key])
            elif takes_argument(DataLoader, key):
                self.found[place] = Taker('DataLoader')
            else:
                self.found[place] = self._stranger(key, DataLoader, True)
            if key in REGISTRIES or key == 'dataset':
                self.part(place, value, REGISTRIES.get(key, 'DATASETS'))

    def _default_hooks(self, path: Path, node: Any) -> None:
        for name, hook in (node or {}).items():
            # mmengine has a hook of some names; None takes it out.
            is_off = hook is None and name not in DEFAULT_HOOKS
            why = f'there is no default hook {name!r} to take out'
            self.found[(*path, name)] = Taker(why, UNREAD) if is_off else Taker('Runner.register_default_hooks')
            self.part((*path, name), hook, 'HOOKS', also=dict(priority='Runner.register_hook'))

    def _loop(self, path: Path, node: Any) -> None:
        if not isinstance(node, dict):
            return
        also = {}
        default = dict(val_cfg='ValLoop', test_cfg='TestLoop').get(str(path[0]))
        if default is None and 'type' not in node:
            also['by_epoch'] = 'Runner.build_train_loop'
            by_epoch = node.get('by_epoch', 'max_iters' not in node)
            default = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
        self.part(path, node, 'LOOPS', default, also)

    def _optim_wrapper(self, path: Path, node: Any) -> None:
        """Record an optimizer wrapper, or several under their names."""
        if not isinstance(node, dict):
            return
        also = dict.fromkeys(('constructor', 'paramwise_cfg'), 'build_optim_wrapper')
        constructor = class_of(
            'OPTIM_WRAPPER_CONSTRUCTORS', dict(type=node.get('constructor', 'DefaultOptimWrapperConstructor'))
        )
        also['paramwise_cfg'] = label(constructor) if constructor else also['paramwise_cfg']
        kind = class_of('OPTIM_WRAPPERS', node)
        if hasattr(kind, 'stage_type'):  # SAMOptimWrapper: its stage's keys are its own
            also.update(dict.fromkeys(owners_of(kind.stage_type)[0], label(kind.stage_type)))
        several = [key for key, value in node.items() if isinstance(value, dict) and 'optimizer' in value]
        for key in several:
            also[key] = also['paramwise_cfg']
            self._optim_wrapper((*path, key), node[key])
        self.part(path, node, 'OPTIM_WRAPPERS', 'OptimWrapper', also)
        clip = node.get('clip_grad')
        if isinstance(clip, dict):
            from torch.nn.utils import clip_grad

            function = clip_grad.clip_grad_value_ if clip.get('type') == 'value' else clip_grad.clip_grad_norm_
            self.call((*path, 'clip_grad'), clip, function, 'FUNCTIONS', dict(type='OptimWrapper'))

    def _settings(self, key: str, node: dict) -> None:
        """Record the dicts whose keys the Runner passes to functions one by one."""
        import torch
        from mmengine.dist import init_dist
        from mmengine.runner import Runner
        from mmengine.utils.dl_utils import set_multi_processing
        from torch.distributed import init_process_group

        for inner, value in node.items():
            place: Path = (key, inner)
            if key == 'env_cfg':
                self.found[place] = Taker(_OF_ENVIRONMENT.get(inner, 'Runner.setup_env'))
            if place == ('env_cfg', 'mp_cfg') and isinstance(value, dict):
                self._functions(place, value, [set_multi_processing])
            elif place == ('env_cfg', 'dist_cfg') and isinstance(value, dict):
                self._functions(place, value, [init_dist, init_process_group])
            elif place == ('env_cfg', 'compile_streams') and isinstance(value, dict):
                self._functions(place, value, [torch.compile])
        if key == 'randomness':
            self._functions((key,), node, [Runner.set_randomness])
        elif key == 'auto_scale_lr':
            self._all((key,), node, Taker('--auto-scale-lr'))
        elif key in ('custom_imports', 'data_split', 'inference'):
            self._all((key,), node, Taker(_OTHERS[key]))

    def _functions(self, path: Path, node: dict, functions: Sequence[Callable]) -> None:
        """Record arguments that go to the first of some functions that names them."""
        for key in node:
            taker = next((one for one in functions if takes_argument(one, key)), None)
            self.found[(*path, key)] = Taker(label(taker)) if taker else self._stranger(key, functions[0], False)


answer_old_names(globals())
