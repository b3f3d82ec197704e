"""Corrupted images are those of the test loop, whoever reads them."""

import numpy as np
import pytest
import torch
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.image_inputs import read_inputs
from hybridcls.apis.report.corrupted_images import corrupted_images, robustness
from hybridcls.apis.report.evaluated_images import evaluate_images
from hybridcls.apis.report.robustness_section import robustness_section
from hybridcls.datasets.transforms import Corrupt


@pytest.fixture(scope='module')
def model(tmp_path_factory, digit_folder):
    cfg = config_of(CNN, LINEAR, digit_folder / 'train')
    path, _ = write_checkpoint(tmp_path_factory.mktemp('w') / 'epoch_1.pth', cfg)
    return hybridcls.load(path, 'cpu')


@pytest.fixture(scope='module')
def items(digit_folder):
    return list(read_inputs(str(digit_folder / 'val')).items)[:6]


def test_they_are_read_as_in_the_test_loop(model, items):
    transforms = list(model.pipeline.transforms)
    found = {(kind, severity): images.scores for kind, severity, images in corrupted_images(
        model, items, ['noise', 'jpeg'], workers=4)}  # fmt: skip
    assert len(found) == 10
    assert model.pipeline.transforms == transforms  # as it was
    for (kind, severity), scores in list(found.items())[::4]:
        samples = []
        for place, item in enumerate(items):
            sample = dict(item.as_sample(), sample_idx=place)
            for transform in [*transforms[:-1], Corrupt(kind, severity), transforms[-1]]:
                sample = transform(sample)
            samples.append(sample)
        with torch.no_grad():
            expected = np.stack([one.pred_score.numpy() for one in model.forward(samples)])
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_row_for_each_severity(model, items):
    known = evaluate_images(model, items)
    told = []
    rows = robustness(model, known, ['blur'], tell=told.append)
    assert [row['severity'] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert len(told) == 5
    assert rows[0]['accuracy'] == 100 * (known.predicted == known.labels).mean()
    assert rows[0]['confidence'] == pytest.approx(100 * known.confidence.mean())
    assert 'unanswered' not in rows[0]
    section = robustness_section(rows)
    assert len(section.charts) == 2
    assert len(section.tables[0].rows) == 6
