"""The sheet shows images as the model sees them, in rows, with their labels."""

import io

import numpy as np
import torch
from mmpretrain.structures import DataSample
from PIL import Image
from torch import nn

from hybridcls.apis.doctor.training_images import sheet_of_batches
from hybridcls.models.data_preprocessors.hybrid_data_preprocessor import HybridDataPreprocessor


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert('RGB')).astype(int)


def test_views_stand_side_by_side_in_red_green_blue():
    model = nn.Module()
    model.data_preprocessor = HybridDataPreprocessor(num_classes=2)
    blue, red = (torch.zeros(3, 8, 8, dtype=torch.uint8) for _ in range(2))
    blue[0], red[2] = 255, 255  # BGR, as pipelines give them
    data = dict(inputs=[blue[None], red[None]], data_samples=[DataSample().set_gt_label(1)])
    sheet = pixels(sheet_of_batches([data], model, ['cat', 'dog']))
    assert sheet[70, 70].tolist() == [0, 0, 255]
    assert sheet[70, 70 + 144].tolist() == [255, 0, 0]
    assert (sheet[146:162] < 128).any()  # text


def test_mixed_images_show_both_labels(monkeypatch):
    from hybridcls.apis.doctor import training_images as module

    sample = DataSample().set_gt_label(1).set_gt_score(torch.tensor([0.3, 0.7]))
    assert module._label(sample, ['cat', 'dog']) == '70% dog + 30% cat'
    assert module._label(DataSample(), ['cat']) == 'no label'
