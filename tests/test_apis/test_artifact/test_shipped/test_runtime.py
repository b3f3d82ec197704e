"""What runs in an artifact computes what hybridcls does: pixels, answers and errors, without torch."""

import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmpretrain.structures import DataSample
from PIL import Image

from hybridcls.apis.artifact.preprocessing import preprocessing_of_transforms
from hybridcls.apis.artifact.shipped import runtime
from hybridcls.datasets import image_formats
from hybridcls.datasets.image_files import files_below
from hybridcls.datasets.image_formats import readable_extensions
from hybridcls.datasets.transforms import LoadImage
from hybridcls.models.classifiers.calibrated_predictions import calibrate_predictions
from hybridcls.structures import Calibration

CLASSES = ['ant', 'bee', 'cow']
SIDES = st.sampled_from((1, 2, 3, 4, 5, 8, 17, 31, 32, 33, 64, 97, 130))


def decode_of(**options):
    return preprocessing_of_transforms([LoadImage(**options), _Sized()])['decode']


class _Sized:
    """Stands for a resizing, which these tests do not need."""

    def __new__(cls):
        from hybridcls.datasets.transforms import ResizeToSize

        return ResizeToSize(8)


def picture(height=37, width=50, channels=3, dtype=np.uint8):
    """Ramps and a rectangle of noise."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([(x * 5 + y * 3 * k) % 256 for k in range(1, channels + 1)], 2)
    pixels[5:20, 7:30] = np.random.default_rng(0).integers(0, 256, (15, 23, channels))
    return (pixels * (257 if dtype == np.uint16 else 1)).astype(dtype)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_opencv(pixels, extension, *flags):
    return cv2.imencode(extension, pixels, list(flags))[1].tobytes()


def odd_files():
    """Files of all the kinds that LoadImage knows, by name."""
    color, inks = Image.fromarray(picture()), Image.fromarray(picture(channels=4), 'CMYK')
    palette, grey = color.quantize(16), color.convert('L')
    files = {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ('JPEG', 'PNG', 'TIFF'):
            files[f'turned_{orientation}.{kind}'] = encoded(color, kind, exif=exif)
        files[f'turned_{orientation}.WEBP'] = encoded(color, 'WEBP', exif=exif, lossless=True)
    for halving in ('4:4:4', '4:2:2', '4:2:0', '4:1:1'):
        files[f'{halving}.jpg'] = encoded(color, 'JPEG', subsampling=halving, progressive=halving == '4:2:2')
    files['inks.jpg'], files['inks.tiff'] = encoded(inks, 'JPEG'), encoded(inks, 'TIFF')
    start = files['inks.jpg'].find(b'Adobe') - 4
    files['inks_unmarked.jpg'] = files['inks.jpg'][:start] + files['inks.jpg'][start + 16 :]
    for kind in ('PNG', 'JPEG', 'TIFF', 'BMP', 'GIF', 'PPM'):
        files[f'grey.{kind}'] = encoded(grey, kind)
    for kind in ('PNG', 'TIFF', 'BMP', 'WEBP'):
        files[f'transparent.{kind}'] = encoded(Image.fromarray(picture(channels=4)), kind)
    files['grey_transparent.png'] = encoded(Image.fromarray(picture(channels=2)), 'PNG')
    files['palette.png'], files['black_white.png'] = encoded(palette, 'PNG'), encoded(color.convert('1'), 'PNG')
    files['palette_hole.png'] = encoded(palette, 'PNG', transparency=2)
    files['palette_opacities.png'] = encoded(palette, 'PNG', transparency=bytes(range(0, 256, 16)))
    files['color_hole.png'] = encoded(color, 'PNG', transparency=(5, 5, 5))
    for name, channels in (('grey', 1), ('color', 3), ('transparent', 4)):
        deep = picture(channels=channels, dtype=np.uint16)
        for number, line_filter in enumerate((8, 16, 32, 64, 128, 248)):  # each of PNG's five, and all
            files[f'deep_{name}_{number}.png'] = by_opencv(deep, '.png', cv2.IMWRITE_PNG_FILTER, line_filter)
    files['deep.tiff'] = by_opencv(picture(channels=1, dtype=np.uint16), '.tiff')
    files['deep.pgm'] = by_opencv(picture(channels=1, dtype=np.uint16), '.pgm')
    return files


FILES = odd_files()


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(transparency='drop', depth='max'),
        dict(transparency=(10, 20, 30), depth=16),
        dict(color_type='color_ignore_orientation'),
        dict(imdecode_backend='pillow'),
    ],
    ids=str,
)
def test_every_file_has_the_pixels_of_load_image(options):
    loader, decode = LoadImage(**options), decode_of(**options)
    for name, content in FILES.items():
        expected = loader(dict(img=content))['img'][..., ::-1]
        assert np.array_equal(runtime.read_image(content, decode), expected), name


def test_files_of_old_models_have_their_pixels_or_are_refused():
    loader, decode, refused = LoadImage(version=1), decode_of(version=1), set()
    for name, content in FILES.items():
        try:
            pixels = runtime.read_image(content, decode)
        except ValueError as error:
            refused.add(str(error).split(' is not supported')[0].split(': ')[-1])
            continue
        assert np.array_equal(pixels, loader(dict(img=content))['img'][..., ::-1]), name
    assert refused == {'TIFF', 'GIF', 'PPM'}


def test_images_in_memory():
    decode = decode_of()
    pixels = picture()
    for image in (pixels, Image.fromarray(pixels), encoded(Image.fromarray(pixels), 'PNG')):
        assert np.array_equal(runtime.read_image(image, decode), pixels)
    assert np.array_equal(runtime.read_image(pixels[..., 0], decode)[..., 2], pixels[..., 0])
    half = np.dstack([np.zeros((4, 4, 3)), np.full((4, 4), 128)]).astype(np.uint8)
    assert runtime.read_image(half, decode)[0, 0].tolist() == [127, 127, 127]  # half black, half the white background


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (b'no image at all', 'are not an image'),
        (b'', 'are not an image'),
        (FILES['4:2:0.jpg'][:-300], 'truncated'),
        (encoded(Image.fromarray(np.zeros((9, 9), np.float32)), 'TIFF'), '32'),
        (by_opencv(np.full((9, 9, 3), 900, np.uint16), '.png'), 'at most 900'),
        (by_opencv(picture(dtype=np.uint16), '.tiff'), 'save it as PNG'),
        (encoded(Image.fromarray(picture(), 'LAB'), 'TIFF'), 'LAB'),  # OpenCV reads other colours
        (encoded(Image.fromarray(picture()).convert('YCbCr'), 'TIFF'), 'YCbCr'),
    ],
)
def test_an_unreadable_image_is_named(tmp_path, content, said):
    file = tmp_path / 'broken.jpg'
    file.write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        runtime.read_image(file, decode_of())
    assert str(file) in str(caught.value)
    with pytest.raises(ValueError, match=r'cannot read \S*nowhere.png: No such file'):
        runtime.read_image(tmp_path / 'nowhere.png', decode_of())


def test_arrays_that_are_no_images_are_refused():
    with pytest.raises(ValueError, match=r'uint8 \(H, W, 3\) RGB, got float64 \(4, 4, 3\)'):
        runtime.read_image(np.zeros((4, 4, 3)), decode_of())
    with pytest.raises(TypeError, match='got int'):
        runtime.read_image(7, decode_of())


CV2 = dict(nearest=cv2.INTER_NEAREST, bilinear=cv2.INTER_LINEAR, area=cv2.INTER_AREA, bicubic=cv2.INTER_CUBIC)


@settings(max_examples=150, deadline=None)
@given(height=SIDES, width=SIDES, new_height=SIDES, new_width=SIDES, kind=st.sampled_from(sorted(CV2)))
def test_resized_pixels_are_those_of_opencv(height, width, new_height, new_width, kind):
    """All of them; with 'bicubic' in floats, as Intel's library adds them up, a few are off by one level."""
    image = np.random.default_rng(height * width + new_height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    arithmetic = preprocessing_of_transforms([LoadImage(), _cubic()])['steps'][0]['arithmetic']
    step = dict(library='cv2', filter=kind, arithmetic=arithmetic)
    off = runtime.resize(image, new_height, new_width, step).astype(int)
    off -= cv2.resize(image, (new_width, new_height), interpolation=CV2[kind])
    allowed = 1e-4 * off.size + 8 if (kind, arithmetic) == ('bicubic', 'float') else 0
    assert np.abs(off).max() <= 1
    assert (off != 0).sum() <= allowed


def _cubic():
    from hybridcls.datasets.transforms import ResizeToSize

    return ResizeToSize(8, interpolation='bicubic')


def test_bicubic_pixels_without_intels_library(tmp_path):
    """As on other processors: OpenCV's own arithmetic, to the bit."""
    program = tmp_path / 'program.py'
    program.write_text(
        'import sys, cv2, numpy as np\n'
        f'sys.path.insert(0, {str(Path(runtime.__file__).parent)!r})\n'
        'import runtime\n'
        'draw = np.random.default_rng(0)\n'
        'for _ in range(60):\n'
        '    height, width, high, wide = map(int, draw.integers(1, 90, 4))\n'
        '    image = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)\n'
        "    step = dict(library='cv2', filter='bicubic', arithmetic='fixed')\n"
        '    expected = cv2.resize(image, (wide, high), interpolation=cv2.INTER_CUBIC)\n'
        '    assert (runtime.resize(image, high, wide, step) == expected).all(), (height, width, high, wide)\n'
    )
    done = subprocess.run([sys.executable, str(program)], env=dict(OPENCV_IPP='disabled'), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_an_image_that_would_vanish_is_refused():
    step = dict(op='resize_edge', edge='long', size=4, filter='bilinear', library='cv2')
    with pytest.raises(ValueError, match='500 x 1 would become 4 x 0'):
        runtime.prepare_image(np.zeros((1, 500, 3), np.uint8), [step])


def samples_of(scores):
    return [DataSample().set_pred_score(score).set_pred_label(score.argmax()) for score in scores]


SCALINGS = {
    'none': {},
    'temperature': dict(temperature=1.7),
    'vector': dict(weight=[0.7, 1.3, 1.0], bias=[0.2, -0.3, 0.1]),
    'isotonic': dict(functions=[[[0.1, 0.5, 0.9], [0.0, 0.4, 0.8]], [[0.2, 0.6], [0.3, 0.9]], [[0.0, 1.0], [0.0, 1.0]]],
                     own_share=0.05),
}  # fmt: skip


@pytest.mark.parametrize('kind', SCALINGS)
def test_answers_after_a_calibration_are_those_of_predict(kind):
    scores = torch.from_numpy(np.random.default_rng(1).dirichlet([0.4, 0.4, 0.4], 200)).float()
    scores[0] = torch.tensor([1.0, 0.0, 0.0])
    scores[1] = torch.tensor([0.4, 0.4, 0.2])
    calibration = Calibration('a.pth', '', CLASSES, dict(kind=kind, **SCALINGS[kind]),
                              risk=dict(threshold=0.6), sets=dict(threshold=0.2))  # fmt: skip
    sidecar = dict(classes=CLASSES, multi_label=False, calibration=calibration.to_json())
    answers = model_of(sidecar).decide(dict(probabilities=scores.numpy()))
    assert {answer['answered'] for answer in answers} == {True, False}
    for answer, sample in zip(answers, calibrate_predictions(samples_of(scores), calibration), strict=True):
        best = CLASSES[sample.pred_label]
        assert answer['class'] == (best if sample.answered else 'unknown')
        assert answer['answered'] == bool(sample.answered)
        assert answer['top'][0] == [best, answer['probability']]
        assert answer['prediction_set'] == [CLASSES[one] for one in sample.prediction_set]
        np.testing.assert_allclose(answer['probability'], float(sample.pred_score.max()), atol=1e-7)


def model_of(sidecar):
    """A model without a graph."""
    model = runtime.Model.__new__(runtime.Model)
    model.sidecar, model.classes, model.enrolled = sidecar, sidecar['classes'], None
    return model


def test_several_labels_an_image():
    sidecar = dict(classes=CLASSES, multi_label=True, class_thresholds=[0.5, 0.25, 0.9])
    outputs = dict(probabilities=np.array([[0.5, 0.3, 0.8], [0.1, 0.2, 0.3]], np.float32))
    assert [answer['class'] for answer in model_of(sidecar).decide(outputs)] == ['ant|bee', '']


def test_several_heads_and_uncertainties():
    heads = dict(
        a=dict(classes=CLASSES, multi_label=False, main=True),
        b=dict(classes=['x', 'y'], multi_label=False, main=False),
        c=dict(classes=[], multi_label=False, main=False),  # SupCon: it has the embedding of all
    )
    calibration = Calibration('a.pth', '', CLASSES, dict(kind='temperature', temperature=0.5)).to_json()
    outputs = {
        'probabilities': np.array([[0.8, 0.1, 0.1]]), 'a.probabilities': np.array([[0.8, 0.1, 0.1]]),
        'b.probabilities': np.array([[0.3, 0.7]]), 'b.vacuity': np.array([0.25]), 'embedding': np.zeros((1, 4)),
    }  # fmt: skip
    answer = model_of(dict(classes=CLASSES, multi_label=False, heads=heads, calibration=calibration)).decide(outputs)[0]
    assert answer['heads']['b'] == {'class': 'y', 'probability': 0.7, 'top': [['y', 0.7], ['x', 0.3]], 'vacuity': 0.25}
    assert answer['probability'] == answer['heads']['a']['probability'] > 0.9
    assert answer['heads']['c'] == {}
    assert 'vacuity' not in answer
    assert 'embedding' not in answer


def test_embeddings_are_the_answer_of_a_model_without_classes():
    answer = model_of(dict(classes=[], multi_label=False)).decide(dict(embedding=np.ones((1, 2))))[0]
    assert answer == dict(embedding=[1.0, 1.0])


def test_a_graph_of_a_fixed_batch_gets_full_batches():
    model, seen = model_of(dict(classes=[], model=dict(input=dict(shape=[4, 2, 2, 3])))), []

    def run(batch):
        seen.append(len(batch))
        return dict(embedding=batch.reshape(len(batch), -1).astype(np.float32))

    model._run = run
    batch = np.arange(6 * 12, dtype=np.uint8).reshape(6, 2, 2, 3)
    assert np.array_equal(model.run(batch)['embedding'], batch.reshape(6, 12))
    assert seen == [4, 4]


@pytest.fixture
def artifact(tmp_path):
    """A folder whose files are of no model: what is checked before the graph is opened."""
    (tmp_path / 'model.onnx').write_bytes(b'graph')
    (tmp_path / 'golden').mkdir()
    (tmp_path / 'golden' / 'a.png').write_bytes(b'image')
    files = {
        name: dict(sha256=runtime.file_digest(str(tmp_path / name)), bytes=(tmp_path / name).stat().st_size)
        for name in ('model.onnx', 'golden/a.png')
    }
    outputs = dict(probabilities=dict(shape=['N', 3]))
    model = dict(file='model.onnx', format='onnx', outputs=outputs, input=dict(name='images', shape=['N', 2, 2, 3]))
    calibration = Calibration('epoch_1.pth', 'abc', CLASSES, dict(kind='none')).to_json()
    write(tmp_path, dict(format='hybridcls artifact', version=1, model=model, classes=CLASSES, files=files,
                         calibration=calibration, preprocessing={}, provenance=dict(weights_sha256='abc')))  # fmt: skip
    return tmp_path


def write(folder, sidecar):
    (folder / 'model.json').write_text(json.dumps(sidecar))


def change(folder, **changes):
    write(folder, json.loads((folder / 'model.json').read_text()) | changes)


def test_a_whole_artifact_is_read(artifact):
    assert runtime.read_sidecar(artifact)['classes'] == CLASSES


def test_changed_and_missing_files_are_all_named(artifact):
    (artifact / 'model.onnx').write_bytes(b'grapf')
    shutil.rmtree(artifact / 'golden')
    with pytest.raises(ValueError, match=r'model.onnx has changed; golden/a.png is missing'):
        runtime.Model(artifact)
    runtime.read_sidecar(artifact, check_files=False)


def test_a_file_outside_is_no_file_of_an_artifact(artifact, tmp_path):
    known = json.loads((artifact / 'model.json').read_text())['files']
    for name in ('../model.onnx', '/etc/hostname', 'golden/../../x'):
        change(artifact, files=known | {name: dict(sha256='', bytes=0)})
        with pytest.raises(ValueError, match='lies outside the artifact'):
            runtime.read_sidecar(artifact)
    del known['model.onnx']
    change(artifact, files=known)
    with pytest.raises(ValueError, match=r'model.onnx is not listed'):
        runtime.read_sidecar(artifact)


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        (dict(version=2), 'has version 2, this runtime reads version 1'),
        (dict(format='zip'), 'is not the sidecar'),
        (
            dict(classes=['ant', 'cow', 'bee']),
            'the calibration is for the classes ant, bee, cow, the model has',
        ),
        (dict(classes=[*CLASSES, 'dog']), 'names 4 classes, its graph has 3'),
        (dict(provenance=dict(weights_sha256='abd')), r'for the weights of another checkpoint \(epoch_1.pth\)'),
    ],
)
def test_a_sidecar_that_does_not_fit_is_refused(artifact, changes, said):
    change(artifact, **changes)
    with pytest.raises(ValueError, match=said):
        runtime.read_sidecar(artifact)


