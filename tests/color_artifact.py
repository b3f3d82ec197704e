"""A hand-made artifact whose embedding is the mean color of an image: classes are colors, and all is known by hand."""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from hybridcls.apis.artifact.shipped.runtime import with_digests

SHIPPED = Path(__file__).parents[1] / 'hybridcls/apis/artifact/shipped'
CLASSES = {'red': (1.0, 0.0, 0.0), 'green': (0.0, 1.0, 0.0), 'gray': (1.0, 1.0, 1.0)}
SCALE = 20.0


def color_artifact(folder, outputs=('logits', 'probabilities', 'embedding'), **more):
    """Write the artifact; the logits are cosines to the colors times a scale."""
    import onnx
    from onnx import TensorProto, helper

    folder = Path(folder)
    folder.mkdir(parents=True)
    weights = np.array(list(CLASSES.values()), np.float32)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    multi_label = more.get('multi_label', False)
    nodes = [
        helper.make_node('Cast', ['images'], ['floats'], to=TensorProto.FLOAT),
        helper.make_node('ReduceMean', ['floats', 'axes'], ['embedding'], keepdims=0),
        helper.make_node('LpNormalization', ['embedding'], ['unit'], axis=1, p=2),
        helper.make_node('MatMul', ['unit', 'weights'], ['logits']),
        helper.make_node('Sigmoid' if multi_label else 'Softmax', ['logits'], ['probabilities']),
    ]
    known = [
        helper.make_tensor('axes', TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor('weights', TensorProto.FLOAT, weights.T.shape, (SCALE * weights.T).flatten().tolist()),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ['N', 3]) for name in outputs]
    images = helper.make_tensor_value_info('images', TensorProto.UINT8, ['N', 8, 8, 3])
    graph = helper.make_graph(nodes, 'colors', [images], values, known)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)
    onnx.save(model, folder / 'model.onnx')
    (folder / 'golden').mkdir()
    paint(folder / 'golden/0.png', (10, 10, 200))
    for name in ('runtime.py', 'enroll.py'):
        shutil.copyfile(SHIPPED / name, folder / name)
    sidecar = dict(
        format='hybridcls artifact', version=1,
        model=dict(file='model.onnx', format='onnx', input=dict(name='images', dtype='uint8', shape=['N', 8, 8, 3]),
                   outputs={name: dict(shape=['N', 3], meaning='') for name in outputs}),
        preprocessing=dict(size=[8, 8], steps=[dict(op='resize', size=[8, 8], filter='bilinear', library='pillow')],
                           decode=dict(background=None, exif=True, depth='scale', gray=False, cmyk='pillow')),
        classes=list(CLASSES) if 'logits' in outputs else [], folders=None, multi_label=multi_label,
        class_thresholds=[0.5] * 3 if multi_label else None, calibration=None, enrolled=None,
        provenance=dict(weights_sha256='w'),
    )  # fmt: skip
    write(folder, sidecar | more)
    return folder


def write(folder, sidecar):
    """Write the sidecar with the digests of the files."""
    import hashlib

    files = [path for path in sorted(Path(folder).rglob('*')) if path.is_file() and path.name != 'model.json']
    listed = {
        path.relative_to(folder).as_posix(): dict(
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(), bytes=path.stat().st_size
        )
        for path in files
    }
    (Path(folder) / 'model.json').write_text(json.dumps(with_digests(sidecar | dict(files=listed))))


def paint(path, color):
    """Write an image of one color."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8), tuple(np.clip(np.rint(color), 0, 255).astype(int).tolist())).save(path)
    return path


def paint_folder(folder, color, count, spread=12.0, seed=0):
    """Write images whose colors lie around one."""
    random = np.random.default_rng(seed)
    return [
        paint(Path(folder) / f'{number}.png', np.array(color) * 200 + random.normal(0, spread, 3))
        for number in range(count)
    ]
