"""mmengine registers Adafactor without importing transformers; that follows when it is built."""

import sys
from types import ModuleType

from hybridcls.compat.mmengine.late_adafactor import adafactor, import_transformers_late


def test_adafactor_is_built_by_transformers(monkeypatch):
    module = ModuleType('transformers')
    module.Adafactor = lambda params, **arguments: (params, arguments)
    monkeypatch.setitem(sys.modules, 'transformers', module)
    assert adafactor([1], lr=2) == ([1], dict(lr=2))


def test_nothing_happens_once_the_optimizers_are_imported():
    import mmengine.optim  # noqa: F401

    before = list(sys.meta_path)
    import_transformers_late()
    assert sys.meta_path == before
