"""A start imports nothing heavy that it may do without: together it would double its time."""

import subprocess
import sys

HEAVY = {
    'transformers': 'mmengine wants the name of one optimizer (compat/mmengine/late_adafactor.py)',
    'peft': 'LoRA alone needs it; transformers imports it',
    'torchmetrics': 'hybridcls fidelity alone needs it; it imports transformers, scipy and matplotlib',
    'scipy': 'a few metrics and fits need it; transformers and scikit-learn import it',
    'sklearn': 'datasets that are divided and a few fits need it',
    'matplotlib': 'drawing needs it',
    'pandas': 'nothing of ours needs it; others import it where it is installed',
    'onnx': 'an export needs it',
    'onnxruntime': 'an artifact needs it',
    'yapf': 'a config that is written as text needs it',
    'jinja2': 'the report needs it',
    'pyarrow': 'parquet files need it',
    'hybridcls.models.adapters.merging_transformers': 'merging tokens alone needs it, and the inside of timm',
}
ROOMS = ['models', 'engine', 'engine.training', 'datasets', 'evaluation', 'visualization', 'apis.inferencer']
START = f"""
import sys
import {', '.join(f'hybridcls.{room}' for room in ROOMS)}
print(*(sys.modules.keys() & {{{', '.join(map(repr, HEAVY))}}}))
from importlib.util import find_spec
from hybridcls.registry import OPTIMIZERS
print(('Adafactor' in OPTIMIZERS) == bool(find_spec('transformers')))
"""


def test_a_start_imports_no_heavy_package_and_knows_adafactor_all_the_same():
    shown = ['-W', 'ignore', '-W', 'always::UserWarning:mmcv.cnn.bricks.transformer']
    done = subprocess.run([sys.executable, *shown, '-c', START], capture_output=True, text=True, check=True)
    assert 'MultiScaleDeformableAttention' not in done.stderr  # `hybridcls.load` in Python, where nothing is ignored
    imported, knows_adafactor = done.stdout.splitlines()
    assert not imported, {name: HEAVY[name] for name in imported.split()}
    assert knows_adafactor == 'True'
