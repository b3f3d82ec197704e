"""Without --data the images of the config are taken."""

import shutil
from types import SimpleNamespace

import pytest

from hybridcls.apis.report.configured_images import calibration_place, configured_images, listed_images
from hybridcls.datasets import ImageFolder
from hybridcls.registry import DATASETS


def model(checkpoint='w/a.pth', **loaders):
    config = {f'{kind}_dataloader': dict(dataset=dataset) for kind, dataset in loaders.items()}
    return SimpleNamespace(
        config=config, checkpoint_path=str(checkpoint), classes=('one', 'three', 'two', 'zero'), multi_label=False
    )


def folder(root, prefix='', **more):
    return dict(type='ImageFolder', data_root=str(root), data_prefix=prefix, pipeline=[dict(type='LoadImage')], **more)


def test_the_test_is_taken_else_the_validation(digit_folder):
    both = configured_images(model(test=folder(digit_folder, 'train'), val=folder(digit_folder, 'val')))
    assert len(both.items) == 48
    assert both.note == f'The 48 test images that the config of the training names ({digit_folder / "train"}).'
    assert {item.label for item in both.items} == {'one', 'three', 'two', 'zero'}
    for loaders in (
        dict(val=folder(digit_folder, 'val')),
        dict(test=folder(digit_folder, 'val'), val=folder(digit_folder, 'val')),
    ):
        found = configured_images(model(**loaders))
        assert len(found.items) == 16
        assert 'chosen by these images, the results are too good' in found.note


def test_arguments_of_a_dataset_of_ones_own_tell_the_test_from_the_validation(digit_folder):
    @DATASETS.register_module(name='FolderByOtherName', force=True)
    class FolderByOtherName(ImageFolder):
        def __init__(self, folder, **kwargs):
            super().__init__(data_root=folder, **kwargs)

    try:
        one, other = (
            dict(type='hybridcls.FolderByOtherName', folder=str(digit_folder / of)) for of in ('train', 'val')
        )
        for test, val in (one, other), (dict(type='RepeatDataset', times=1, dataset=each) for each in (one, other)):
            assert 'test images' in configured_images(model(test=test, val=val)).note.partition(' that ')[0]
        same = configured_images(model(test=dict(other, pipeline=[], test_mode=True), val=other))
        assert same.note.startswith('The 16 validation images')
    finally:
        DATASETS.module_dict.pop('FolderByOtherName')


def test_images_that_the_test_skips_are_listed(digit_folder, tmp_path):
    shutil.copytree(digit_folder / 'val', tmp_path, dirs_exist_ok=True)
    (tmp_path / 'one' / 'broken.png').write_bytes(b'no image')
    found = configured_images(model(test=folder(tmp_path, on_unreadable='skip', test_mode=True)))
    assert len(found.items) == 17


def test_images_to_calibrate_with_are_others_than_those_of_the_report(digit_folder):
    both = model(test=folder(digit_folder, 'train'), val=folder(digit_folder, 'val'))
    assert calibration_place(both, configured_images(both).items) == str(digit_folder / 'val')
    items = configured_images(model(test=folder(digit_folder, 'val'))).items
    assert calibration_place(both, items[:1]) == str(digit_folder / 'train')
    assert calibration_place(model(val=folder(digit_folder, 'val')), items[-1:]) is None
    trained = model(val=folder(digit_folder, 'train'), train=folder(digit_folder, 'train'))
    assert calibration_place(trained, items) is None


def test_what_is_not_there_is_named(digit_folder, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r'names neither test nor val\. Type --data FOLDER with labelled images'
    ):
        configured_images(model())
    with pytest.raises(FileNotFoundError, match=f"images of the training's test, {tmp_path / 'gone'}, are not there"):
        configured_images(model(test=folder(tmp_path / 'gone')))
    with pytest.raises(FileNotFoundError, match=r'cannot be listed: ImageFolder: no image in .*one'):
        configured_images(model(test=folder(digit_folder / 'val' / 'one')))


def test_a_split_moves_with_its_work_dir(digit_folder, tmp_path):
    (tmp_path / 'w').mkdir()
    rows = ['path,label,split,group', 'val/one/0.png,one,train,', 'val/two/12.png,two,val,', 'val/one/12.png,one,val,']
    (tmp_path / 'w' / 'split.csv').write_text('\n'.join(rows) + '\n')
    listed = dict(ann_file=str(tmp_path / 'old' / 'split.csv'), ann_format=dict(delimiter=',', labels='names'))
    cfg = dict(folder(digit_folder), split='val', empty_classes='warn', **listed)
    found = configured_images(model(tmp_path / 'w' / 'a.pth', test=cfg, val=dict(cfg)))
    assert 'validation image' in found.note
    assert sorted(item.label for item in found.items) == ['one', 'two']
    assert found.place == str(tmp_path / 'w' / 'split.csv')


@pytest.mark.parametrize('below', ['', 'train'])
def test_the_folder_of_the_training_images_has_moved(digit_folder, below):
    old = model(train=folder('/old', 'train'), val=folder('/old', 'val'), test=folder('/elsewhere', 'test'))
    with pytest.raises(FileNotFoundError, match='/elsewhere/test, are not there'):
        configured_images(old, str(digit_folder / below))
    del old.config['test_dataloader']
    found = configured_images(old, str(digit_folder / below))
    assert (len(found.items), found.place) == (16, str(digit_folder / 'val'))


def test_decisions_move_with_their_work_dir(digit_folder, tmp_path):
    image = sorted((digit_folder / 'val' / 'one').iterdir())[0]
    (tmp_path / 'drop.csv').write_text(f'path,label,suggested,decision\none/{image.name},one,,drop\n')
    cfg = folder(digit_folder, 'val', drop=dict(file=str(tmp_path / 'old' / 'drop.csv')))
    assert len(listed_images(cfg, model(tmp_path / 'a.pth'))) == 15


def test_images_in_memory_are_taken_too():
    found = configured_images(model(test=dict(type='Digits', split='test', indices=3, pipeline=[])))
    assert len(found.items) == 3
    assert found.items[0].source.size == (8, 8)
    assert found.place == 'Digits (test)'


def test_wrapped_data_sets_are_listed(digit_folder):
    parts = [folder(digit_folder, 'val'), folder(digit_folder, 'train')]
    found = configured_images(model(test=dict(type='hybridcls.ConcatDataset', datasets=parts)))
    assert len(found.items) == 64
