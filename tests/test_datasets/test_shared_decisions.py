"""One table for two folders with the same names: whose image a line is about, and what is refused."""

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from hybridcls.datasets.dataset_nodes import initialize
from hybridcls.engine.config.change import apply
from hybridcls.engine.config.label_tables import label_tables
from hybridcls.engine.config.shared_keys import shared_keys
from hybridcls.registry import DATASETS


@pytest.fixture
def folders(tmp_path):
    """Two folders: the same names but for one each, and a class that only the second has."""
    for name in ('a/ant/0.png', 'a/ant/1.png', 'a/bee/0.png', 'b/ant/0.png', 'b/ant/only.png', 'b/bee/0.png',
                 'b/cow/0.png', 'b/cow/1.png'):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
    return tmp_path


def trained(folders, lines, wrap=lambda one: one, keys=('drop', 'relabel'), **more):
    """Complete a config of both folders with a table, and list the images of its training with their classes."""
    table = folders / 'audit.csv'
    table.write_text('path,label,suggested,decision\n' + '\n'.join(lines).replace('ROOT', str(folders)))
    parts = [wrap(dict(type='hybridcls.ImageFolder', data_root=str(folders / name), **more)) for name in 'ab']
    cfg = Config(dict(
        train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=parts)), work_dir=str(folders / 'w'),
        **{key: str(table) for key in keys},
    ))  # fmt: skip
    apply(cfg, shared_keys)
    apply(cfg, label_tables)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    initialize(dataset)
    infos = [dataset.get_data_info(row) for row in range(len(dataset))]
    names = dataset.metainfo['classes']
    return {info['img_path'].removeprefix(f'{folders}/'): names[info['gt_label']] for info in infos}


@pytest.mark.parametrize(
    'wrap',
    [
        lambda one: one,
        lambda one: dict(type='RepeatDataset', times=2, dataset=one),
        lambda one: dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=one),
    ],
)
def test_each_dataset_applies_the_lines_of_its_own_images(folders, wrap):
    lines = ['ROOT/a/ant/0.png,ant,,drop', 'ROOT/b/bee/0.png,bee,ant,relabel', 'ant/only.png,ant,bee,relabel']
    assert trained(folders, lines, wrap) == {
        'a/ant/1.png': 'ant', 'a/bee/0.png': 'bee', 'b/ant/0.png': 'ant', 'b/ant/only.png': 'bee',
        'b/bee/0.png': 'ant', 'b/cow/0.png': 'cow', 'b/cow/1.png': 'cow',
    }  # fmt: skip


def test_a_class_of_the_other_folder_may_be_the_new_label(folders):
    found = trained(folders, ['ROOT/a/bee/0.png,bee,cow,relabel'], keys=['relabel'])
    assert found['a/bee/0.png'] == 'cow'
    assert found['b/cow/0.png'] == 'cow'


def test_a_class_that_one_folder_loses_is_in_the_other(folders):
    assert 'a/bee/0.png' not in trained(folders, ['ROOT/a/bee/0.png,bee,,drop'], keys=['drop'])


def test_a_folder_that_is_read_twice_loses_the_image_in_both(folders):
    table = folders / 'audit.csv'
    table.write_text('path\nant/0.png\n')
    part = dict(type='ImageFolder', data_root=str(folders / 'a'), drop=str(table))
    dataset = dict(type='ConcatDataset', datasets=[part, dict(part, pipeline=[dict(type='hybridcls.LoadImage')])])
    cfg = Config(dict(train_dataloader=dict(dataset=dataset), work_dir=str(folders / 'w')))
    apply(cfg, label_tables)
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 4


@pytest.mark.parametrize(
    ('lines', 'message'),
    [
        (['ant/0.png,ant,,drop'],
         r"expected a path of one image in .*audit\.csv, got 'ant/0\.png', which is in 2 training datasets: "
         r'.*/a/ant/0\.png, .*/b/ant/0\.png\. Write the absolute path of the image that you mean\.'),
        (['ant/onli.png,ant,,drop', 'ROOT/a/ant/0.png,ant,,drop'],
         r"got 'ant/onli\.png', which none of its datasets has \(.*/a, .*/b\)\. Did you mean '.*/b/ant/only\.png'\? "
         r'Correct the path, or delete the line\.'),
        (['bee/only.png,bee,,drop', 'ROOT/a/ant/0.png,ant,,drop'], r"Did you mean '.*/b/ant/only\.png'\?"),
        (['x/0.png,ant,,drop', 'x/1.png,ant,,drop'], r'\(and 1 more\).*No line of the table names one: it is of other'),
        (['ROOT/b/cow/0.png,cow,,drop', 'ROOT/b/cow/1.png,cow,,drop'],
         r"the decisions in .*audit\.csv leave no image of the class 'cow'\. Take one of them back, or set empty_"),
        (['ROOT/b/bee/0.png,ant,,drop'], r"made for another label of '.*/b/bee/0\.png': 'ant', got 'bee'"),
        (['ROOT/b/bee/0.png,bee,wsp,relabel', 'ROOT/a/ant/0.png,ant,,drop'],
         r"expected classes of the training \(ant, bee, cow\) in .*, got 'wsp' of '.*/b/bee/0\.png'"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(folders, lines, message):
    keys = ['relabel', 'drop'] if 'relabel' in str(lines) else ['drop']
    with pytest.raises(ValueError, match=message):
        trained(folders, lines, keys=keys)


@pytest.mark.parametrize('taking', [1, 2])
def test_a_dataset_that_does_not_take_the_table_is_named(folders, taking):
    table = folders / 'audit.csv'
    table.write_text(f'path\n{folders}/c/ant/0.png\n{folders}/a/ant/0.png\n')
    (folders / 'c/ant').mkdir(parents=True)
    cv2.imwrite(str(folders / 'c/ant/0.png'), np.zeros((4, 4, 3), np.uint8))
    parts = [dict(type='ImageFolder', data_root=str(folders / name)) for name in 'abc']
    for part in parts[:taking]:
        part['drop'] = str(table)
    dataset = dict(type='ConcatDataset', datasets=parts)
    cfg = Config(dict(train_dataloader=dict(dataset=dataset), work_dir=str(folders / 'w')))
    with pytest.raises(ValueError, match=r'It is one of .*/c, which does not take this table: set it there, too'):
        list(label_tables(cfg))


def test_images_of_another_split_are_counted_once(folders):
    for name in 'ab':
        rows = [f'ant/0.png,ant,{split}' for split in ('train',)] + ['bee/0.png,bee,train', 'ant/v.png,ant,val']
        (folders / name / 'split.csv').write_text('\n'.join(['path,label,split', *rows]))
        cv2.imwrite(str(folders / name / 'ant/v.png'), np.zeros((4, 4, 3), np.uint8))
    table = folders / 'audit.csv'
    table.write_text(f'path\n{folders}/a/ant/v.png\n{folders}/b/ant/0.png\n')
    parts = [
        dict(type='ImageFolder', data_root=str(folders / name / 'split.csv'), split='train', drop=str(table))
        for name in 'ab'
    ]
    cfg = Config(
        dict(train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=parts)), work_dir=str(folders / 'w'))
    )
    said = [one for one in label_tables(cfg) if isinstance(one, str)]
    assert said == [f'1 image with the decision drop in {table} is in another split: left as it is.']
