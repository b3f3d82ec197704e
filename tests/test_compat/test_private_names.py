"""Private names of dependencies are known in compat/ alone, and no text of an error decides anything."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import hybridcls

ROOT = Path(hybridcls.__file__).parent
FILES = sorted(path for path in ROOT.rglob('*.py') if not {'.mim', 'compat'} & {*path.relative_to(ROOT).parts})

# Names with an underscore in front that are documented for use.
PUBLIC = {'_asdict', '_exit', '_fields', '_getframe', '_replace'}  # of namedtuple, os and sys
# timm's blocks that token merging implements again, by file; their sources are compared by hash.
LEFT = {
    'models/adapters/merging_blocks.py': {'_get_rel_pos_bias'},
    'models/adapters/merging_transformers.py': {'_pos_embed'},
}
# Methods of a dependency's class that ours replace, for which the dependency has no public place.
OVERRIDDEN = {
    ('HybridInferencer', '_init_pipeline'),  # abstract: every inferencer has to
    ('EmbeddingQueue', '_load_from_state_dict'),
    ('HybridOptimWrapperConstructor', '_validate_cfg'),
}


BY_TEXT = ('getattr', 'hasattr', 'setattr', 'delattr')
OF_MODULES = ('import_module', 'attrgetter', 'methodcaller')


def is_private(name):
    return name.startswith('_') and not name.startswith('__') and name != '_'


def defined_in(tree):
    """What a file gives names to: functions, classes, variables, attributes of any object."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            yield node.attr


def is_self(node):
    return isinstance(node, ast.Name) and node.id in ('self', 'cls')


def imported_in(tree):
    """The names of modules and objects that a file imports from other packages."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.asname or alias.name.partition('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or '').split('.')[0] != 'hybridcls':
            yield from (alias.asname or alias.name for alias in node.names)


def root_of(node):
    """The name that a chain of attributes begins with; None for anything else."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def is_namespace(node):
    """Whether an expression is the attributes of an object as a dict."""
    is_vars = isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'vars'
    return is_vars or (isinstance(node, ast.Attribute) and node.attr == '__dict__')


def private_names(source):
    """Yield the line and name of each private name of another file that a source uses."""
    tree = ast.parse(source)
    own = set(defined_in(tree))
    others = {name for name in imported_in(tree)}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Attribute):
            names = [node.attr]
            if is_private(node.attr) and root_of(node) in others:  # own, too, under the same name
                yield node.lineno, node.attr
                continue
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and is_namespace(node.value):
            names = [node.slice.value]
        elif isinstance(node, ast.Call) and getattr(node.func, 'id', getattr(node.func, 'attr', '')) in OF_MODULES:
            names = [
                part for text in node.args if isinstance(text, ast.Constant) for part in str(text.value).split('.')
            ]
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or '').split('.'), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split('.')]
        elif isinstance(node, ast.Call) and getattr(node.func, 'id', '') in BY_TEXT:
            text = node.args[1].values[0] if isinstance(node.args[1], ast.JoinedStr) else node.args[1]
            names = [f'{text.value}{"x" * (text is not node.args[1])}'] if isinstance(text, ast.Constant) else []
        yield from ((node.lineno, name) for name in names if is_private(str(name)) and name not in own)


def uses_text(source):
    """Yield the line of each comparison or search that looks at the text of a caught error."""
    tree = ast.parse(source)
    caught = {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)} | {'error'}

    def is_text(node):
        inside = [one for one in ast.walk(node) if isinstance(one, ast.Name) and one.id in caught]
        reads = isinstance(node, ast.Call) and getattr(node.func, 'id', '') in ('str', 'repr')
        return bool(inside) and (reads or (isinstance(node, ast.Attribute) and node.attr in ('args', 'msg', 'message')))

    for node in ast.walk(tree):
        looked_at = []
        if isinstance(node, ast.Compare):
            looked_at = [node.left, *node.comparators]
        elif isinstance(node, ast.Call):
            method = getattr(node.func, 'attr', '')
            if method in ('startswith', 'endswith', 'partition', 'split', 'find'):
                looked_at = [node.func.value]
            elif method in ('match', 'search', 'fullmatch', 'findall'):
                looked_at = [*node.args]
        if any(is_text(part) for one in looked_at for part in ast.walk(one)):
            yield node.lineno


