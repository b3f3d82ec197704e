"""What compiling took is noted for the same model, settings and images, and for no other."""

import pytest
from torch import nn

from hybridcls.apis.compile_times import compile_key, note_seconds, noted_seconds
from hybridcls.apis.inference_settings import InferenceSettings

FAST = InferenceSettings('bfloat16', compile=True)


def of_width(width):
    return nn.ModuleDict(dict(backbone=nn.Linear(width, width)))


def test_the_second_time_is_shorter_and_then_known(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'cache'))
    key = compile_key(of_width(2), FAST, 8, [(3, 96, 96)])
    assert noted_seconds(key) is None
    note_seconds(key, 60.0)
    assert noted_seconds(key) == pytest.approx(36)  # of code that is there
    for seconds in (12.0, 9.0):
        note_seconds(key, seconds)
        assert noted_seconds(key) == seconds
    next((tmp_path / 'cache').iterdir()).write_text('[1')
    assert noted_seconds(key) is None  # a damaged file


def test_a_folder_that_cannot_be_written_notes_nothing(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'file' / 'cache'))
    note_seconds('key', 60.0)
    assert noted_seconds('key') is None


def test_the_key_is_that_of_what_is_compiled():
    known = compile_key(of_width(2), FAST, 8, [(3, 96, 96)])
    assert compile_key(of_width(2), FAST, 8, [(3, 96, 96)]) == known  # whatever the weights
    others = [
        compile_key(of_width(3), FAST, 8, [(3, 96, 96)]),
        compile_key(of_width(2), InferenceSettings(compile=True), 8, [(3, 96, 96)]),
        compile_key(of_width(2), FAST, 4, [(3, 96, 96)]),
        compile_key(of_width(2), FAST, 8, [(3, 64, 64)]),
    ]
    assert len({known, *others}) == 5
