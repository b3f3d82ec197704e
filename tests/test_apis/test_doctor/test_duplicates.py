"""Copies are told by what they contradict."""

import shutil

import pytest
from made_images import class_folders, save
from mmengine.config import Config
from PIL import Image

from hybridcls.apis.doctor.data_parts import build_parts
from hybridcls.apis.doctor.duplicates import check_duplicates
from hybridcls.apis.doctor.image_scan import scan_images
from hybridcls.apis.doctor.subject import Subject


@pytest.fixture
def root(tmp_path):
    class_folders(tmp_path / 'train', a=8, b=8)
    for number in range(6):
        save(Image.open(tmp_path / 'train' / 'a' / '0.png').rotate(90 + 7 * number, fillcolor='red'),
             tmp_path, 'val', 'a', f'{number}.png')  # fmt: skip
    return tmp_path


def findings(root):
    loaders = {
        f'{split}_dataloader': dict(dataset=dict(type='ImageFolder', data_root=str(root / split)))
        for split in ('train', 'val')
    }
    subject = Subject(Config(loaders), '')
    list(build_parts(subject))
    subject.scan = scan_images(list(subject.parts.values()))
    return [(one.level, one.where, one.what) for one in check_duplicates(subject)]


def test_different_images_are_no_copies(root):
    assert findings(root) == []


def test_copies_in_one_class_are_a_note_and_many_a_warning(root):
    shutil.copy(root / 'train/a/0.png', root / 'train/a/again.png')
    ((level, where, what),) = findings(root)
    assert (level, where) == ('warning', 'train_dataloader.dataset')
    assert '1 of 17' in what
    for number in range(20):
        save(Image.effect_noise((40, 40), 90 + number), root, 'train', 'b', f'noise{number}.png')
    assert [level for level, _, _ in findings(root)] == ['note']


@pytest.mark.parametrize(('label', 'advice'), [('a', 'remove the lines of the table'), ('b', 'with the wrong label')])
def test_a_file_that_a_table_lists_twice_is_not_deleted(root, label, advice):
    rows = [f'train/{c}/{n}.png,{c}' for c in 'ab' for n in range(8)]
    (root / 't.csv').write_text('\n'.join(['path,label', *rows, f'train/a/0.png,{label}']))
    dataset = dict(type='ImageFolder', data_root=str(root), ann_file='t.csv')
    subject = Subject(Config(dict(train_dataloader=dict(dataset=dataset))), '')
    list(build_parts(subject))
    subject.scan = scan_images(list(subject.parts.values()))
    (found,) = check_duplicates(subject)
    assert found.change.startswith('remove the lines of the table that repeat a file')
    assert advice in found.change


def test_blank_images_are_no_leak_but_where_all_are_copies(root):
    for split in ('train', 'val'):
        save(Image.new('RGB', (20, 20)), root, split, 'a', 'blank.png')
    assert findings(root) == []
    shutil.rmtree(root / 'val')
    save(Image.new('RGB', (20, 20)), root, 'val', 'a', 'blank.png')
    assert [level for level, _, _ in findings(root)] == ['problem']


def test_a_mirrored_copy_in_the_validation(root):
    image = Image.open(root / 'train/b/3.png').transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    save(image, root, 'val', 'a', 'mirrored.png')
    ((level, where, what),) = findings(root)
    assert (level, where) == ('warning', 'val_dataloader.dataset')
    assert 'mirrored.png ~ ' in what
    assert 'b/3.png' in what
