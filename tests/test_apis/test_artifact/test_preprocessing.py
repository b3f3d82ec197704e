"""What a sidecar says of a pipeline gives the pixels of that pipeline."""

import numpy as np
import pytest
from mmcv.transforms import CenterCrop, LoadImageFromFile, Resize
from mmpretrain.datasets.transforms import Normalize, PackInputs, ResizeEdge

from hybridcls.apis.artifact.preprocessing import preprocessing_of_transforms
from hybridcls.apis.artifact.shipped.runtime import prepare_image
from hybridcls.datasets.transforms import CenterCropToSize, LoadImage, ResizeToSize
from hybridcls.datasets.transforms.mark_unknown import MarkUnknown

PIPELINES = {
    'imagenet': [CenterCropToSize(40)],
    'high': [CenterCropToSize((48, 30), crop_pct=0.9, backend='cv2', interpolation='bilinear')],
    'squash': [CenterCropToSize((32, 40), crop_pct=1.0, mode='squash', backend='cv2', interpolation='area')],
    'whole': [ResizeToSize((31, 40))],
    'pillow': [ResizeToSize(40, interpolation='lanczos', backend='pillow')],
    'edge': [ResizeEdge(scale=45, edge='short', backend='cv2', interpolation='bilinear'), CenterCrop(crop_size=40)],
    'edge_pillow': [ResizeEdge(scale=45, backend='pillow', interpolation='bicubic'), CenterCrop(crop_size=(40, 30))],
    'nearest': [Resize(scale=(50, 44), interpolation='nearest'), CenterCrop(crop_size=(80, 21))],
}
SIZES = [(h, w) for h in (1, 7, 40, 45, 64, 150) for w in (1, 8, 40, 45, 81, 301)]


@pytest.mark.parametrize('name', PIPELINES)
def test_the_runtime_gives_the_pixels_of_the_pipeline(name):
    found = preprocessing_of_transforms([LoadImage(), *PIPELINES[name], PackInputs()])
    for number, (height, width) in enumerate(SIZES):
        image = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        sample = dict(img=image)
        for transform in PIPELINES[name]:
            sample = transform(sample)
        got = prepare_image(image, found['steps'])
        assert np.array_equal(got, sample['img']), (height, width)
        assert list(got.shape[:2]) == found['size']


def test_what_is_read_is_said():
    size = ResizeToSize(8)
    decode = preprocessing_of_transforms([LoadImage(transparency=(1, 2, 3), depth=12), size])['decode']
    assert decode['background'] == [3, 2, 1]  # of red, green, blue
    assert decode['depth'] == 12
    assert decode['decoder'].startswith('OpenCV ')
    decode = preprocessing_of_transforms([LoadImage(transparency='black', imdecode_backend='pillow'), size])['decode']
    assert decode['background'] == [0, 0, 0]
    assert decode['decoder'].startswith('Pillow ')
    assert preprocessing_of_transforms([LoadImage(version=1), size])['decode']['background'] is None


def test_labels_are_no_business_of_an_artifact():
    assert preprocessing_of_transforms([LoadImage(), ResizeToSize(8), MarkUnknown(), PackInputs()])['size'] == [8, 8]


@pytest.mark.parametrize(
    ('transforms', 'said'),
    [
        ([LoadImage(), Normalize([0], [1])], 'got Normalize'),
        ([LoadImage(), Resize(scale=(8, 8), keep_ratio=True)], 'got Resize'),
        ([LoadImage(), Resize(scale_factor=0.5)], 'got Resize'),
        ([LoadImage(), ResizeToSize(8), CenterCrop(crop_size=9, auto_pad=True)], 'got CenterCrop'),
        ([LoadImage(), ResizeToSize(8, interpolation='lanczos')], "got 'lanczos'"),
        ([LoadImage(color_type='grayscale'), ResizeToSize(8)], "color_type='color' in LoadImage, got 'grayscale'"),
        ([LoadImage(imdecode_backend='turbojpeg'), ResizeToSize(8)], 'imdecode_backend'),
        ([LoadImage(version=1, imdecode_backend='pillow'), ResizeToSize(8)], 'imdecode_backend'),
        ([LoadImageFromFile(), ResizeToSize(8)], r'got LoadImageFromFile. Write LoadImage\(version=1\)'),
        ([ResizeToSize(8)], 'begins with LoadImage'),
        ([LoadImage(), ResizeEdge(scale=40)], 'gives all images one size'),
        ([LoadImage(), ResizeEdge(scale=40), CenterCrop(crop_size=41)], 'gives all images one size'),
        ([LoadImage(), ResizeEdge(scale=40, edge='long'), CenterCrop(crop_size=30)], 'gives all images one size'),
        ([LoadImage(), CenterCrop(crop_size=30)], 'gives all images one size'),
    ],
)
def test_what_the_runtime_does_not_have_is_refused_by_name(transforms, said):
    with pytest.raises(ValueError, match=said):
        preprocessing_of_transforms(transforms)
