"""Right and wrong preprocessing of users: what is wrong is named, and nothing else."""

import json
from pathlib import Path

import cv2
import hand_made_artifact as made
import numpy as np
import pytest
from PIL import Image, ImageOps
from planted_mistakes import (
    MEAN,
    STD,
    coarse_chroma,
    crop,
    dropped_alpha,
    four_channels,
    half_size,
    inks_as_colors,
    is_jpeg,
    load,
    normalized,
    opencv_crop,
    single_channel,
    torch_crop,
)  # fmt: skip

from hybridcls.apis.artifact.shipped import runtime
from hybridcls.apis.artifact.shipped.input_check import Explainer
from hybridcls.apis.artifact.shipped.verify import collect, read_golden

S = 32
RESAMPLING = Image.Resampling


@pytest.fixture(scope='module')
def artifact(tmp_path_factory):
    folder, _ = made.make_artifact(tmp_path_factory.mktemp('artifact') / 'A', S)
    sidecar = json.loads((folder / 'model.json').read_text())
    goldens, _ = read_golden(str(folder), sidecar)
    return goldens, sidecar


@pytest.fixture(scope='module')
def explainer(artifact):
    """One for all, since it remembers what it has simulated."""
    return Explainer(*artifact)


def names_of(artifact, pipeline, explainer=None, **options):
    goldens, sidecar = artifact
    explainer = explainer or Explainer(goldens, sidecar, **options)
    return [one.name for one in explainer.explain(collect(pipeline, goldens)).findings]


def right(path):
    return crop(load(path), S)


def moved(path):
    """Crop a pixel below the middle, and one to its right."""
    return crop(load(path), S, middle=lambda margin: round(margin) + 1)


def stretched(path):
    return np.asarray(load(path).resize((S, S), RESAMPLING.BICUBIC))


