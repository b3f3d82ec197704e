"""Garbage is not collected in the block, and is afterwards."""

import gc

from hybridcls.cli.quick_imports import quick_imports


def test_collections_stop_and_begin_again():
    before = gc.get_freeze_count()
    with quick_imports():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(kept)
    gc.disable()
    try:
        with quick_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
