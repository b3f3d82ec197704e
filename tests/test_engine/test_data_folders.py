"""Folders of images: what is missing comes to light at once, and numbers mean the same class everywhere."""

import shutil

import pytest
from mmengine.config import Config

from hybridcls.engine.data_folders import check_data_folders, share_class_names


def config(root, **more):
    def loader(prefix):
        return dict(dataset=dict(type='ImageFolder', data_root=str(root), data_prefix=prefix, pipeline=[]))

    return Config(
        dict(
            train_dataloader=loader('train'),
            val_dataloader=loader('val'),
            test_dataloader=loader('val'),
            train_cfg=dict(),
            val_cfg=dict(),
            test_cfg=dict(),
            **more,
        )
    )


@pytest.mark.parametrize('name', ['train', 'val', 'test'])
def test_each_dataloader_is_looked_at_if_it_is_used(digit_folder, name):
    cfg = config(digit_folder)
    cfg[f'{name}_dataloader'].dataset.data_prefix = 'vall'
    with pytest.raises(FileNotFoundError, match=r"vall does not exist.*Did you mean 'val'"):
        check_data_folders(cfg)
    cfg[f'{name}_cfg'] = None
    check_data_folders(cfg)


def test_wrapped_data_sets_and_those_of_hooks_are_found(digit_folder):
    missing = dict(type='ImageFolder', data_root=str(digit_folder), data_prefix='none', pipeline=[])
    for more in (
        dict(custom_hooks=[dict(type='EmbeddingBankHook', dataloader=dict(dataset=missing))]),
        dict(other_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=missing))),
    ):
        with pytest.raises(FileNotFoundError, match='none does not exist'):
            check_data_folders(config(digit_folder, **more))


def test_other_data_sets_are_left_alone():
    check_data_folders(Config(dict(train_dataloader=dict(dataset=dict(type='Digits')), train_cfg=dict())))


def test_a_validation_that_lacks_a_class_keeps_the_numbers_of_the_training(digit_folder, tmp_path):
    shutil.copytree(digit_folder, tmp_path / 'data')
    shutil.rmtree(tmp_path / 'data' / 'val' / 'one')
    cfg = config(tmp_path / 'data')
    share_class_names(cfg)
    from hybridcls.datasets import ImageFolder

    settings = {k: v for k, v in cfg.val_dataloader.dataset.items() if k != 'type'}
    val = ImageFolder(**settings)
    assert {val.CLASSES[label] for label in val.get_gt_labels()} == {'three', 'two', 'zero'}
    assert val.CLASSES == ('one', 'three', 'two', 'zero')
    assert 'classes' not in cfg.train_dataloader.dataset


def test_folders_that_agree_or_are_named_stay_as_they_are(digit_folder):
    cfg = config(digit_folder)
    cfg.test_dataloader.dataset.classes = ['zero', 'one', 'two', 'three']
    before = cfg.to_dict()
    share_class_names(cfg)
    assert cfg.to_dict() == before


def test_a_validation_with_a_class_of_its_own_is_an_error_when_it_is_read(digit_folder, tmp_path):
    shutil.copytree(digit_folder, tmp_path / 'data')
    (tmp_path / 'data' / 'val' / 'one').rename(tmp_path / 'data' / 'val' / 'onee')
    cfg = config(tmp_path / 'data')
    share_class_names(cfg)
    from hybridcls.datasets import ImageFolder

    settings = {k: v for k, v in cfg.val_dataloader.dataset.items() if k != 'type'}
    with pytest.raises(ValueError, match=r"\['onee'\], which are not among the 4 classes. Did you mean 'one'"):
        ImageFolder(**settings)
