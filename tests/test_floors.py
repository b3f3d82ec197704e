"""Imports run downward only, between packages and inside them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'hybridcls'

# From the ground up; rooms on one floor do not import each other. A file belongs to the longest name that fits.
FLOORS = [
    [
        'hybridcls',
        'hybridcls.version',
        'hybridcls.checks',
        'hybridcls.checkpoint_reading',
        'hybridcls.plain_content',
        'hybridcls.plain_numbers',
        'hybridcls.registry',
        'hybridcls.command_line',
        'hybridcls.error_origin',
        'hybridcls.ignored_warnings',
        'hybridcls.compat',
        'hybridcls.hub_cache',
        'hybridcls.literals',
        'hybridcls.old_modules',
        'hybridcls.renames',
        'hybridcls.safetensors_folder',
        'hybridcls.signatures',
    ],
    ['hybridcls.functional', 'hybridcls.structures', 'hybridcls.replay'],
    ['hybridcls.distributed'],
    ['hybridcls.models.data_preprocessors'],
    ['hybridcls.models.building', 'hybridcls.models.weights'],
    [
        'hybridcls.models.margins',
        'hybridcls.models.modules',
        'hybridcls.models.adapters',
        'hybridcls.models.losses',
        'hybridcls.datasets',
        'hybridcls.evaluation',
        'hybridcls.visualization',
    ],
    ['hybridcls.models.backbones', 'hybridcls.models.necks', 'hybridcls.models.heads'],
    ['hybridcls.models.classifiers'],
    ['hybridcls.models'],
    ['hybridcls.engine.optim.update', 'hybridcls.engine.optim.groups'],
    ['hybridcls.engine.optim.stages'],
    ['hybridcls.engine.optim', 'hybridcls.engine.checkpoints', 'hybridcls.engine.runner'],
    ['hybridcls.engine.config'],
    ['hybridcls.engine.hooks'],
    ['hybridcls.engine.distillation'],
    ['hybridcls.engine.training'],
    ['hybridcls.engine.phases'],
    ['hybridcls.engine'],
    ['hybridcls.apis'],
    ['hybridcls.cli'],
    ['hybridcls.__main__'],
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# datasets, evaluation and visualization are beside the whole of models, not below its upper rooms.
BESIDE_MODELS = {'hybridcls.datasets', 'hybridcls.evaluation', 'hybridcls.visualization'}
GROUND = set(FLOORS[0])
# The update serves any training of mmengine's Runner, so it does without our models and what they need.
NOT_FOR_OPTIM = ('hybridcls.models', 'hybridcls.datasets', 'hybridcls.evaluation', 'hybridcls.visualization')


def room_of(module: str) -> str:
    """The longest named room that a module lies in."""
    parts = module.split('.')
    for length in range(len(parts), 0, -1):
        name = '.'.join(parts[:length])
        if name in FLOOR_OF and (name != 'hybridcls' or length == len(parts)):
            return name
    raise AssertionError(f'{module} lies on no floor: put it into a room of the house, or name its room in {__file__}.')


def imports_of(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything of hybridcls that a file imports, wherever in the file it does."""
    package = module.split('.') if is_package else module.split('.')[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = '.'.join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f'{start}.{alias.name}'
        elif (
            isinstance(node, ast.Call)
            and node.args
            and isinstance(node.args[0], ast.Constant)
            and getattr(node.func, 'attr', getattr(node.func, 'id', '')) in ('import_module', '__import__')
        ):
            yield node.lineno, str(node.args[0].value)


def complaint(importer: str, imported: str) -> str:
    """Why ``importer`` may not import ``imported``, or an empty string."""
    if imported.split('.')[0] != 'hybridcls':
        return ''
    here, there = room_of(importer), _room_of_name(imported)
    if here == there or (there in GROUND and here not in GROUND):
        return ''
    if here != 'hybridcls' and there.startswith(f'{here}.') and importer == here:
        return ''  # a package that imports its own parts, so that they register
    beside = (here in BESIDE_MODELS and there.startswith('hybridcls.models')) or (
        there in BESIDE_MODELS and here.startswith('hybridcls.models')
    )
    if beside or (FLOOR_OF[here] == FLOOR_OF[there] and here not in GROUND):
        return f'{here} and {there} are neighbours on one floor, and neighbours do not import each other'
    if here in GROUND and there in GROUND:
        return ''
    if here.startswith('hybridcls.engine.optim') and there.startswith(NOT_FOR_OPTIM):
        return f"{there} is not for {here}, which serves any training of mmengine's Runner"
    if FLOOR_OF[there] > FLOOR_OF[here]:
        return f'{there} is above {here}, and imports run downward only'
    return ''


def _room_of_name(name: str) -> str:
    """The room of something imported, which may be a module or a name in it (``hybridcls.checks.check_file``)."""
    parts = name.split('.')
    if len(parts) > 1 and not any(
        room == f'hybridcls.{parts[1]}' or room.startswith(f'hybridcls.{parts[1]}.') for room in FLOOR_OF
    ):
        return 'hybridcls'  # `from hybridcls import __version__`
    return room_of(name)


def modules() -> list[tuple[str, Path]]:
    """Every module of the package with its file."""
    found = []
    for path in sorted(PACKAGE.rglob('*.py')):
        parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
        if '.mim' in parts:
            continue
        found.append(('.'.join(parts[:-1] if parts[-1] == '__init__' else parts), path))
    return found


def test_imports_run_downward():
    wrong = []
    for module, path in modules():
        for line, name in imports_of(path.read_text(encoding='utf8'), module, path.name == '__init__.py'):
            why = complaint(module, name)
            if why:
                wrong.append(
                    f'{path.relative_to(PACKAGE.parent)}:{line} imports {name}: {why}. Move the shared part '
                    'to a floor below both, or let the registry join them.'
                )
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize(
    ('importer', 'source'),
    [
        ('hybridcls.functional.margins', 'from hybridcls.models.heads import LinearHead'),
        ('hybridcls.functional.margins', 'from ..structures import labels'),
        ('hybridcls.models.heads.linear_head', 'from ..necks.dha_fusion import DHAFusion'),
        ('hybridcls.models.heads.linear_head', 'from .. import backbones'),
        ('hybridcls.models.losses.supcon_loss', 'from ...engine import load_config'),
        ('hybridcls.datasets.digits', 'def load():\n    from ..models.modules.cbam import CBAM'),
        ('hybridcls.models.modules.cbam', 'from ..backbones import HybridBackbone'),
        ('hybridcls.checks', 'import hybridcls.distributed.gather'),
        ('hybridcls', 'from hybridcls import models'),
        ('hybridcls.evaluation.knn', "importlib.import_module('hybridcls.visualization')"),
        ('hybridcls.models.modules.cbam', 'from hybridcls import datasets'),
        ('hybridcls.functional.margins.angular_margin', 'from hybridcls.distributed import gather_rows'),
        ('hybridcls.engine.config.loading', 'from ..hooks import ConsoleHook'),
        ('hybridcls.engine.optim.stages.sam', 'from ...hooks import SlowWeightsHook'),
        (
            'hybridcls.engine.optim.stages.sam',
            'if TYPE_CHECKING:\n    from ..single_stage_wrappers import SAMOptimWrapper',
        ),
        ('hybridcls.engine.optim.update.state_dict', 'from ..composed_optim_wrapper import ComposedOptimWrapper'),
        ('hybridcls.engine.optim.update.update', 'from ..stages.update_stage import UpdateStage'),
        ('hybridcls.engine.optim.groups.depth_reader', 'from ..update.parameter_names import parameters_of'),
        ('hybridcls.engine.optim.groups.depth_reader', 'from hybridcls.models.modules import CBAM'),
        ('hybridcls.engine.runner.console', 'from ..optim import Precision'),
        ('hybridcls.engine.hooks.transfer_hook', 'if TYPE_CHECKING:\n    from ..training import TrainOptions'),
    ],
)
def test_upward_import_is_found(importer, source):
    ((_, name),) = imports_of(source, importer, is_package=False)
    assert complaint(importer, name)


@pytest.mark.parametrize(
    ('importer', 'source'),
    [
        ('hybridcls.models.heads.linear_head', 'from ..losses import SupConLoss'),
        ('hybridcls.models.heads.linear_head', 'from .classification_head import ClassificationHead'),
        ('hybridcls.models.heads.linear_head', 'from hybridcls.registry import MODELS'),
        ('hybridcls.engine.hooks.knn_hook', 'from hybridcls.functional import gather'),
        ('hybridcls.engine.training', 'from hybridcls import __version__'),
        ('hybridcls.engine.training', 'import torch'),
        ('hybridcls.engine.optim.stages.sam', 'from ..update.update import Update'),
        ('hybridcls.engine.phases.running', 'from ..training import run_training'),
        ('hybridcls.engine.config.mixed_precision', 'from ..optim import ComposedOptimWrapper'),
    ],
)
def test_downward_import_is_allowed(importer, source):
    ((_, name),) = imports_of(source, importer, is_package=False)
    assert not complaint(importer, name)


def test_a_package_may_import_its_parts():
    ((_, name),) = imports_of('from . import heads', 'hybridcls.models', is_package=True)
    assert name == 'hybridcls.models.heads'
    assert not complaint('hybridcls.models', name)