def test_a_damaged_or_missing_sidecar(artifact, tmp_path):
    (artifact / 'model.json').write_text('{"format": ')
    with pytest.raises(ValueError, match=r'model.json is damaged'):
        runtime.read_sidecar(artifact)
    with pytest.raises(ValueError, match=r'Is \S*nowhere the folder of an artifact'):
        runtime.read_sidecar(tmp_path / 'nowhere')


@pytest.mark.parametrize('key', ['model', 'classes', 'calibration', 'provenance', 'files', 'digests'])
@pytest.mark.parametrize('value', [None, 3, 'x'])
def test_a_part_of_another_type_is_a_sentence(artifact, key, value):
    change(artifact, **{key: value})
    if value is None and key in ('calibration', 'digests'):  # an artifact without it is one, too
        runtime.read_sidecar(artifact)
        return
    with pytest.raises(ValueError, match=r'model\.json|is not as it was exported'):
        runtime.read_sidecar(artifact)


@pytest.mark.parametrize('lost', [('files', 'model.onnx', 'sha256'), ('files', 'model.onnx', 'bytes')])
def test_a_lost_digest_is_a_changed_file(artifact, lost):
    sidecar = json.loads((artifact / 'model.json').read_text())
    del sidecar[lost[0]][lost[1]][lost[2]]
    change(artifact, files=sidecar['files'])
    with pytest.raises(ValueError, match=r'model\.onnx has changed'):
        runtime.read_sidecar(artifact)


