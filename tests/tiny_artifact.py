"""An artifact that is written by hand: the mean colour of an image is its embedding, which four classes weigh."""

import hashlib
import json

import numpy as np

WEIGHT = np.array([[3, -2, 0, 1], [-1, 4, 0, 0], [0, 0, 5, -3]], np.float32) / 64
CLASSES = ('rot', 'grün', '青', '<b>')
STEPS = [dict(op='resize', size=[8, 8], filter='nearest', library='pillow')]


def write_tiny_artifact(folder, classes=CLASSES, multi_label=False, calibration=None):
    """Write it; return the folder."""
    import onnx
    from onnx import TensorProto as kinds
    from onnx import helper

    folder.mkdir(parents=True)
    nodes = [
        helper.make_node('Cast', ['images'], ['values'], to=kinds.FLOAT),
        helper.make_node('ReduceMean', ['values', 'axes'], ['embedding'], keepdims=0),
    ]
    outputs, wanted = ['embedding'], [len(WEIGHT)]
    if classes:
        nodes.append(helper.make_node('MatMul', ['embedding', 'weight'], ['logits']))
        last = helper.make_node('Sigmoid' if multi_label else 'Softmax', ['logits'], ['probabilities'])
        nodes.append(last)
        outputs, wanted = ['logits', 'probabilities', 'embedding'], [len(classes)] * 2 + wanted
    constants = [helper.make_tensor('axes', kinds.INT64, [2], [1, 2])]
    if classes:
        constants.append(helper.make_tensor('weight', kinds.FLOAT, WEIGHT.shape, WEIGHT.ravel()))
    graph = helper.make_graph(
        nodes, 'tiny', [helper.make_tensor_value_info('images', kinds.UINT8, ['N', 8, 8, 3])],
        [helper.make_tensor_value_info(name, kinds.FLOAT, ['N', n]) for name, n in zip(outputs, wanted, strict=True)],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)
    onnx.save(model, folder / 'model.onnx')
    content = (folder / 'model.onnx').read_bytes()
    sidecar = dict(
        format='hybridcls artifact', version=1,
        model=dict(
            file='model.onnx', format='onnx', dtype='float32', opset=20,
            input=dict(name='images', dtype='uint8', shape=['N', 8, 8, 3], colors='RGB'),
            outputs={name: dict(meaning='') for name in outputs},
        ),
        preprocessing=dict(
            decode=dict(background=[255, 255, 255], exif=True, depth='check', gray=False, cmyk='cv2'), steps=STEPS,
            size=[8, 8],
        ),
        classes=list(classes), folders=None, multi_label=multi_label,
        class_thresholds=[0.5] * len(classes) if multi_label else None, heads=None, calibration=calibration,
        provenance=dict(weights_sha256='ab', checkpoint='epoch_1.pth', pretrained={}), metrics={},
        files={'model.onnx': dict(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))},
    )  # fmt: skip
    (folder / 'model.json').write_text(json.dumps(sidecar))
    return folder


def calibration_of(threshold, classes=CLASSES):
    """A calibration that answers from a threshold on."""
    return dict(
        format='hybridcls calibration', version=1, checkpoint='epoch_1.pth', weights_sha256='ab', classes=list(classes),
        scaling=dict(kind='none'), images=200, sets=dict(alpha=0.1, threshold=0.2, images=100),
        risk=dict(risk=0.05, confidence=0.95, threshold=threshold, answered=90, errors=1, images=100),
    )  # fmt: skip


def expected_scores(color):
    """The probabilities of an image of one colour, by hand in float64."""
    logits = np.asarray(color, np.float64) @ WEIGHT.astype(np.float64)
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()
