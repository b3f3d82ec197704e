"""Static quantization of small ONNX graphs made by hand."""

import numpy as np
import pytest

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from hybridcls.apis.artifact.quantize import quantize  # noqa: E402

SIZE, WIDTH, CLASSES = 12, 8, 4
DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (64, SIZE, SIZE, 3), dtype=np.uint8)


def network(path, outlier=1.0, products=4, outputs=('logits', 'probabilities', 'embedding')):
    """Normalization, convolutions with ReLU, the mean over the image, a linear head; one channel may be ``outlier``
    times as large between the second and the third convolution, which divides by it again.
    """
    draw = np.random.default_rng(1)
    nodes = [
        helper.make_node('Cast', ['images'], ['cast'], to=TensorProto.FLOAT),
        helper.make_node('Transpose', ['cast'], ['nchw'], perm=[0, 3, 1, 2]),
        helper.make_node('Div', ['nchw', 'full'], ['x0']),
    ]
    weights = dict(full=np.float32(255))
    scale = np.ones(WIDTH, np.float32)
    scale[0] = outlier
    for number in range(products):
        weight = draw.normal(size=(WIDTH, WIDTH if number else 3, 3, 3)).astype(np.float32) / 5
        weight = weight * scale[:, None, None, None] if number == 1 else weight
        weight = weight / scale[None, :, None, None] if number == 2 else weight
        weights[f'w{number}'] = weight
        nodes += [
            helper.make_node('Conv', [f'x{number}', f'w{number}'], [f'y{number}'], f'conv{number}'),
            helper.make_node('Relu', [f'y{number}'], [f'x{number + 1}']),
        ]
    weights['head'] = draw.normal(size=(WIDTH, CLASSES)).astype(np.float32) * 3
    nodes += [
        helper.make_node('GlobalAveragePool', [f'x{products}'], ['pooled']),
        helper.make_node('Flatten', ['pooled'], ['embedding']),
    ]
    if 'logits' in outputs:
        nodes += [
            helper.make_node('MatMul', ['embedding', 'head'], ['logits'], 'head'),
            helper.make_node('Softmax', ['logits'], ['probabilities']),
        ]
    widths = dict(embedding=WIDTH)
    graph = helper.make_graph(
        nodes,
        'network',
        [helper.make_tensor_value_info('images', TensorProto.UINT8, ['N', SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ['N', widths.get(name, CLASSES)]) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10), path)
    return path


def run(path, name='probabilities'):
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return session.run([name], {'images': IMAGES})[0]


def quantized_weights(path):
    """The names of convolutions and products whose weights are int8."""
    model = onnx.load(path)
    made_by = {output: node.op_type for node in model.graph.node for output in node.output}
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    sources = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == 'DequantizeLinear'}
    return {
        node.name
        for node in model.graph.node
        if node.op_type in ('Conv', 'MatMul')
        and made_by.get(node.input[1]) == 'DequantizeLinear'
        and types[sources[node.input[1]]] == TensorProto.INT8
    }


def test_products_before_the_embedding_become_int8(tmp_path):
    path, out = network(tmp_path / 'a.onnx'), tmp_path / 'b.onnx'
    done = quantize(path, out, IMAGES)
    assert quantized_weights(out) == {f'conv{number}' for number in range(4)}
    assert done.quantized == 4
    assert done.head == ['head']
    assert not done.kept_float
    assert done.moved == min(done.tried.values()) <= 0.03
    off = np.abs(run(path) - run(out)).max(1)
    assert 0 < off.mean() < 0.03  # of all images, those that chose and the others
    weights = [
        numpy_helper.to_array(one) for one in onnx.load(out).graph.initializer if one.name.endswith('_quantized')
    ]
    assert max(np.abs(one.astype(int)).max() for one in weights if one.ndim == 4) <= 64  # of 7 bits


def test_three_ways_of_finding_ranges_are_compared(tmp_path):
    said = []
    done = quantize(network(tmp_path / 'a.onnx'), tmp_path / 'b.onnx', IMAGES, tell=said.append)
    assert [name.split(',')[0] for name in done.tried] == [
        f'ranges by {one}' for one in ('minmax', 'percentile', 'entropy')
    ]
    assert len(said) == 3
    assert f'ranges by {done.method}, weights of 7 bits' == min(done.tried, key=lambda name: done.tried[name])


def test_what_int8_destroys_stays_in_float(tmp_path):
    """An activation with one channel 2,000 times as large as the others has no steps left for these."""
    path, out = network(tmp_path / 'a.onnx', outlier=2000.0), tmp_path / 'b.onnx'
    done = quantize(path, out, IMAGES)
    assert set(done.kept_float) == {'conv1', 'conv2'}
    assert quantized_weights(out) == {'conv0', 'conv3'}
    assert done.quantized == 2
    first = done.tried['ranges by minmax, weights of 7 bits']
    assert done.moved < 0.03 < first
    assert any('weights of 8 bits' in name and 'float32' not in name for name in done.tried)  # in this order
    assert 'conv1' in str(done)
    assert np.abs(run(path) - run(out)).max(1).mean() < 0.03


def test_time_is_bounded_and_said(tmp_path):
    path = network(tmp_path / 'a.onnx', outlier=2000.0)
    done = quantize(path, tmp_path / 'b.onnx', IMAGES, seconds=0)
    assert list(done.tried) == ['ranges by minmax, weights of 7 bits', 'ranges by minmax, weights of 8 bits']
    assert 'Ranges by entropy were not tried' in done.notes[1]
    assert '0 of 4 products were tried alone' in done.notes[2]
    assert run(tmp_path / 'b.onnx').shape == (64, CLASSES)


def test_embeddings_alone(tmp_path):
    path, out = network(tmp_path / 'a.onnx', outputs=('embedding',)), tmp_path / 'b.onnx'
    done = quantize(path, out, IMAGES)
    assert done.head == []
    before, after = run(path, 'embedding'), run(out, 'embedding')
    cosine = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert 0 < 1 - cosine.mean() < 0.03


def test_refused(tmp_path):
    path = network(tmp_path / 'a.onnx')
    with pytest.raises(ValueError, match='at least 32 images, got 31'):
        quantize(path, tmp_path / 'b.onnx', IMAGES[:31])
    with pytest.raises(ValueError, match='convolutions or linear layers, got one without'):
        quantize(network(tmp_path / 'c.onnx', products=0), tmp_path / 'b.onnx', IMAGES)
    (tmp_path / 'a.onnx.data').touch()
    with pytest.raises(ValueError, match='less than 2 GB'):
        quantize(path, tmp_path / 'b.onnx', IMAGES)
