"""Read the config in a checkpoint as text, and look up its classes in the registries, without running code of it."""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.utils import get_object_from_string, import_modules_from_strings
from torch import nn

from hybridcls.checkpoint_reading import checkpoints_are_trusted
from hybridcls.checks import listed
from hybridcls.literals import read_assignments
from hybridcls.registry import FUNCTIONS, MODELS, TRANSFORMS

from .change import Change
from .renamed import with_new_spellings
from .tree import ABSENT, Path, delete_at, value_at, walk

__all__ = [
    'UnsafeConfigError', 'check_types', 'config_of_checkpoint', 'follow_custom_imports', 'without_initial_weights',
    'without_start',
]  # fmt: skip

# What a training starts from. The weights are in the checkpoint, so these files are not needed any more.
_STARTS = ('pretrained', 'checkpoint_path', 'init_cfg')
_TRUST = (
    'If you trust whoever made the checkpoint, add --trust-checkpoint (in Python: '
    'hybridcls.checkpoint_reading.trust_checkpoints()): then it may run any command with your rights.'
)


class UnsafeConfigError(ValueError):
    """The config of a checkpoint names something that may run arbitrary code; the message says what."""


def config_of_checkpoint(
    checkpoint: Mapping[str, Any],
    path: str,
    advice: str = 'Name the config that it was trained with: --config FILE (in Python: config=...).',
) -> Config:
    """Read the config that a checkpoint was trained with, in the present spelling.

    Args:
        checkpoint (Mapping): From :func:`~hybridcls.checkpoint_reading.read_checkpoint`.
        path (str): Its file, for messages.
        advice (str): What to do if there is none in it. Defaults to naming one.

    Raises:
        ValueError: If there is none in it, as in a file of bare weights, or it describes no model.
    """
    meta = checkpoint.get('meta')
    text = meta.get('cfg') if isinstance(meta, Mapping) else None
    if not isinstance(text, str):
        raise ValueError(f'{path}: expected the config of the training in the checkpoint, got none. {advice}')
    try:
        values = with_new_spellings(read_assignments(text))
    except SyntaxError as error:
        raise ValueError(f'{path}: the config in the checkpoint cannot be read ({error}). {advice}') from error
    if not isinstance(values.get('model'), dict):
        raise ValueError(f'{path}: the config in the checkpoint has no model that is written in literals. {advice}')
    return Config(values)


def follow_custom_imports(cfg: Mapping[str, Any], path: str) -> None:
    """Import what ``custom_imports`` of the config in a checkpoint names, if checkpoints are trusted.

    Args:
        cfg (Mapping): The config.
        path (str): The checkpoint, for messages.

    Raises:
        ValueError: If it cannot be imported.
    """
    imports = cfg.get('custom_imports')
    if not imports or not checkpoints_are_trusted():
        return
    try:
        import_modules_from_strings(**imports)
    except (ImportError, TypeError) as error:
        raise ValueError(
            f'{path}: custom_imports={dict(imports)} of its config cannot be imported: {error}. Modules are looked for '
            'in the folder that the tool is started in, and in those of PYTHONPATH.'
        ) from error


def without_start(model: dict, has_members: bool = False) -> dict:
    """Return the config of a model without the weights that its training started from, in nested parts too.

    Streams whose weights are not in checkpoints (``lora_rank=dict(checkpoint='adapters')``) keep theirs.

    Args:
        model (dict): The config of a model.
        has_members (bool): Whether the weights of an ensemble's members are in the checkpoint, too.
    """
    kept = deepcopy(model)
    for path in _starts_in(model):
        delete_at(kept, path)
    if has_members and isinstance(kept.get('members'), (list, tuple)):
        kept['members'] = [
            {key: value for key, value in (one.items() if isinstance(one, dict) else ()) if key != 'checkpoint'}
            for one in kept['members']
        ]
    return kept


def without_initial_weights(cfg: Config) -> Iterator[Change]:
    """Remove the initial weights of the model from a config whose checkpoint has all weights."""
    for path in _starts_in(cfg.get('model'), ('model',)):
        given = value_at(cfg, path)
        if given:
            yield Change(path, given, ABSENT, 'the checkpoint has all weights', 'the checkpoint', False)


