"""Trainings of toys without what takes them longer than their epochs, and changes none of their numbers."""

import functools
import os
import sys
from types import SimpleNamespace

import pytest
from yapf.yapflib import yapf_api


def leave_out(patch: pytest.MonkeyPatch) -> None:
    """Leave out the layout of a config's text (which is Python before it, too), the collection of garbage after each
    dataset, the picture of the curves, and the wait for the disk. Git is asked once for the state of a folder: each
    of these processes takes as long as a step, and a training starts a dozen.
    """
    patch.setattr(yapf_api, 'FormatCode', lambda text, **options: (text, False))
    if dataset := sys.modules.get('mmengine.dataset.base_dataset'):
        patch.setattr(dataset, 'gc', SimpleNamespace(collect=lambda: 0))
    patch.setattr(os, 'fsync', lambda handle: None)
    asks = {
        'mmengine.runner.runner': 'get_git_hash',
        'mmengine.hooks.runtime_info_hook': 'get_git_hash',
        'hybridcls.engine.hooks.provenance_hook': 'git_state',
    }
    for name, function in asks.items():
        if module := sys.modules.get(name):
            patch.setattr(module, function, functools.cache(getattr(module, function)))
    if hook := sys.modules.get('hybridcls.engine.hooks.learning_curves_hook'):
        patch.setattr(hook, 'draw_learning_curves', lambda *panels: b'not drawn')
