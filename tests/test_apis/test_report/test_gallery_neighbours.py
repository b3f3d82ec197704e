"""Neighbours of images, beside the metric of a test, and their rows on the page."""

import shutil

import numpy as np
import pytest
import torch
from command_runs import run_command
from html_pages import read_page
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.image_inputs import read_inputs
from hybridcls.apis.report import make_report
from hybridcls.apis.report.evaluated_images import evaluate_images
from hybridcls.apis.report.gallery_neighbours import find_neighbours
from hybridcls.apis.report.html_page import render
from hybridcls.apis.report.neighbours_section import chosen_queries, neighbours_section
from hybridcls.evaluation import RetrievalMetric


@pytest.fixture(scope='module')
def model(tmp_path_factory, digit_folder):
    cfg = config_of(CNN, LINEAR, digit_folder / 'train')
    path, _ = write_checkpoint(tmp_path_factory.mktemp('w') / 'epoch_1.pth', cfg)
    return hybridcls.load(path, 'cpu')


@pytest.fixture(scope='module')
def known(model, digit_folder):
    return evaluate_images(model, list(read_inputs(str(digit_folder / 'val')).items))


def metric_of(images, classes):
    metric = RetrievalMetric(topk=1, confidence=0.95)
    metric.dataset_meta = dict(classes=list(classes))
    rows = torch.from_numpy(images.embeddings)
    metric.process(None, [dict(sample, embedding=row) for sample, row in zip(images.samples(), rows, strict=True)])
    return metric.evaluate(size=len(images))


def test_scores_are_those_of_the_metric_and_no_image_is_its_own_neighbour(model, known):
    found = find_neighbours(model, known, model.classes)
    expected = metric_of(known, model.classes)
    for row, name in zip(found.scores, ('recall@1', 'map@r'), strict=True):
        assert row['value'] == pytest.approx(expected[f'retrieval/{name}'])
        assert row['low'] == pytest.approx(expected[f'retrieval/{name}_low'])
        assert row['high'] == pytest.approx(expected[f'retrieval/{name}_high'])
    for item, matches in zip(known.items, found.matches, strict=True):
        assert item.source not in [match.path for match in matches]
    vectors = known.embeddings / np.linalg.norm(known.embeddings, axis=1, keepdims=True)
    similarity = vectors @ vectors.T - 2 * np.eye(len(vectors))
    assert found.matches[3][0].similarity == pytest.approx(similarity[3].max(), abs=1e-5)


def test_a_gallery_of_images_is_that_of_an_index(model, known, digit_folder, tmp_path):
    own = tmp_path / 'gallery'
    shutil.copytree(digit_folder / 'val', own)
    found = find_neighbours(model, known, model.classes, str(own))
    assert found.matches[0][0].similarity == pytest.approx(1, abs=1e-5)  # its copy
    assert found.images == len(known)
    index = tmp_path / 'i.npz'
    assert run_command('embed', model.checkpoint_path, own, '--out', index, '--device', 'cpu') == 0
    again = find_neighbours(model, known, model.classes, str(index))
    assert [one[0].path.endswith(other[0].path[-9:]) for one, other in zip(again.matches, found.matches, strict=True)]
    assert again.scores[0]['value'] == found.scores[0]['value'] == 100
    other, _ = write_checkpoint(tmp_path / 'other.pth', config_of(CNN, LINEAR), seed=1)
    with pytest.raises(ValueError, match='report: expected embeddings of one model'):
        make_report(hybridcls.load(other, 'cpu'), 'before/images/are/looked/at', gallery=str(index))


def test_rows_are_told_apart_without_colours(model, known):
    found = find_neighbours(model, known, model.classes)
    section = neighbours_section(known, found, model.classes)
    page = render('t', 's', [section])
    read_page(page)
    assert '✓' in page
    assert 'class="wrong"' in page
    row = section.rows[0]['rows'][0]
    for one in row['found']:
        assert one['caption'].startswith('✓' if one['right'] else '✗')
    queries = chosen_queries(known)
    chosen = [row for _, rows in queries for row in rows]
    assert len(chosen) == len({*chosen})
    wrong = known.predicted != known.labels
    assert wrong[queries[0][1]].all()
    assert not wrong[[row for _, rows in queries[1:] for row in rows]].any()


def test_images_without_another_one_of_their_class(model, known):
    one_each = known.part(np.unique(known.labels, return_index=True)[1])
    found = find_neighbours(model, one_each, model.classes)
    assert found.scores == []
    assert 'no retrieval scores' in ' '.join(neighbours_section(one_each, found, model.classes).says)
    assert find_neighbours(model, known.part(np.array([0])), model.classes) is None
