"""Datasets that name their split alone: folders of splits, class folders, tables."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from config_helpers import applied, loaded
from made_images import class_folders, picture, save
from processes import run_processes

from hybridcls.datasets.annotation_file import read_rows
from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_testing, prepare_training, run_chain
from hybridcls.engine.config import ConfigError, table_of
from hybridcls.engine.config.data_splits import data_splits, open_splits
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.registry import DATASETS

CONFIG = """
pipeline = [dict(type='LoadImage'), dict(type='ResizeToSize', img_size=16), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='ImageFolder', split='train', pipeline=pipeline))
val_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ImageFolder', split='val', test_mode=True, pipeline=pipeline))
test_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='RepeatDataset', times=1, dataset=dict(
        type='ImageFolder', split='test', test_mode=True, pipeline=pipeline)))
val_evaluator = [dict(type='Accuracy', topk=(1,))]
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
model = dict(
    type='HybridClassifier', neck=dict(type='DHAFusion', fusion_dim=8), head=dict(type='LinearHead'),
    backbone=dict(
        type='HybridBackbone', img_size=16, cnn=dict(model_name='test_resnet'),
        vit=dict(model_name='test_vit', drop_path_rate=0.0)))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
visualizer = None
randomness = dict(seed=0)
log_level = 'ERROR'
env_cfg = dict(dist_cfg=dict(backend='gloo'))
"""
PLACES = ('train_dataloader.dataset', 'val_dataloader.dataset', 'test_dataloader.dataset.dataset')


@pytest.fixture
def load(tmp_path):
    def call(root, **options):
        return loaded(tmp_path / 'configs', base=CONFIG, options=dict(data_root=str(root), **options))

    return call


@pytest.fixture
def photos(tmp_path):
    return class_folders(tmp_path / 'photos', ant=10, bee=10)


def filled(cfg, key):
    datasets = [cfg.train_dataloader.dataset, cfg.val_dataloader.dataset, cfg.test_dataloader.dataset.dataset]
    return [dataset.get(key) for dataset in datasets]


def paths_of(cfg, place):
    dataset = cfg
    for key in place.split('.'):
        dataset = dataset[key]
    built = DATASETS.build({**dataset, 'pipeline': []})
    return [Path(built.get_data_info(number)['img_path']) for number in range(len(built))]


class TestFoldersOfSplits:
    def test_each_gets_its_folder(self, tmp_path, load):
        for name, seed in (('Train', 0), ('valid', 100), ('TEST', 200)):
            for label in ('ant', 'bee'):
                save(picture(seed + len(label[0]) + ord(label[0])), tmp_path, 'photos', name, label, '1.png')
        cfg = applied(load(tmp_path / 'photos'), data_splits, str(tmp_path / 'w'))
        assert filled(cfg, 'data_prefix') == ['Train', 'valid', 'TEST']
        assert filled(cfg, 'ann_file') == [None] * 3
        assert [path.parts[-3] for path in paths_of(cfg, PLACES[1])] == ['valid'] * 2
        assert "split='train'" in table_of(cfg)

    def test_without_a_test_the_validation_is_tested(self, digit_folder, load, tmp_path):
        cfg = applied(load(digit_folder), data_splits, str(tmp_path))
        assert filled(cfg, 'data_prefix') == ['train', 'val', 'val']
        assert 'data_root has no test split: val is tested' in table_of(cfg)

    def test_without_a_validation_it_is_taken_from_the_training(self, tmp_path, load):
        class_folders(tmp_path / 'photos/train', ant=10, bee=5)
        save(picture(900), tmp_path, 'photos/test/bee/1.png')
        cfg = applied(load(tmp_path / 'photos'), data_splits, str(tmp_path / 'w'))
        paths = [paths_of(cfg, place) for place in PLACES]
        assert [len(found) for found in paths] == [12, 3, 1]
        assert [path.parts[-3] for path in paths[1]] == ['train'] * 3
        assert paths[2][0].parts[-3] == 'test'
        assert filled(cfg, 'split') == ['train', 'val', 'test']

    def test_a_test_without_class_folders_is_not_used(self, tmp_path, load):
        class_folders(tmp_path / 'photos/train', ant=10, bee=5)
        save(picture(900), tmp_path, 'photos/test/1.png')
        cfg = applied(load(tmp_path / 'photos'), data_splits, str(tmp_path / 'w'))
        assert 'photos/test has no class folders: it is not used.' in table_of(cfg)
        assert filled(cfg, 'split') == ['train', 'val', 'val']

    def test_near_duplicates_are_said(self, tmp_path, load):
        class_folders(tmp_path / 'photos/train', ant=5, bee=5)
        class_folders(tmp_path / 'photos/val', ant=2, bee=2)  # the same pictures
        cfg = load(tmp_path / 'photos')
        assert '8 images nearly equal to an image of another split' in table_of(
            applied(cfg, data_splits, str(tmp_path / 'w'))
        )
        cfg = load(tmp_path / 'photos', **{'data_split.near_duplicates': False})
        assert 'nearly' not in table_of(applied(cfg, data_splits, str(tmp_path / 'w')))


class TestClassFolders:
    def test_images_are_divided_and_the_file_is_filled(self, photos, load, tmp_path):
        cfg = applied(load(photos), data_splits, str(tmp_path / 'w'))
        file = str(tmp_path / 'w/split.csv')
        assert filled(cfg, 'ann_file') == [file] * 3
        train, val, test = (set(paths_of(cfg, place)) for place in PLACES)
        assert (len(train), len(val)) == (16, 4)
        assert val == test
        assert train | val == set(photos.rglob('*.png'))
        assert filled(cfg, 'split') == ['train', 'val', 'val']

    def test_files_that_are_left_out_are_counted(self, photos, load, tmp_path):
        (photos / 'ant' / '.hidden.png').touch()
        (photos / 'bee' / 'notes.txt').touch()
        (photos / 'bee' / 'more.txt').touch()
        save(picture(0), photos, 'beside.png')
        for _ in range(2):  # divided, and read again
            cfg = applied(load(photos), data_splits, str(tmp_path / 'w'))
            assert f'Left out of {photos}: .txt (2), hidden (1), images beside the class folders (1).' in table_of(cfg)

    def test_numbers_are_those_of_the_folders(self, tmp_path, load):
        class_folders(tmp_path / 'photos', **{'3': 10, '12': 10, 'a|b': 5})
        cfg = applied(load(tmp_path / 'photos'), data_splits, str(tmp_path / 'w'))
        built = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': []})
        assert (
            built.metainfo
            == DATASETS.build(dict(type='hybridcls.ImageFolder', data_root=str(tmp_path / 'photos'))).metainfo
        )
        names = [Path(built.get_data_info(number)['img_path']).parent.name for number in range(len(built))]
        assert [built.CLASSES[label] for label in built.get_gt_labels()] == names

    def test_titles_of_the_folders(self, photos, load, tmp_path):
        cfg = load(photos, **{f'{place}.classes': ['Ameise', 'Biene'] for place in PLACES})
        applied(cfg, data_splits, str(tmp_path / 'w'))
        built = DATASETS.build({**cfg.val_dataloader.dataset, 'pipeline': []})
        assert built.CLASSES == ('Ameise', 'Biene')
        assert np.bincount(built.get_gt_labels()).tolist() == [2, 2]

    def test_the_key_decides(self, photos, load, tmp_path):
        cfg = load(photos, **{'data_split.val': 0.4, 'data_split.test': 0.2, 'data_split.seed': 5})
        applied(cfg, data_splits, str(tmp_path / 'w'))
        assert [len(paths_of(cfg, place)) for place in PLACES] == [8, 8, 4]

    def test_what_is_written_stays(self, photos, load, tmp_path):
        cfg = load(photos, **{'val_dataloader.dataset.data_prefix': '.'})
        applied(cfg, data_splits, str(tmp_path / 'w'))
        assert filled(cfg, 'ann_file')[1] is None
        assert filled(cfg, 'data_prefix')[1] == '.'
        assert [path for path, _ in open_splits(load(photos))] == [tuple(place.split('.')) for place in PLACES]

    def test_two_roots(self, photos, load, tmp_path):
        other = class_folders(tmp_path / 'paintings', ant=5, bee=5)
        cfg = load(photos, **{'val_dataloader.dataset.data_root': str(other)})
        applied(cfg, data_splits, str(tmp_path / 'w'))
        assert [Path(file).name for file in filled(cfg, 'ann_file')] == [
            'split_photos.csv', 'split_paintings.csv', 'split_photos.csv',
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ('counts', 'message'),
        [
            (dict(ant=5), r"expected images of two or more classes, got one, 'ant'\. Give each class"),
            (dict(ant=2, bee=2), r'expected at least 5 images .* got 4'),
            ({}, r'no image in .*photos\. It has no class folders'),
        ],
    )
    def test_too_little(self, tmp_path, load, counts, message):
        (tmp_path / 'photos').mkdir()
        class_folders(tmp_path / 'photos', **counts)
        with pytest.raises(ValueError, match=message):
            applied(load(tmp_path / 'photos'), data_splits, str(tmp_path / 'w'))
        assert not (tmp_path / 'w').exists()

    def test_one_class_that_is_meant(self, tmp_path, load):
        class_folders(tmp_path / 'photos', ant=5)
        cfg = load(tmp_path / 'photos', **{f'{place}.classes': ['ant'] for place in PLACES})
        applied(cfg, data_splits, str(tmp_path / 'w'))
        assert len(paths_of(cfg, PLACES[0])) == 4

    @pytest.mark.parametrize('extension', ['.txt', '.jpg'])
    def test_ten_thousand_files_that_are_no_images(self, tmp_path, load, extension):
        (tmp_path / 'text').write_bytes(b'text')
        for label in range(10):
            (tmp_path / 'photos' / f'{label}').mkdir(parents=True)
            for number in range(1000):
                os.link(tmp_path / 'text', tmp_path / f'photos/{label}/{number}{extension}')
        cfg = load(tmp_path / 'photos')
        began = time.process_time()
        with pytest.raises(ValueError, match=r'no image in|none of 10000 files'):
            applied(cfg, data_splits, str(tmp_path / 'w'))
        assert time.process_time() - began < 2


class TestTables:
    def table(self, photos, text):
        (photos / 'photos.csv').write_text(text)
        return photos / 'photos.csv'

    def test_with_a_column_of_splits_it_is_read_itself(self, photos, load, tmp_path):
        lines = [f'ant/{number}.png,ant,{split}' for number, split in enumerate(['train', 'train', 'valid'])]
        lines += ['bee/0.png,bee,train', 'bee/1.png,bee,val']
        file = self.table(photos, '\n'.join(['path,label,split', *lines]))
        cfg = applied(load(file), data_splits, str(tmp_path / 'w'))
        assert filled(cfg, 'ann_file') == [str(file)] * 3
        assert [len(paths_of(cfg, place)) for place in PLACES] == [3, 2, 2]
        assert filled(cfg, 'split')[2] == 'val'
        assert not (tmp_path / 'w/split.csv').exists()

    def test_without_one_it_is_divided_by_its_groups(self, photos, load, tmp_path):
        lines = [
            f'{label}/{number}.png,{label},{label}{number // 2}' for label in ('ant', 'bee') for number in range(10)
        ]
        file = self.table(photos, '\n'.join(['path,label,group', *lines]))
        cfg = applied(load(file), data_splits, str(tmp_path / 'w'))
        rows, _ = read_rows('Me', str(tmp_path / 'w/split.csv'), True)
        assert {len({row.split for row in rows if row.group == group}) for group in {row.group for row in rows}} == {1}
        assert len({row.group for row in rows}) == 10
        assert [len(paths_of(cfg, place)) for place in PLACES[:2]] == [16, 4]
        assert [len({path.parent for path in paths_of(cfg, place)}) for place in PLACES[:2]] == [2, 2]

    def test_labels_that_are_numbers_stay_numbers(self, photos, load, tmp_path):
        lines = [f'{label}/{number}.png,{label == "bee":d}' for label in ('ant', 'bee') for number in range(10)]
        cfg = applied(load(self.table(photos, '\n'.join(['path,label', *lines]))), data_splits, str(tmp_path / 'w'))
        built = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': []})
        assert built.metainfo == dict(classes=('0', '1'), classes_are_numbers=True)

    def test_several_labels(self, photos, load, tmp_path):
        lines = [f'{label}/{number}.png,1,{number % 2}' for label in ('ant', 'bee') for number in range(10)]
        lines[0] = 'ant/0.png,0,0'
        file = self.table(photos, '\n'.join(['path,bee,ant', *lines]))
        cfg = load(file, **{f'{place}.multi_label': True for place in PLACES})
        applied(cfg, data_splits, str(tmp_path / 'w'))
        labels = [
            label
            for place in PLACES[:2]
            for label in DATASETS.build(
                {**(cfg.train_dataloader if place == PLACES[0] else cfg.val_dataloader).dataset, 'pipeline': []}
            ).get_gt_labels()
        ]
        assert sorted(labels) == [[], *[[0, 1]] * 10, *[[1]] * 9]

    def test_images_that_are_not_there(self, photos, load, tmp_path):
        file = self.table(photos, 'path,label\nant/0.png,ant\nbee/0.jpg,bee\n')
        with pytest.raises(FileNotFoundError, match=r'1 of 2 images is not there: .*bee/0\.jpg\. Write paths below'):
            applied(load(file), data_splits, str(tmp_path / 'w'))


def prepared(cfg, work_dir, **options):
    with isolated_globals():
        return prepare_training(cfg, TrainOptions(**options), str(work_dir))


@pytest.fixture(scope='module')
def one_run(tmp_path_factory):
    """A folder of photos, and the work dir of a training on it."""
    folder = tmp_path_factory.mktemp('run')
    class_folders(folder / 'photos', ant=10, bee=10)
    cfg = loaded(folder / 'configs', base=CONFIG, options=dict(data_root=str(folder / 'photos')))
    with isolated_globals():
        build_runner(prepare_training(cfg, TrainOptions(), str(folder / 'w'))).train()
    return folder


@pytest.fixture
def trained(one_run, tmp_path):
    """A copy of it."""
    shutil.copytree(one_run, tmp_path, dirs_exist_ok=True)


class TestRuns:
    def test_the_classes_are_counted_and_the_changes_recorded(self, photos, load, tmp_path):
        cfg = prepared(load(photos), tmp_path / 'w')
        assert cfg.model.head.num_classes == 2
        assert 'is divided into 16 train, 4 val' in table_of(cfg)

    @pytest.mark.usefixtures('trained')
    def test_a_test_elsewhere_uses_the_split_beside_the_checkpoint(self, load, tmp_path):
        photos = tmp_path / 'photos'
        save(picture(777), photos, 'ant', 'new.png')
        with isolated_globals():
            cfg = prepare_testing(load(photos), str(tmp_path / 'w/epoch_1.pth'), TrainOptions(), str(tmp_path / 't'))
        assert cfg.test_dataloader.dataset.dataset.ann_file == str(tmp_path / 'w/split.csv')
        assert len(paths_of(cfg, PLACES[2])) == 4
        assert not (tmp_path / 't/split.csv').exists()

    @pytest.mark.usefixtures('trained')
    @pytest.mark.parametrize('as_table', [False, True])
    def test_a_test_of_other_images_takes_all_of_them(self, load, tmp_path, as_table):
        other = tmp_path / 'other'
        for number in range(7):
            save(picture(900 + number), other, ('ant', 'bee')[number % 2], f'{number}.png')
        root = other
        if as_table:
            root = other / 'all.csv'
            lines = [f'{path.relative_to(other)},{path.parent.name}' for path in sorted(other.rglob('*.png'))]
            root.write_text('\n'.join(['path,label', *lines, '']))
        with isolated_globals():
            cfg = prepare_testing(load(root), str(tmp_path / 'w/epoch_1.pth'), TrainOptions(), str(tmp_path / 't'))
        assert len(paths_of(cfg, PLACES[2])) == 7
        assert f'All of {root} is tested: 7 images.' in table_of(cfg)
        assert not (tmp_path / 't/split.csv').exists()

    @pytest.mark.usefixtures('trained')
    def test_a_resumed_run_keeps_its_split(self, load, tmp_path):
        photos = tmp_path / 'photos'
        before = (tmp_path / 'w/split.csv').read_bytes()
        save(picture(777), photos, 'ant', 'new.png')
        cfg = prepared(load(photos, max_epochs=2), tmp_path / 'w', resume='auto')
        assert '1 image added since then and not used' in table_of(cfg)
        assert (tmp_path / 'w/split.csv').read_bytes() == before
        elsewhere = prepared(load(photos), tmp_path / 'other', resume=str(tmp_path / 'w/epoch_1.pth'))
        assert filled(elsewhere, 'ann_file') == [str(tmp_path / 'w/split.csv')] * 3

    def test_the_phases_of_a_chain_share_one(self, photos, load, tmp_path):
        load(photos)
        (tmp_path / 'configs/chain.py').write_text(
            "phases = [dict(name='one', config='base.py'), dict(name='two', config='base.py', load='last')]\n"
            f'data_root = {str(photos)!r}\nwork_dir = {str(tmp_path / "w")!r}\n'
        )
        records = run_chain(load_config(tmp_path / 'configs/chain.py'))
        assert 'test/accuracy/top1' in records[1].metrics
        assert [path.name for path in tmp_path.rglob('split*.csv')] == ['split.csv']
        assert (tmp_path / 'w/split.csv').is_file()

    def test_explaining_writes_nothing(self, photos, load, tmp_path, monkeypatch):
        from hybridcls.engine.training import complete

        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.rglob('*'))
        cfg = load(photos)
        before = sorted({*before, *(tmp_path / 'configs').rglob('*'), tmp_path / 'configs'})
        complete(cfg, TrainOptions())
        assert sorted(tmp_path.rglob('*')) == before

    def test_a_work_dir_that_cannot_be_written(self, photos, load, tmp_path):
        (tmp_path / 'w').write_text('a file')
        with pytest.raises(NotADirectoryError, match='work dir'):
            prepared(load(photos), tmp_path / 'w')

    def test_folds_without_a_fold_say_how_to_start_them(self, photos, load, tmp_path):
        with pytest.raises(TypeError, match='start it with --folds'):
            prepared(load(photos, **{'data_split.folds': 3}), tmp_path / 'w')

    def test_folds_of_images_that_bring_their_split(self, digit_folder, load, tmp_path):
        cfg = load(digit_folder, **{'data_split.folds': 3, 'data_split.fold': 1})
        with pytest.raises(ConfigError, match=r'images without a split for folds=3, but .* has its own split.'):
            applied(cfg, data_splits, str(tmp_path))


def prepare_in_process(rank, config, photos, one_class, folder):
    def prepare(root, work_dir):
        cfg = load_config(config, dict(data_root=root))
        return prepare_training(cfg, TrainOptions(launcher='pytorch'), str(Path(folder, work_dir)))

    # A mistake that the first process finds ends both.
    with pytest.raises(ValueError, match='two or more classes'):
        prepare(one_class, 'wrong')
    paths = paths_of(prepare(photos, 'w'), PLACES[0])
    Path(folder, f'{rank}.txt').write_text('\n'.join(sorted(map(str, paths))))
    Path(folder, f'{rank}.made').write_text(str(os.stat(Path(folder, 'w/split.csv')).st_ino))


def test_two_processes_read_what_the_first_has_written(photos, load, tmp_path):
    load(photos)
    one_class = class_folders(tmp_path / 'one', ant=5)
    run_processes(prepare_in_process, str(tmp_path / 'configs/base.py'), str(photos), str(one_class), str(tmp_path))
    assert (tmp_path / '0.txt').read_text() == (tmp_path / '1.txt').read_text()
    assert (tmp_path / '0.made').read_text() == (tmp_path / '1.made').read_text()