@pytest.mark.parametrize(
    'source',
    [
        'runner._resume', 'from mmengine._strategy import FSDPStrategy', 'from torch.nn.modules import _NormBase',
        "getattr(runner, '_train_loop')", "getattr(runner, f'_{kind}_loop')", 'import torch._utils',
        "vars(runner)['_train_loop']", "runner.__dict__['_train_loop']", "attrgetter('train_loop._strategy')(runner)",
        "importlib.import_module('torch._dynamo')",
        'from torch import nn\nself._BatchNorm = isinstance(module, nn.modules.batchnorm._BatchNorm)',
    ],
)  # fmt: skip
def test_a_private_name_is_found(source):
    assert len(list(private_names(source))) == 1


def test_names_of_the_same_file_are_its_own():
    assert not list(private_names('class A:\n    def _b(self):\n        self._c = other._c\n        return other._b()'))


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_private_names_are_known_in_compat_alone(path):
    name = str(path.relative_to(ROOT))
    for line, private in private_names(path.read_text(encoding='utf8')):
        is_allowed = (
            private in PUBLIC | LEFT.get(name, set())
            or private.startswith('_foreach_')  # torch has no other names for these
        )
        assert is_allowed or _is_inherited(name, private), (
            f'{name}:{line} uses {private}, a private name of another file or package. Give what it does a public '
            'name, in compat/ if it is of a dependency.'
        )


def module_name(path):
    return '.'.join(['hybridcls', *Path(path).with_suffix('').parts])


def _is_inherited(name, private):
    """Whether an attribute is set by a parent of ours, so that it is a class's own."""
    module = importlib.import_module(module_name(name))
    kinds = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__]
    parents = {parent for kind in kinds for parent in kind.__mro__ if parent.__module__.startswith('hybridcls.')}
    return any(private in set(defined_in(ast.parse(inspect.getsource(inspect.getmodule(one))))) for one in parents)


def test_what_is_allowed_is_still_used():
    for name, names in LEFT.items():
        used = {private for _, private in private_names((ROOT / name).read_text(encoding='utf8'))}
        assert names <= used, f'{name} uses {sorted(names - used)} no more: take them out of LEFT.'


def test_no_private_method_of_a_dependency_is_replaced():
    for path in FILES:
        name = f'hybridcls.{str(path.relative_to(ROOT)).removesuffix(".py").replace("/", ".")}'.removesuffix(
            '.__init__'
        )
        if name.endswith('__main__'):
            continue
        for kind in vars(importlib.import_module(name)).values():
            if not inspect.isclass(kind) or kind.__module__ != name:
                continue
            for method in filter(is_private, vars(kind)):
                theirs = [one for one in kind.__mro__[1:] if method in vars(one) and not _is_ours(one)]
                is_made = method in ('_abc_impl', '_backward_cls', '_is_protocol', '_is_runtime_protocol')
                assert not theirs or is_made or (kind.__name__, method) in OVERRIDDEN, (
                    f'{name}.{kind.__name__}.{method} replaces a private method of {theirs[0].__name__}. Do it in a '
                    'class of compat/ that gives it a public name.'
                )


def _is_ours(kind):
    return kind.__module__.startswith('hybridcls.')


@pytest.mark.parametrize(
    'source',
    [
        "if 'key' in str(error): pass", "str(error).startswith('a')", "re.match('a', str(error))",
        "error.args[0] == 'a'", "try: f()\nexcept KeyError as e:\n    if e.args[0] == 'x': pass",
    ],
)  # fmt: skip
def test_a_decision_by_the_text_of_an_error_is_found(source):
    assert list(uses_text(source))


@pytest.mark.parametrize('path', sorted(ROOT.rglob('*.py')), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_decision_goes_by_the_text_of_an_error(path):
    for line in uses_text(path.read_text(encoding='utf8')):
        raise AssertionError(
            f'{path.relative_to(ROOT)}:{line} decides by the text of an error, which its author may reword. Decide by '
            'its class, or check before what would raise it.'
        )