@pytest.mark.parametrize(('kind', 'package'), [('openvino', 'openvino'), ('torch_export', 'torch')])
def test_a_format_says_what_it_needs(artifact, monkeypatch, kind, package):
    model = json.loads((artifact / 'model.json').read_text())['model']
    change(artifact, model=model | dict(format=kind))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f'needs {package}: pip install {package}'):
        runtime.Model(artifact)
    change(artifact, model=model | dict(format='tflite'))
    with pytest.raises(ValueError, match="expected the format onnx, openvino, torch_export, got 'tflite'"):
        runtime.Model(artifact)


def test_a_batch_has_images():
    with pytest.raises(ValueError, match='at least 1, got 0'):
        model_of(dict(classes=[])).predict([], batch_size=0)


def _npy(header_shape, content=b''):
    """An array's file whose header promises a shape."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {header_shape}, }}".encode()
    head += b' ' * (63 - (10 + len(head)) % 64) + b'\n'
    return b'\x93NUMPY\x01\x00' + len(head).to_bytes(2, 'little') + head + content


@pytest.mark.parametrize(('name', 'said'), [
    ('promises', 'Unable to allocate'), ('bomb', r'at most 1 MiB of arrays, got 2'), ('pickle', 'allow_pickle'),
    ('single', 'or not a file of arrays'), ('empty', 'or not a file of arrays'), ('no zip', 'or not a file of arrays'),
])  # fmt: skip
def test_arrays_that_would_fill_memory_or_run_code_are_refused(name, said, tmp_path):
    path = tmp_path / 'arrays.npz'
    single = {'single': _npy((2,), bytes(8)), 'empty': b'', 'no zip': b'PK\x03\x04 nothing'}
    if name in single:
        path.write_bytes(single[name])
    elif name == 'pickle':
        np.savez(path, names=np.array([{}], object))
    else:
        shape = (10**13,) if name == 'promises' else (2**19,)
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
            file.writestr('names.npy', _npy(shape, bytes(2**21 if name == 'bomb' else 0)))
    with pytest.raises(ValueError, match=said):
        runtime.read_arrays(str(path), most=1 << 20)


def test_images_below_a_folder_are_those_of_a_training(tmp_path):
    assert {*runtime.EXTENSIONS} == {one for endings in image_formats._FORMATS.values() for one in endings}
    below = ['a.JPG', 'b/c.png', 'notes.pdf', 'film.mpg', '._a.jpg', '.cache/d.png', '__MACOSX/e.png', 'b/.f.png']
    for name in below:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'd').symlink_to(tmp_path / 'b')
    (tmp_path / 'b' / 'up').symlink_to(tmp_path)
    (tmp_path / 'b' / 'here').symlink_to(tmp_path / 'b')
    expected, _ = files_below(str(tmp_path), readable_extensions())
    assert expected == ['a.JPG', 'b/c.png', 'd/c.png']
    assert runtime.image_files(str(tmp_path)) == [str(tmp_path / name) for name in expected]


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--top-k', '0'], '--top-k of at least 1, got 0'),
        (['--alarm', '--state', 'nowhere/state.json'], 'nowhere/state.json cannot be written'),
        (['--state', 'state.json'], '--state needs --alarm'),
    ],
)
def test_options_are_checked_before_images_are_read(monkeypatch, capsys, options, said):
    monkeypatch.setattr(sys, 'argv', ['runtime.py', 'a.jpg', *options])
    with pytest.raises(SystemExit, match='2'):
        runtime.main()
    assert said in capsys.readouterr().err
