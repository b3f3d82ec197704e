"""Graphs that were converted again: right ones and wrong ones."""

import json

import hand_made_artifact as made
import numpy as np
import pytest

from hybridcls.apis.artifact.shipped.graph_check import check_other, check_outputs, open_artifact, read_onnx
from hybridcls.apis.artifact.shipped.verify import read_golden

S = 32


@pytest.fixture(scope='module')
def artifact(tmp_path_factory):
    folder, network = made.make_artifact(tmp_path_factory.mktemp('artifact') / 'A', S)
    sidecar = json.loads((folder / 'model.json').read_text())
    return folder, network, sidecar, read_golden(str(folder), sidecar)[1]


WRONG = {
    'opset': (dict(opset=17), ['opset']),
    'adapter': (dict(merged=False), ['adapter']),
    'softmax twice': (dict(softmax=2), ['double softmax']),
    'order': (dict(order=[5, 4, 3, 2, 1, 0]), ['class order']),
    'statistics': (dict(norm=((0.5,) * 3, (0.5,) * 3)), ['graph']),
    'opset and adapter': (dict(opset=17, merged=False), ['opset', 'adapter']),
}


@pytest.mark.parametrize('mistake', WRONG)
def test_mistakes_are_named(artifact, tmp_path, mistake):
    _, network, sidecar, stages = artifact
    options, expected = WRONG[mistake]
    network.onnx(tmp_path / 'other.onnx', S, **options)
    assert [one.name for one in check_other(str(tmp_path / 'other.onnx'), stages, sidecar, None, [])] == expected


def test_another_size_is_named(artifact, tmp_path):
    _, network, sidecar, stages = artifact
    network.onnx(tmp_path / 'other.onnx', S + 8)
    assert [one.name for one in check_other(str(tmp_path / 'other.onnx'), stages, sidecar, None, [])] == ['size']


def test_right_graphs_are_not_blamed_and_what_they_take_is_said(artifact, tmp_path):
    folder, network, sidecar, stages = artifact
    notes = []
    assert not list(check_other(str(folder / 'model.onnx'), stages, sidecar, None, notes))
    assert notes == []
    network.onnx(tmp_path / 'floats.onnx', S, floats='NCHW')
    assert not list(check_other(str(tmp_path / 'floats.onnx'), stages, sidecar, None, notes))
    assert 'NCHW' in notes[0]
    assert 'normalized' in notes[0]


def test_the_artifacts_graph(artifact, tmp_path):
    folder, _network, sidecar, stages = artifact
    graph = open_artifact(str(folder), sidecar)
    assert not list(check_outputs(graph, stages, sidecar))
    changed = stages | {name: np.roll(stages[name], 1, 0) for name in ('logits', 'probabilities')}
    (found,) = check_outputs(graph, changed, sidecar)
    assert found.name == 'graph'
    assert 'adapter' in found.message


def test_a_graph_of_floats_computes_the_same(artifact):
    folder, _, sidecar, stages = artifact
    graph = open_artifact(str(folder), sidecar)
    run = graph.floats()
    assert run is not None
    np.testing.assert_allclose(run(stages['input'].astype(np.float32))['logits'], stages['logits'], atol=1e-4)


@pytest.mark.parametrize('opset', [13, 17, 20])
def test_what_a_file_says(artifact, tmp_path, opset):
    import onnx
    from onnx import numpy_helper

    artifact[1].onnx(tmp_path / 'a.onnx', S, opset=opset)
    assert read_onnx(str(tmp_path / 'a.onnx'))[::2] == (opset, 'float32')
    model = onnx.load(str(tmp_path / 'a.onnx'))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.int8), 'small'))
    model.producer_name = 'me'
    onnx.save(model, str(tmp_path / 'a.onnx'))
    assert read_onnx(str(tmp_path / 'a.onnx')) == (opset, 'me', 'int8')


def test_what_is_no_graph(artifact, tmp_path):
    (tmp_path / 'a.onnx').write_bytes(b'nothing of the kind')
    with pytest.raises(ValueError, match='cannot be opened'):
        list(check_other(str(tmp_path / 'a.onnx'), artifact[3], artifact[2], None, []))
