"""SubcenterCleanupHook: its files, from a test of a checkpoint, and what the next training makes of them."""

import csv

import pytest
import torch
from made_images import class_folders
from mmengine.config import Config
from trained_checkpoints import CNN, config_of, write_checkpoint

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_testing
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.registry import DATASETS

HEAD = dict(type='ArcFaceHead', num_classes=3, num_subcenters=2)


def run(folder, head=HEAD, names=('one', 'three', 'two'), **keys):
    images = class_folders(folder / 'images', **dict(zip(names, (4, 3, 5), strict=True)))
    cfg = config_of(CNN, head, images)
    loader = {**cfg['test_dataloader'], 'sampler': dict(type='DefaultSampler', shuffle=True)}
    cfg['custom_hooks'] = [dict(type='SubcenterCleanupHook', dataloader=loader, **keys)]
    checkpoint, model = write_checkpoint(folder / 'trained' / 'epoch_1.pth', cfg, names)
    file = folder / 'config.py'
    file.write_text(Config(cfg).pretty_text)
    with isolated_globals():
        build_runner(prepare_testing(load_config(file), checkpoint, TrainOptions(), str(folder / 'work'))).test()
    return folder / 'work', model


def log_of(work):
    (file,) = work.glob('*/*.log')
    return file.read_text()


def test_files_say_what_is_kept(tmp_path):
    work, model = run(tmp_path, max_angle=90)
    with open(work / 'subcenters.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert all((float(row['angle']) <= 90) == (row['kept'] == '1') for row in rows)
    assert all(f'/{row["label"]}/' in row['path'] for row in rows)
    kept = [row['path'] for row in rows if row['kept'] == '1']
    assert len(kept) > 0
    dataset = DATASETS.build(dict(type='ImageFolder', ann_file=str(work / 'clean.csv'), data_root=''))
    assert [dataset.get_data_info(place)['img_path'] for place in range(len(dataset))] == kept
    saved = torch.load(work / 'dominant.pth')
    dominant = {row['label']: int(row['dominant']) for row in rows}
    assert saved['meta']['dataset_meta']['classes'] == ['one', 'three', 'two']
    for number, name in enumerate(('one', 'three', 'two')):
        torch.testing.assert_close(
            saved['state_dict']['head.weight'][number], model.head.weight[number, dominant[name]]
        )
    assert set(saved['state_dict']) == set(model.state_dict())


def test_a_smaller_angle_keeps_fewer(tmp_path):
    work, _ = run(tmp_path, max_angle=0)
    assert (work / 'clean.csv').read_text().splitlines() == ['path,label,split']


def test_classes_that_are_called_like_numbers(tmp_path):
    """Read as numbers, '3', '30' and '4' would be 31 classes."""
    work, _ = run(tmp_path, names=('3', '30', '4'), max_angle=180)
    log = log_of(work)
    assert "set ann_file, and ann_format=dict(delimiter=',', labels='names'), in train_dataloader" in log
    assert 'has no image of' not in log
    settings = dict(ann_file=str(work / 'clean.csv'), ann_format=dict(delimiter=',', labels='names'))
    dataset = DATASETS.build(dict(type='ImageFolder', split='train', **settings))
    assert dataset.metainfo['classes'] == ('3', '30', '4')
    assert len(dataset) == 12


def test_a_class_that_loses_its_images_is_named(tmp_path):
    work, _ = run(tmp_path, max_angle=0)
    assert 'clean.csv has no image of 3 of 3 classes: one, three, two. Raise max_angle (0)' in log_of(work)


def test_a_head_without_subcenters_is_refused_before_the_run(tmp_path):
    with pytest.raises(ValueError, match=r'^SubcenterCleanupHook: expected a margin head with num_subcenters above 1'):
        run(tmp_path, head=dict(type='ArcFaceHead', num_classes=3))
