"""An artifact of a small network with random weights, made without a training: its folder, as an export leaves it."""

import json
import shutil
from pathlib import Path

import numpy as np

import hybridcls.apis.artifact.shipped
from hybridcls.apis.artifact.golden import golden_images
from hybridcls.apis.artifact.shipped import runtime

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = ['cat', 'dog', 'emu', 'fox', 'gnu', 'hen']
THRESHOLD, TEMPERATURE = 0.6, 2.5
SHIPPED = Path(hybridcls.apis.artifact.shipped.__file__).parent
DECODE = dict(background=[255, 255, 255], exif=True, depth='check', gray=False, cmyk='cv2')


def crop_steps(size, filter='bicubic', library='pillow'):
    """Resize the shorter edge to size / 0.875, crop the middle."""
    resized = int(size / 0.875)
    return [
        dict(
            op='resize_edge', edge='cover', size=[resized, resized], filter=filter, library=library, arithmetic='float'
        ),
        dict(op='center_crop', size=[size, size]),
    ]


class Network:
    """Two convolutions over the image, and a linear head with an adapter: in ONNX and in float64."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.kernel = rng.normal(0, 0.15, (24, 3, 5, 5)).astype(np.float32)
        self.second = rng.normal(0, 0.1, (32, 24, 3, 3)).astype(np.float32)
        self.weight = rng.normal(0, 1.2, (32, len(CLASSES))).astype(np.float32)
        self.adapter = rng.normal(0, 0.4, self.weight.shape).astype(np.float32)
        self.bias = np.zeros(len(CLASSES), np.float32)

    def onnx(self, path, size, opset=20, merged=True, floats=None, softmax=1, order=None, norm=(MEAN, STD)):
        """Write the graph; with ``floats`` 'NCHW' it takes normalized ones."""
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        weight = self.weight + self.adapter * merged
        bias = self.bias
        if order is not None:
            weight, bias = weight[:, order], bias[order]
        mean, std = (np.array(one, np.float32).reshape(1, 3, 1, 1) * 255 for one in norm)
        constants = dict(mean=mean, std=std, kernel=self.kernel, second=self.second, weight=weight, bias=bias)
        node, nodes, at = helper.make_node, [], 'images'
        if floats is None:
            nodes += [node('Cast', ['images'], ['cast'], to=TensorProto.FLOAT),
                      node('Transpose', ['cast'], ['first'], perm=[0, 3, 1, 2]),
                      node('Sub', ['first', 'mean'], ['shifted']),
                      node('Div', ['shifted', 'std'], ['scaled'])]  # fmt: skip
            at = 'scaled'
        nodes += [
            node('Conv', [at, 'kernel'], ['a'], strides=[2, 2]), node('Relu', ['a'], ['b']),
            node('Conv', ['b', 'second'], ['c'], strides=[2, 2]), node('Relu', ['c'], ['d']),
            node('GlobalAveragePool', ['d'], ['e']), node('Flatten', ['e'], ['embedding']),
            node('Gemm', ['embedding', 'weight', 'bias'], ['logits']),
            node('Softmax', ['logits'], ['probabilities' if softmax == 1 else 'f'], axis=1),
        ]  # fmt: skip
        if softmax == 2:
            nodes.append(node('Softmax', ['f'], ['probabilities'], axis=1))
        shape = ['N', size, size, 3] if floats is None else ['N', 3, size, size]
        kind = TensorProto.UINT8 if floats is None else TensorProto.FLOAT
        graph = helper.make_graph(
            nodes, 'network', [helper.make_tensor_value_info('images', kind, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ['N', count])
             for name, count in (('logits', len(CLASSES)), ('probabilities', len(CLASSES)), ('embedding', 32))],
            [numpy_helper.from_array(value, name) for name, value in constants.items()
             if floats is None or name not in ('mean', 'std')],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=9)
        onnx.save(model, str(path))


def run_onnx(path, batch):
    """Return the outputs by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, {'images': batch}), strict=True))


def make_artifact(folder, size=32, steps=None, calibrated=True, decode=None):
    """Write an artifact to a new folder; return it with its network."""
    folder = Path(folder)
    (folder / 'golden').mkdir(parents=True)
    steps, decode = steps or crop_steps(size), decode or DECODE
    images = golden_images()
    for name, content in images.items():
        (folder / 'golden' / name).write_bytes(content)
    paths = [folder / 'golden' / name for name in images]
    batch = np.stack([runtime.prepare_image(runtime.read_image(path, decode), steps) for path in paths])
    network = Network()
    network.onnx(folder / 'model.onnx', size)
    network.bias = -run_onnx(folder / 'model.onnx', batch)['logits'].mean(0)  # each class is the answer for some
    network.onnx(folder / 'bare.onnx', size, merged=False)
    network.onnx(folder / 'model.onnx', size)
    outputs = run_onnx(folder / 'model.onnx', batch)
    bare = run_onnx(folder / 'bare.onnx', batch)
    (folder / 'bare.onnx').unlink()
    np.savez_compressed(
        folder / 'golden' / 'golden.npz', names=np.array(list(images)), input=batch, **outputs,
        **{f'mistake/adapter/{name}': value for name, value in bare.items()},
    )  # fmt: skip
    for file in SHIPPED.glob('*.py'):
        if file.name != '__init__.py':
            shutil.copyfile(file, folder / file.name)
    calibration = dict(
        format='hybridcls calibration', version=1, checkpoint='best.pth', weights_sha256='0', classes=CLASSES,
        scaling=dict(kind='temperature', temperature=TEMPERATURE),
        risk=dict(risk=0.1, confidence=0.9, threshold=THRESHOLD), sets=None,
    )  # fmt: skip
    sidecar = dict(
        format='hybridcls artifact', version=1,
        model=dict(
            file='model.onnx', format='onnx', dtype='float32', opset=20,
            input=dict(name='images', dtype='uint8', shape=['N', size, size, 3], colors='RGB'),
            outputs={name: dict(shape=['N', *value.shape[1:]]) for name, value in outputs.items()},
            normalization=dict(images=dict(mean=MEAN, std=STD)), levers=dict(lora='merged'),
        ),
        preprocessing=dict(decode=decode, steps=steps, size=[size, size]),
        classes=CLASSES, folders=None, multi_label=False, class_thresholds=None, heads=None,
        calibration=calibration if calibrated else None, provenance=dict(weights_sha256='0'),
        golden=dict(folder='golden', file='golden/golden.npz', own=False, images=list(images)),
    )  # fmt: skip
    write_sidecar(folder, sidecar)
    return folder, network


def write_sidecar(folder, sidecar):
    """Write model.json with the digests of all files as they are."""
    files = {
        path.relative_to(folder).as_posix(): dict(sha256=runtime.file_digest(str(path)), bytes=path.stat().st_size)
        for path in sorted(folder.rglob('*'))
        if path.is_file() and path.name != 'model.json' and '__pycache__' not in path.parts
    }
    (folder / 'model.json').write_text(json.dumps({**sidecar, 'files': files}))
