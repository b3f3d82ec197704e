"""Slices, duplicates and leaks of a checkpoint: from files to sections, tables and numbers."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.audit.held_out_audit import DUPLICATES, SLICES, audit_held_out
from hybridcls.apis.audit.held_out_slices import held_out_slices
from hybridcls.apis.audit.metadata import metadata_attributes
from hybridcls.apis.audit.training_images import training_images
from hybridcls.apis.report.evaluated_images import evaluate_images
from hybridcls.apis.report.html_page import render
from hybridcls.evaluation.result_file import plain_results


@pytest.fixture(scope='module')
def model(tmp_path_factory, digit_folder):
    cfg = config_of(CNN, LINEAR, digit_folder / 'train')
    return hybridcls.load(write_checkpoint(tmp_path_factory.mktemp('w') / 'epoch_1.pth', cfg)[0], 'cpu')


def test_an_audit_of_held_out_images(model, digit_folder, tmp_path):
    held_out = tmp_path / 'held_out'
    shutil.copytree(digit_folder / 'val', held_out)
    leaked = sorted((digit_folder / 'train').rglob('*.png'))[0]
    shutil.copy(leaked, held_out / leaked.parent.name / 'leak.png')
    training = training_images(model, str(digit_folder / 'train'))
    seen = evaluate_images(model, training.items)
    told = []
    found = audit_held_out(model, training, seen, str(held_out), tell=told.append)
    assert [section.id for section in found.sections] == ['slices', 'duplicates']
    leaks = found.numbers['duplicates']['leaks']
    assert leaks['leaked'] >= 1
    assert leaks['images'] == found.numbers['slices']['images']
    rows = list(csv.DictReader(io.StringIO(found.tables[DUPLICATES].decode())))
    assert any(row['path'].endswith('leak.png') and row['split'] == 'held out' for row in rows)
    assert any(leaked.name in row['path'] and row['advice'] == 'drop' for row in rows)
    assert found.tables[SLICES].decode().splitlines()[0] == 'path,outcome,slice,wrong,confidence'
    json.dumps(plain_results(found.numbers, finite=True))
    assert 'Where it fails' in render('title', '', found.sections)


def test_a_planted_column_is_found_and_named(model, digit_folder, tmp_path):
    images = evaluate_images(model, training_images(model, str(digit_folder / 'train')).items)
    wrong = np.arange(len(images)) % 4 == 0
    said = np.where(wrong, (images.labels + 1) % len(model.classes), images.labels)
    images.scores = np.eye(len(model.classes), dtype=np.float32)[said]
    table = tmp_path / 'about.csv'
    names = ['/'.join(str(item.path).split('/')[-2:]) for item in images.items]
    cameras = ['B' if one or row % 10 == 1 else 'A' for row, one in enumerate(wrong)]
    lines = [f'{name},{camera}' for name, camera in zip(names, cameras, strict=True)]
    table.write_text('\n'.join(['path,camera', *lines]))
    search = held_out_slices(model, images, [str(table)])
    assert search.found[0].condition == 'camera B'
    assert search.found[0].outcome == 'wrong'
    assert all(cameras[row] == 'B' for row in search.found[0].members)


def test_without_held_out_images_the_page_says_so(model, digit_folder):
    training = training_images(model, str(digit_folder / 'train'))
    seen = evaluate_images(model, training.items)
    model.config.test_dataloader = model.config.val_dataloader = None
    found = audit_held_out(model, training, seen, tell=lambda text: None)
    assert found.sections[0].says[0].startswith('Slices and leaks are not looked for: the config of')
    assert '--held-out DATA' in found.sections[0].says[0]
    assert SLICES not in found.tables
    assert 'slices' not in found.numbers


def test_tables_that_do_not_fit(tmp_path):
    table = tmp_path / 'a.csv'
    table.write_text('path,hour\n1.jpg,3\n')
    with pytest.raises(ValueError, match=r'that tell the images apart, got .* for /x/a/1'):
        metadata_attributes(str(table), ['/x/a/1.jpg', '/x/b/1.jpg'])
    with pytest.raises(ValueError, match='expected lines about the images'):
        metadata_attributes(str(table), ['/x/2.jpg'])
    table.write_text('path,hour\na/1.jpg,3\n./a/1.jpg,4\n')
    with pytest.raises(ValueError, match='one line for each image'):
        metadata_attributes(str(table), ['/x/a/1.jpg'])
    table.write_text('name,hour\n1.jpg,3\n')
    with pytest.raises(ValueError, match='expected a column path in the first line'):
        metadata_attributes(str(table), ['/x/1.jpg'])
    table.write_text('filename;label;hour\n/x/a/1.jpg;cat;3\n2.jpg;cat;\n')
    found, notes = metadata_attributes(str(table), ['/x/a/1.jpg', '/x/b/2.jpg', '/x/b/3.jpg', None])
    assert [(one.name, one.values.tolist(), one.brought) for one in found] == [('hour', ['3', '', '', ''], True)]
    assert notes == [f'2 of 4 images have no line in {table}.']
