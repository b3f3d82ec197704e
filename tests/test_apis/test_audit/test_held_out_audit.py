"""Slices, duplicates and leaks of a checkpoint: from files to sections, tables and numbers."""

import csv
import io
import json
import shutil

import pytest

from hybridcls.apis.audit.audited_images import training_images
from hybridcls.apis.audit.held_out_audit import DUPLICATES, SLICES, audit_held_out, find_held_out
from hybridcls.apis.report.evaluated_images import evaluate_images
from hybridcls.apis.report.html_page import render
from hybridcls.evaluation.result_file import plain_results


def test_an_audit_of_held_out_images(audited_model, digit_folder, tmp_path):
    model = audited_model
    held_out = tmp_path / 'held_out'
    shutil.copytree(digit_folder / 'val', held_out)
    leaked = sorted((digit_folder / 'train').rglob('*.png'))[0]
    shutil.copy(leaked, held_out / leaked.parent.name / 'leak.png')
    training = training_images(model, str(digit_folder / 'train'))
    seen = evaluate_images(model, training.items)
    told = []
    found = audit_held_out(model, training, seen, find_held_out(model, str(held_out)), tell=told.append)
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


def test_without_held_out_images_the_page_says_so(audited_model, digit_folder):
    model = audited_model
    training = training_images(model, str(digit_folder / 'train'))
    seen = evaluate_images(model, training.items)
    kept = {name: model.config.get(name) for name in ('test_dataloader', 'val_dataloader')}
    model.config.update(dict.fromkeys(kept))
    found = audit_held_out(model, training, seen, find_held_out(model), tell=lambda text: None)
    model.config.update(kept)
    assert found.sections[0].says[0].startswith('Slices and leaks are not searched: the config of')
    assert '--held-out DATA' in found.sections[0].says[0]
    assert SLICES not in found.tables
    assert 'slices' not in found.numbers


def test_held_out_images_are_checked_before_anything_is_computed(audited_model, digit_folder, tmp_path):
    table, other = tmp_path / 'a.csv', tmp_path / 'b.csv'
    image = next((digit_folder / 'val').rglob('*.png'))
    table.write_text(f'path,label,hour\n{image},{image.parent.name},7\n')
    found = find_held_out(audited_model, str(table))
    assert ([item.path for item in found.items], found.tables) == ([str(image)], [str(table)])  # its column hour
    other.write_text('path,hour\nelsewhere.png,7\n')
    with pytest.raises(ValueError, match='audit: expected lines about the images'):
        find_held_out(audited_model, str(table), [str(other)])
    table.write_text(f'path,label,hour\n{image},zebra,7\n')
    with pytest.raises(ValueError, match='audit: expected held-out images of the classes of the model'):
        find_held_out(audited_model, str(table))