WRONG = {
    'BGR': (lambda path: right(path)[..., ::-1], ['BGR']),
    'green first': (lambda path: right(path)[..., [1, 0, 2]], ['channel order']),
    'nearest': (lambda path: crop(load(path), S, filter=RESAMPLING.NEAREST), ['filter']),
    'bilinear': (lambda path: crop(load(path), S, filter=RESAMPLING.BILINEAR), ['filter']),
    'lanczos': (lambda path: crop(load(path), S, filter=RESAMPLING.LANCZOS), ['filter']),
    'OpenCV bilinear': (lambda path: opencv_crop(np.asarray(load(path)), S, 0.875, cv2.INTER_LINEAR), ['filter']),
    'OpenCV bicubic': (lambda path: opencv_crop(np.asarray(load(path)), S, 0.875, cv2.INTER_CUBIC), ['antialias']),
    'OpenCV area': (lambda path: opencv_crop(np.asarray(load(path)), S, 0.875, cv2.INTER_AREA), ['filter']),
    'torch without antialias': (lambda path: torch_crop(path, S, antialias=False).permute(1, 2, 0), ['antialias']),
    'whole image': (stretched, ['no crop']),
    'ratio 1': (lambda path: crop(load(path), S, 1.0), ['crop ratio']),
    'ratio 0.78': (lambda path: crop(load(path), S, 0.78), ['crop ratio']),
    'no resize': (lambda path: opencv_crop(np.asarray(ImageOps.pad(load(path), (S, S))), S, 1, 0), ['padding']),
    'letterbox': (lambda path: np.asarray(ImageOps.pad(load(path), (S, S), RESAMPLING.BICUBIC, color=(114,) * 3)),
                  ['padding']),
    'corner': (lambda path: crop(load(path), S, middle=lambda margin: 0), ['crop position']),
    'no mean': (lambda path: normalized(right(path), mean=0), ['mean']),
    'no std': (lambda path: normalized(right(path), std=1), ['std']),
    'mean of another': (lambda path: normalized(right(path), mean=MEAN + 0.02), ['mean']),
    'std of another': (lambda path: normalized(right(path), std=STD * 1.1), ['std']),
    'statistics of 0.5': (lambda path: normalized(right(path), 0.5, 0.5), ['normalization']),
    'statistics of CLIP': (
        lambda path: normalized(right(path), [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
        ['mean and std']),
    'statistics reversed': (lambda path: normalized(right(path), MEAN[::-1], STD[::-1]), ['mean and std']),
    'normalized twice': (lambda path: normalized(normalized(right(path)) * 255), ['normalization']),
    'normalized 0..255': (lambda path: normalized(right(path) * 255.0), ['range']),
    '0..1': (lambda path: right(path) / np.float32(255), ['range']),
    '0..1 as bytes': (lambda path: (right(path) / 255).astype(np.uint8), ['range']),
    'normalized as bytes': (lambda path: normalized(right(path)).astype(np.int64).astype(np.uint8), ['dtype']),
    'size': (lambda path: crop(load(path), S + 8, 40 / 45), ['size']),
    'own sizes': (lambda path: np.asarray(load(path)), ['size']),
    'NCHW': (lambda path: right(path).transpose(2, 0, 1), ['layout']),
    'reshaped': (lambda path: normalized(right(path)).reshape(1, 3, S, S), ['layout']),
    'by 256': (lambda path: normalized(right(path) * (255 / 256)), ['range']),
    'moved by a pixel': (moved, ['crop position']),
    'pixels as int8': (lambda path: right(path).astype(np.int8), ['dtype']),
    '-128..127': (lambda path: (right(path) - 128.0).astype(np.int8), ['range']),
    'turned by 180': (lambda path: right(path)[::-1, ::-1], ['rotation']),
    'turned left': (lambda path: np.rot90(right(path)), ['rotation']),
    'turned right': (lambda path: np.rot90(right(path), -1), ['rotation']),
    'grey of other weights': (
        lambda path: np.repeat(right(path).mean(2, keepdims=True), 3, axis=2), ['grey', 'unexplained']),
    'mirrored': (lambda path: right(path)[:, ::-1], ['flip']),
    'transposed': (lambda path: right(path).transpose(1, 0, 2), ['transpose']),
    'inverted': (lambda path: 255 - right(path), ['inverted']),
    'EXIF': (lambda path: crop(load(path, exif=False), S), ['exif']),
    'alpha on black': (lambda path: crop(load(path, background=(0, 0, 0)), S), ['alpha']),
    'alpha on grey': (lambda path: crop(load(path, background=(128,) * 3), S), ['alpha']),
    'alpha dropped': (lambda path: dropped_alpha(path, S), ['alpha']),
    'alpha kept': (lambda path: four_channels(path, S), ['alpha']),
    'inks': (lambda path: inks_as_colors(path, S), ['cmyk']),
    'grey has one channel': (lambda path: single_channel(path, S), ['grey']),
    'all grey': (lambda path: crop(load(path).convert('L').convert('RGB'), S), ['grey']),
    'half JPEG': (lambda path: half_size(path, S), ['JPEG decoder']),
    'chroma': (lambda path: crop(coarse_chroma(load(path)) if is_jpeg(path) else load(path), S), ['JPEG decoder']),
    'BGR and bilinear': (lambda path: crop(load(path), S, filter=RESAMPLING.BILINEAR)[..., ::-1], ['filter', 'BGR']),
    'BGR and EXIF': (lambda path: crop(load(path, exif=False), S)[..., ::-1], ['BGR', 'exif']),
    'BGR, ratio and statistics': (lambda path: normalized(crop(load(path), S, 1.0)[..., ::-1], 0.5, 0.5),
                                  ['crop ratio', 'BGR', 'normalization']),
    'unknown': (lambda path: np.sqrt(right(path) * 255.0).astype(np.uint8)[::2].repeat(2, 0), ['unexplained']),
}  # fmt: skip


@pytest.mark.parametrize('mistake', WRONG)
def test_mistakes_are_named(artifact, explainer, mistake):
    pipeline, expected = WRONG[mistake]
    assert names_of(artifact, pipeline, None if 'size' in expected else explainer) == expected


def _tensor(path):
    import torch

    return torch.from_numpy(right(path).copy())


def _numpy_twin(steps):
    """The artifact's own runtime as a user's pipeline."""
    return lambda path: runtime.prepare_image(runtime.read_image(path, made.DECODE), steps)


def _by_opencv(path):
    """Decode by OpenCV what is opaque and has 8 bits."""
    image = Image.open(path)
    if image.mode in ('RGB', 'L', 'CMYK') and 'transparency' not in image.info:
        return crop(Image.fromarray(cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]), S)
    return right(path)


# Containers, types and layouts that hold the same pixels
HOLDERS = {
    'array': lambda x: x, 'list': lambda x: x.tolist(), 'batch': lambda x: x[None], 'image': Image.fromarray,
    'int64': lambda x: x.astype(np.int64), 'float32': lambda x: x.astype(np.float32), 'float64': lambda x: x * 1.0,
    'dict': lambda x: {'pixel_values': x[None]}, 'tuple': lambda x: (x,),
    'not contiguous': lambda x: np.asfortranarray(x),
    'normalized': normalized, 'normalized NCHW': lambda x: normalized(x).transpose(2, 0, 1),
    'normalized batch': lambda x: normalized(x).transpose(2, 0, 1)[None],
    'normalized 16': lambda x: normalized(x).astype(np.float16),
    'by 255 levels': lambda x: ((x - MEAN * 255) / (STD * 255)).astype(np.float32),
}  # fmt: skip
WAYS = {
    'Pillow': right, 'OpenCV decodes': _by_opencv, 'runtime': _numpy_twin(made.crop_steps(S)),
    'torchvision': lambda path: torch_crop(path, S).permute(1, 2, 0).numpy(),
    'rounded up': lambda path: crop(load(path), S, round_=round),
    'crop rounded down': lambda path: crop(load(path), S, middle=int),
}  # fmt: skip
RIGHT = {f'{way}, {holder}': (WAYS[way], HOLDERS[holder]) for way in WAYS for holder in HOLDERS}
RIGHT['torch uint8'] = (_tensor, lambda x: x)
RIGHT['torch normalized'] = (
    _tensor,
    lambda x: ((x / 255 - x.float().new_tensor(MEAN)) / x.float().new_tensor(STD)).permute(2, 0, 1)[None],
)
RIGHT['torch bfloat16'] = (_tensor, lambda x: x.bfloat16())
RIGHT['torchvision floats'] = (
    lambda path: torch_crop(path, S, floats=True),
    lambda x: ((x.permute(1, 2, 0) - x.new_tensor(MEAN)) / x.new_tensor(STD))
)  # fmt: skip
RIGHT['torchvision floats, 0..255'] = (
    lambda path: torch_crop(path, S, floats=True), lambda x: x.permute(1, 2, 0).mul(255)
)  # fmt: skip
RIGHT['rounded down'] = (right, lambda x: (x + 0.4).astype(np.uint8))


def test_right_pipelines_are_not_blamed(artifact, explainer):
    blamed = {}
    seen = {}
    for name, (way, holder) in RIGHT.items():
        if way not in seen:
            seen[way] = {golden.path: way(golden.path) for golden in artifact[0]}
        found = names_of(artifact, lambda path, way=way, holder=holder: holder(seen[way][path]), explainer)
        blamed |= {name: found} if found else {}
    assert len(RIGHT) >= 50
    assert blamed == {}


@pytest.mark.parametrize(('steps', 'wrong', 'expected'), [
    ([dict(op='resize', size=[S, S], filter='bilinear', library='cv2')],
     lambda path: np.asarray(load(path).resize((S, S), RESAMPLING.BILINEAR)), ['antialias']),
    ([dict(op='resize', size=[S, S], filter='bilinear', library='cv2')],
     lambda path: opencv_crop(np.asarray(load(path)), S, 0.875, cv2.INTER_LINEAR), ['crop ratio']),
    ([dict(op='resize_edge', edge='short', size=40, filter='area', library='cv2'), dict(op='center_crop', size=[S, S])],
     lambda path: opencv_crop(np.asarray(load(path)), S, S / 40, cv2.INTER_LINEAR), ['filter']),
    ([dict(op='resize_edge', edge='short', size=40, filter='bicubic', library='cv2', arithmetic='float'),
      dict(op='center_crop', size=[S, S])], stretched, ['no crop', 'antialias']),
    ([dict(op='resize', size=[36, 36], filter='bicubic', library='pillow'), dict(op='center_crop', size=[S, S])],
     right, ['crop ratio']),
])  # fmt: skip
def test_other_preprocessing(tmp_path, steps, wrong, expected):
    folder, _ = made.make_artifact(tmp_path / 'A', S, steps)
    sidecar = json.loads((folder / 'model.json').read_text())
    both = (read_golden(str(folder), sidecar)[0], sidecar)
    assert names_of(both, _numpy_twin(steps)) == []
    assert names_of(both, wrong) == expected


@pytest.mark.nightly
def test_a_network_of_224_pixels(tmp_path):
    folder, _ = made.make_artifact(tmp_path / 'A', 224)
    sidecar = json.loads((folder / 'model.json').read_text())
    both = (read_golden(str(folder), sidecar)[0], sidecar)
    assert names_of(both, lambda path: torch_crop(path, 224).permute(1, 2, 0)) == []
    assert names_of(both, lambda path: crop(load(path), 224, filter=RESAMPLING.BILINEAR)[..., ::-1]) == [
        'filter',
        'BGR',
    ]
    assert names_of(both, lambda path: opencv_crop(np.asarray(load(path)), 224, 0.875, cv2.INTER_CUBIC)) == [
        'antialias'
    ]


def test_what_a_pipeline_is_for(artifact):
    assert names_of(artifact, lambda path: right(path) / 255, stage='unit') == []
    assert names_of(artifact, lambda path: right(path) / 255, stage='normalized') == ['normalization']
    assert names_of(artifact, right, stage='normalized') == ['range']
    assert names_of(artifact, lambda path: normalized(right(path)), stage='uint8') == ['normalization']
    assert names_of(artifact, lambda path: normalized(right(path)), layout='NCHW') == ['layout']
    assert names_of(artifact, lambda path: right(path).transpose(2, 0, 1), layout='NCHW') == []


def test_the_message_says_which_images_and_what_to_change(artifact):
    goldens, sidecar = artifact
    found = Explainer(goldens, sidecar).explain(collect(lambda path: crop(load(path, exif=False), S), goldens)).findings
    assert found[0].images == ('turned.jpg',)
    assert 'exif_transpose' in found[0].message

    def fails(path):
        if Path(path).name == 'inks.jpg':
            raise KeyError('CMYK')
        return right(path)

    found = Explainer(goldens, sidecar).explain(collect(fails, goldens)).findings
    assert [one.name for one in found] == ['failure']
    assert found[0].images == ('inks.jpg',)
    assert 'KeyError' in found[0].message