def _starts_in(node: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(node, (list, tuple)):
        for number, one in enumerate(node):
            yield from _starts_in(one, (*path, number))
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in _STARTS:
                yield (*path, key)
            elif key not in ('cnn', 'vit') or not _saves_adapters_only(node.get('lora_rank'), key):
                yield from _starts_in(value, (*path, key))


def _saves_adapters_only(lora_rank: Any, stream: str) -> bool:
    if not isinstance(lora_rank, dict):
        return False
    own = lora_rank.get(stream, {})
    settings = {**lora_rank, **own} if isinstance(own, dict) else {}
    return settings.get('checkpoint') == 'adapters'


def check_types(
    node: Any, path: str, registries: Iterable[Registry] = (MODELS, TRANSFORMS, FUNCTIONS), advice: str = ''
) -> None:
    """Raise unless every ``type`` in a config of a checkpoint is a registered class or function.

    mmengine builds anything that a dotted name leads to, ``'os.system'`` too.

    Args:
        node: The part of the config that is going to be built.
        path (str): The checkpoint, for messages.
        registries (Iterable[Registry]): Those that it is built from. Defaults to those of a model and its pipeline.
        advice (str): What else the caller can be given, a sentence that ends each error. Defaults to ''.

    Raises:
        UnsafeConfigError: If one is not, or a part asks a hub for code. The modules of ``custom_imports`` that would
            register it are not imported for the file's sake.
    """
    if checkpoints_are_trusted():
        return
    registered = _Registered(registries)
    trust = f'{_TRUST} {advice}'.rstrip()
    for _, value in walk(node):
        if not isinstance(value, Mapping):
            continue
        if value.get('trust_remote_code'):
            raise UnsafeConfigError(f'{path}: its config asks for trust_remote_code. {trust}')
        for key in ('default_scope', '_scope_'):  # mmengine imports the package of that name
            if value.get(key) is not None and value[key] not in registered.scopes:
                raise UnsafeConfigError(
                    f'{path}: expected {key} among {listed(sorted(registered.scopes))} in its config, got '
                    f'{value[key]!r}. If you use that package, import it first. {trust}'
                )
        kind = value.get('type')
        if kind is not None and not (isinstance(kind, str) and registered.knows(kind)):
            raise UnsafeConfigError(
                f'{path}: expected registered classes in its config, got type={kind!r}. If the class is yours, '
                f'import it first: custom_imports of a checkpoint are not followed. {trust}'
            )


class _Registered:
    """All registered classes of the imported packages; their modules are imported only if a name is not found."""

    def __init__(self, registries: Iterable[Registry]) -> None:
        self.scopes: set[str] = set()
        self._known: dict[str, list[Any]] = {}
        self._registries = list(registries)
        self._not_imported = list(self._registries)
        self._read()

    def _read(self) -> None:
        for ours in self._registries:
            for one in _tree(ours.root):
                self.scopes.add(one.scope)
                for key, value in one.module_dict.items():
                    self._known.setdefault(key, []).append(value)
        self._packages = {value.__module__.partition('.')[0] for values in self._known.values() for value in values}

    def knows(self, kind: str) -> bool:
        """Return whether mmengine would find a registered class, or a layer of torch, under this name."""
        while not self._has(kind):
            if not self._not_imported:
                return False
            self._not_imported.pop(0).import_from_location()
            self._read()
        return True

    def _has(self, kind: str) -> bool:
        scope, _, name = kind.partition('.')
        if kind in self._known or (scope in self.scopes and name in self._known):
            return True
        if scope not in self._packages:
            return False
        try:
            found = get_object_from_string(kind)  # configs of the lazy style name classes by their modules
        except Exception:
            return False
        if kind.startswith('torch.nn.'):
            return isinstance(found, type) and issubclass(found, nn.Module)
        return any(found is value for value in self._known.get(kind.rpartition('.')[2], ()))


def _tree(root: Registry) -> Iterator[Registry]:
    yield root
    for child in root.children.values():
        yield from _tree(child)
