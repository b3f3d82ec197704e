"""What could be imported from version 0.1 can be imported, under its old name too."""

import importlib
import json
import pickle
import sys
from pathlib import Path

import pytest
import torch
from processes import run_process

from hybridcls import old_modules
from hybridcls.renames import MODULES, NAMES

# Every module of version 0.1 with its public names, read from its source. compat/ is for hybridcls alone.
PUBLIC = json.loads(Path(__file__).with_name('version_0_1').joinpath('names.json').read_text())
PUBLIC = {module: names for module, names in PUBLIC.items() if not module.startswith('hybridcls.compat')}


@pytest.mark.parametrize('module', PUBLIC)
def test_every_module_of_0_1_has_its_public_names(module):
    found = importlib.import_module(module)
    assert [name for name in PUBLIC[module] if not hasattr(found, name)] == []


def test_the_table_has_no_row_that_nothing_needs():
    for old in MODULES:
        assert old in PUBLIC
        assert importlib.util.find_spec(MODULES[old]) is not None
    for old, new in NAMES.items():
        place, _, name = old.rpartition('.')
        assert name in PUBLIC[place], old
        there = vars(importlib.import_module(place)).get(name)
        assert there is None or old in MODULES, f'{old} is there, whatever the table says'
        place, _, name = new.rpartition('.')
        assert name in vars(importlib.import_module(place)), new


def test_an_old_module_is_a_view_of_the_new_one_and_says_so_once(told_renames):
    sys.modules.pop('hybridcls.functional.unit_vectors', None)
    for _ in range(2):
        from hybridcls.functional.unit_vectors import inverse_lengths, unit_rows
    from hybridcls.functional.l2_normalize import inverse_norms, l2_normalize

    assert unit_rows is l2_normalize
    assert inverse_lengths is inverse_norms
    assert [line.split(' since')[0] for line, *_ in told_renames] == [
        'test_old_modules.py: hybridcls.functional.unit_vectors is called hybridcls.functional.l2_normalize',
        'test_old_modules.py: hybridcls.functional.unit_vectors.inverse_lengths is called '
        'hybridcls.functional.l2_normalize.inverse_norms',
        'test_old_modules.py: hybridcls.functional.unit_vectors.unit_rows is called hybridcls.functional.l2_normalize',
    ]


def test_a_star_import_of_an_old_module_brings_the_old_names():
    names = {}
    exec('from hybridcls.models.adapters.lora_folding import *', names)
    assert {'fold_lora', 'FoldedLoRA'} <= names.keys()


def test_a_function_of_the_name_of_its_old_module_is_called_whichever_of_the_two_was_imported():
    import hybridcls.functional
    import hybridcls.functional.contrast_log_sums
    from hybridcls.functional.contrastive import streamed_logsumexp

    anchors = torch.randn(3, 4)
    expected = streamed_logsumexp(anchors, 0.5)[0]
    for old in (hybridcls.functional.contrast_log_sums, hybridcls.functional.contrast_log_sums.contrast_log_sums):
        assert torch.equal(old(anchors, 0.5)[0], expected)


def test_what_never_was_there_is_not_there():
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from hybridcls.functional import nothing  # noqa: F401
    with pytest.raises(ImportError, match='lora_unfolding'):
        import hybridcls.models.adapters.lora_unfolding  # noqa: F401
    with pytest.raises(AttributeError, match="no attribute 'fold_lora'"):
        old_modules._named('hybridcls.functional', 'fold_lora')


@pytest.mark.nightly
def test_a_plugin_of_0_1_is_imported_in_a_process_of_its_own(tmp_path):
    (tmp_path / 'plugin.py').write_text(
        'from hybridcls.engine.hooks import DistillationHook\n'
        'from hybridcls.functional import gather_rows, unit_rows\n'
        'from hybridcls.functional.class_statistics import ClassStatistics\n'
        'from hybridcls.models.heads import MarginHead\n'
        'from hybridcls.models.modules import AdaFaceMargin\n'
        'from hybridcls.models.modules.adaface_margin import AdaFaceMargin as Again\n'
        'assert Again is AdaFaceMargin\n'
        'class Mine(MarginHead):\n'
        '    def __init__(self, *args, **kwargs):\n'
        '        super().__init__(*args, sub_centres=2, **kwargs)\n'
        'print(Mine(3, 4).weight.shape)\n'
    )
    status, output = run_process(_import_plugin, str(tmp_path))
    assert status == 0, output
    assert 'torch.Size([3, 2, 4])' in output
    assert output.count('WARNING') == output.count('since version 0.2') == 8


def _import_plugin(folder):
    sys.path.insert(0, folder)
    importlib.import_module('plugin')
    pickle.loads(b'chybridcls.models.modules.adaface_margin\nAdaFaceMargin\n.')
