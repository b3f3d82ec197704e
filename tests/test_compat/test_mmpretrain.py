"""mmpretrain's multimodal code stays off where transformers no longer has what it imports."""

import subprocess
import sys
from types import ModuleType

import pytest
from mmpretrain.utils import dependency

from hybridcls.compat import mmpretrain
from hybridcls.compat.mmpretrain import switch_off_broken_multimodal

# A transformers of which the language models of mmpretrain get all but one name; torchmetrics takes some of it too.
TRANSFORMERS = {
    'transformers/__init__.py': 'def __getattr__(name):\n'
    "    if name.startswith('__'):\n        raise AttributeError(name)\n    return type(name, (), {})\n",
    'transformers/pytorch_utils.py': 'apply_chunking_to_forward = prune_linear_layer = None\n',
    'transformers-5.24.0.dist-info/METADATA': 'Metadata-Version: 2.1\nName: transformers\nVersion: 5.24.0\n',
    'pycocotools-2.0.11.dist-info/METADATA': 'Metadata-Version: 2.1\nName: pycocotools\nVersion: 2.0.11\n',
}


@pytest.mark.slow
def test_our_models_are_imported_beside_pycocotools_and_transformers_5(tmp_path):
    for name, text in TRANSFORMERS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    code = (
        f'import sys; sys.path.insert(0, {str(tmp_path)!r})\n'
        'from mmpretrain.utils import dependency; print(dependency.WITH_MULTIMODAL)\n'
        'import hybridcls.models; print(dependency.WITH_MULTIMODAL)\n'
        'from hybridcls.registry import MODELS\n'
        'try:\n    MODELS.build(dict(type="Blip2Caption"))\n'
        'except ImportError as error:\n    print(error)\n'
    )
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    lines = result.stdout.splitlines()
    assert lines[:2] == ['True', 'False'], result.stderr
    assert 'requires extra multi-modal dependencies' in lines[-1]


@pytest.fixture
def transformers_with(monkeypatch):
    """A module ``transformers.pytorch_utils`` with the given names, which mmpretrain's code alone is said to want."""

    def make(names):
        module = ModuleType('transformers.pytorch_utils')
        vars(module).update(dict.fromkeys(names))
        monkeypatch.setitem(sys.modules, 'transformers', ModuleType('transformers'))
        monkeypatch.setitem(sys.modules, 'transformers.pytorch_utils', module)
        wanted = {('transformers.pytorch_utils', 'prune'), ('transformers.pytorch_utils', 'chunk')}
        monkeypatch.setattr(mmpretrain, '_taken_from_transformers', lambda: iter(wanted))
        monkeypatch.setattr(dependency, 'WITH_MULTIMODAL', True)

    return make


@pytest.mark.parametrize(('names', 'stays'), [(('prune', 'chunk'), True), (('prune',), False), ((), False)])
def test_it_stays_on_where_every_name_is_there(transformers_with, names, stays):
    transformers_with(names)
    switch_off_broken_multimodal()
    assert dependency.WITH_MULTIMODAL is stays


def test_a_transformers_that_is_itself_broken_counts_as_without(transformers_with, monkeypatch):
    transformers_with(('prune', 'chunk'))
    monkeypatch.setitem(sys.modules, 'transformers.pytorch_utils', None)
    switch_off_broken_multimodal()
    assert dependency.WITH_MULTIMODAL is False


def test_the_names_that_the_multimodal_code_takes_are_found():
    taken = set(mmpretrain._taken_from_transformers())
    assert {
        ('transformers.pytorch_utils', 'find_pruneable_heads_and_indices'),  # gone in transformers 5
        ('transformers.modeling_utils', 'PretrainedConfig'),  # the same
        ('transformers', 'AutoTokenizer'),
    } <= taken
