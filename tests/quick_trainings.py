"""Trainings of toys without what takes them longer than their epochs, and changes none of their numbers."""

import sys
from types import SimpleNamespace

import pytest
from yapf.yapflib import yapf_api


def leave_out(patch: pytest.MonkeyPatch) -> None:
    """Leave out the layout of a config's text (which is Python before it, too), the collection of garbage after each
    dataset, and the picture of the curves.
    """
    patch.setattr(yapf_api, 'FormatCode', lambda text, **options: (text, False))
    if dataset := sys.modules.get('mmengine.dataset.base_dataset'):
        patch.setattr(dataset, 'gc', SimpleNamespace(collect=lambda: 0))
    if hook := sys.modules.get('hybridcls.engine.hooks.learning_curves_hook'):
        patch.setattr(hook, 'draw_learning_curves', lambda *panels: b'not drawn')
