"""What an export promises: compared before it is there, written atomically, with a calibration only where it holds."""

import os

import numpy as np
import pytest
import torch
from exportable_models import CASES, LEVERS, write_case

from hybridcls.apis.artifact import export, exporting
from hybridcls.apis.artifact.graph import run_in_torch
from hybridcls.apis.artifact.sidecar import read_sidecar
from hybridcls.engine.checkpoints.calibration_file import calibration_path, digest_of_weights, write_calibration
from hybridcls.structures import Calibration


@pytest.fixture
def checkpoint(tmp_path):
    return write_case(tmp_path / 'w', LEVERS['token merging by a TokenMergingHook, kept'])


def calibrated(checkpoint, **changes):
    settings = dict(
        checkpoint='epoch_1.pth', weights_sha256=digest_of_weights(checkpoint), classes=['one', 'three', 'two', 'zero'],
        scaling=dict(kind='temperature', temperature=2.0), img_size=[64, 64], preprocessing_version=2,
    )  # fmt: skip
    write_calibration(Calibration(**(settings | changes)), calibration_path(checkpoint))


def test_the_program_of_torch_is_an_artifact_too(checkpoint, tmp_path):
    calibrated(checkpoint)
    done = export(checkpoint, tmp_path / 'a', format='torch_export')
    sidecar = read_sidecar(tmp_path / 'a')
    assert sidecar['model'] == done.description
    assert sidecar['model']['file'] == 'model.pt2'
    assert sidecar['calibration']['scaling']['temperature'] == 2
    assert b'stack_trace' not in (tmp_path / 'a' / 'model.pt2').read_bytes()
    images = torch.randint(0, 256, (7, 64, 64, 3), dtype=torch.uint8)
    outputs = torch.export.load(tmp_path / 'a' / 'model.pt2').module()(images)
    assert {name: list(value.shape[1:]) for name, value in outputs.items()} == {
        name: of['shape'][1:] for name, of in done.description['outputs'].items()
    }
    with pytest.raises(FileExistsError, match='Add --force'):
        export(checkpoint, tmp_path / 'a', format='torch_export')


@pytest.fixture
def runs(monkeypatch):
    """Instead of writing and opening a file, which takes long, run the graph; what runs it can be replaced."""
    graphs, wrappers = [], []

    def write(graph, names, images, folder, *options):
        graphs.append(graph)
        (folder / 'model.onnx').touch()
        return folder / 'model.onnx'

    def opened(folder, model):
        def run(images):
            outputs = run_in_torch(graphs[-1], images)
            for wrapper in wrappers:
                outputs = wrapper(outputs)
            return outputs

        return run

    monkeypatch.setattr(exporting, 'write_model', write)
    monkeypatch.setattr(exporting, 'open_graph', opened)
    return wrappers


@pytest.mark.parametrize('output', ['logits', 'probabilities', 'embedding'])
def test_a_model_that_computes_another_thing_is_not_left_there(output, checkpoint, tmp_path, runs):
    def off_in_batches_of_five(outputs):
        return {**outputs, output: outputs[output] + np.float32(2e-4 if len(outputs[output]) == 5 else 0)}

    export(checkpoint, tmp_path / 'right', 'torch_export')
    runs.append(off_in_batches_of_five)
    with pytest.raises(ValueError, match=rf'model.onnx: {output} is off by 0.0002, more than 0.0001. Nothing was'):
        export(checkpoint, tmp_path / 'a', 'torch_export')
    assert sorted(os.listdir(tmp_path)) == ['right', 'w']


@pytest.mark.parametrize(
    ('calibration', 'options', 'reason'),
    [
        (dict(), dict(token_merging='remove'), '--token-merging remove'),
        (dict(img_size=[80, 80]), dict(), 'images of 64 x 64 instead of 80 x 80'),
        (dict(precision='bfloat16'), dict(), 'float32 instead of bfloat16'),
        (dict(preprocessing_version=1), dict(), 'preprocessing version 2 instead of 1'),
    ],
)
def test_a_calibration_that_does_not_hold_is_left_out(calibration, options, reason, checkpoint, tmp_path, runs):
    calibrated(checkpoint, **calibration)
    with pytest.raises(ValueError, match=f'does not hold with {reason}. Leave --calibration out'):
        export(checkpoint, tmp_path / 'a', 'torch_export', calibration=calibration_path(checkpoint), **options)
    done = export(checkpoint, tmp_path / 'a', 'torch_export', **options)
    assert any(note.endswith(f'does not hold with {reason}, so it is left out.') for note in done.notes)
    assert read_sidecar(tmp_path / 'a')['calibration'] is None


@pytest.mark.nightly
@pytest.mark.parametrize('format', ['onnx', 'torch_export', 'openvino'])
def test_float16_and_what_it_changes(format, tmp_path):
    pytest.importorskip('onnxscript', reason="needs the extra export: pip install 'hybridcls[export]'")
    if format == 'openvino':
        pytest.importorskip('openvino', reason="needs the extra openvino: pip install 'hybridcls[openvino]'")
    path = write_case(tmp_path / 'w', CASES['MultiHead'])
    whole = export(path, tmp_path / 'a', format)
    half = export(path, tmp_path / 'b', format, 'float16')
    assert max(whole.difference.values()) < 1e-3 < 1
    assert max(whole.difference['probabilities'], 0) < 1e-4
    assert 0 < half.difference['probabilities'] < 0.02
    assert any(note.startswith('float16: probabilities are off by at most') for note in half.notes)
    weights = [max(size for name, size in done.files.items() if name.startswith('model.')) for done in (whole, half)]
    assert weights[1] < 0.7 * weights[0]  # of a model so small, the graph itself is a part
