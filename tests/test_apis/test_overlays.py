"""Overlays of images: a picture a stream, and a score that tells maps that say something from others."""

import numpy as np
import pytest
import torch
from PIL import Image
from trained_checkpoints import LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.image_inputs import read_inputs
from hybridcls.apis.overlays import DeletionGain, DeletionScore, check_overlays, make_overlays, write_overlays
from hybridcls.apis.report.evaluated_images import evaluate_images
from hybridcls.apis.report.overlays_section import overlay_numbers, overlays_of_some, overlays_section, scored_images
from hybridcls.functional.metrics import Interval

PAIR = dict(
    type='HybridBackbone', cnn=dict(model_name='test_resnet'), vit=dict(model_name='test_vit'), img_size=64,
    token_merging_ratio=0.2,
)  # fmt: skip


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    cfg = config_of(PAIR, LINEAR)
    cfg['model']['neck'] = dict(type='DHAFusion', fusion_dim=16)
    return hybridcls.load(write_checkpoint(tmp_path_factory.mktemp('pair') / 'epoch_1.pth', cfg)[0], 'cpu')


@pytest.fixture(autouse=True)
def _in_two_steps(monkeypatch):
    monkeypatch.setattr('hybridcls.apis.deletion.STEPS', 2)


def test_pictures_and_scores(model, digit_folder, tmp_path):
    items = list(read_inputs(str(digit_folder / 'val')).items)[:7]
    found = make_overlays(model, items)
    assert list(found.layers) == list(found.scores) == ['cnn', 'vit']
    assert found.merging
    assert [one.item for one in found.images] == items
    assert {picture.size for one in found.images for picture in (one.seen, *one.overlays.values())} == {(160, 160)}
    score = found.scores['vit']
    assert all(one.interval.low < one.gain < one.interval.high for one in score)
    answers = model.predict([item.path for item in items])
    # Without merging, as maps are made, another class may win.
    assert (
        sum(model.classes[one.label] == answer.class_name for one, answer in zip(found.images, answers, strict=True))
        >= 5
    )
    section = overlays_section(found, model.classes, {item.path: item.label for item in items})
    assert section.groups[0]['pictures'][1]['alt'].startswith(f'{items[0].path}: map of cnn for ')
    assert any('Token merging was switched off' in one for one in section.says)
    numbers = overlay_numbers(found)['deletion']['cnn']
    assert numbers['others']['gain'] == found.scores['cnn'].others.gain
    assert numbers['says_something'] == found.scores['cnn'].says_something
    assert write_overlays(model, items[:2], str(tmp_path)) == 2
    files = sorted(tmp_path.rglob('*.png'))
    assert [Image.open(file).size for file in files] == [(960, 320)] * 2


def test_what_maps_are_worth_is_said(model, digit_folder):
    items = list(read_inputs(str(digit_folder / 'val')).items)[:1]
    found = make_overlays(model, items)
    assert np.isnan(found.scores['cnn'].others.gain)  # there are none
    nan, good, bad = float('nan'), (0.1, 0.02, 0.2), (0.1, -0.02, 0.2)
    cases = [
        (good, good, '(10.0 [2.0, 20.0] points). The maps mark places that the answer depends on'),
        (good, bad, 'not clearly better than maps of other images (10.0 [-2.0, 20.0] points)'),
        (bad, good, 'shifted at random (10.0 [-2.0, 20.0] points). Do not interpret these maps'),
        ((0.1, nan, nan), (nan, nan, nan), '1 image is too few to test the maps'),
    ]
    for moved, others, said in cases:
        score = DeletionScore(*(DeletionGain(gain, Interval(*ends)) for gain, *ends in (moved, others)))
        assert said in overlays_section(found._replace(scores=dict(cnn=score)), model.classes, {}).says[1]
    with torch.no_grad():
        model.model.neck.project.weight[:, 96:] = 0  # nothing of the vit counts
        model.model.neck.gate[0].weight[:, 96:] = 0
    (silent,) = make_overlays(model, items).images
    assert silent.silent == ('vit',)
    assert np.ptp(np.asarray(silent.overlays['vit']), axis=2).max() == 0  # grey


def test_a_mistaken_layer_is_found_before_images_are_asked(model, digit_folder):
    items = list(read_inputs(str(digit_folder / 'val')).items)[:1]
    assert check_overlays(model, items) == 2
    with pytest.raises(ValueError, match="got 'nowhere'"):
        check_overlays(model, items, dict(cnn='nowhere'))


def test_maps_are_scored_on_as_many_images_as_a_minute_allows(model, digit_folder, monkeypatch):
    assert scored_images(1.0, 1, 12) == int(3000 / (7 * 1 + 2))  # seven areas of one inner step, and both ends
    assert scored_images(1.0, 2, 12) == int(3000 / (2 * 7 + 2))
    assert scored_images(1e-6, 1, 12) == 500
    assert scored_images(1e6, 1, 12) == 12
    known = evaluate_images(model, list(read_inputs(str(digit_folder / 'val')).items))
    monkeypatch.setattr('hybridcls.apis.report.overlays_section._MOST_SCORED', 7)
    said = []
    found = overlays_of_some(model, known, 2, streams=2, tell=said.append)
    assert len(found.images) == 2
    assert found.scored == 7 == overlay_numbers(found)['scored']
    assert said[0].startswith('Maps of 2 images, scored on 7: as much as 112 more images')
