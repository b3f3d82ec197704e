"""Folders of images: what is missing comes to light at once."""

import pytest
from mmengine.config import Config

from hybridcls.engine.config.image_folders import check_image_folders


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
        check_image_folders(cfg)
    cfg[f'{name}_cfg'] = None
    check_image_folders(cfg)


def test_wrapped_data_sets_and_those_of_hooks_are_found(digit_folder):
    missing = dict(type='ImageFolder', data_root=str(digit_folder), data_prefix='none', pipeline=[])
    for dataset in (missing, dict(type='RepeatDataset', times=2, dataset=missing)):
        cfg = config(digit_folder, custom_hooks=[dict(type='EmbeddingBankHook', dataloader=dict(dataset=dataset))])
        with pytest.raises(FileNotFoundError, match='none does not exist'):
            check_image_folders(cfg)
        cfg = config(digit_folder)
        cfg.val_dataloader.dataset = dataset
        with pytest.raises(FileNotFoundError, match='none does not exist'):
            check_image_folders(cfg)


def test_a_variable_of_the_file_is_no_place_of_images(digit_folder):
    missing = dict(type='ImageFolder', data_root=str(digit_folder), data_prefix='none', pipeline=[])
    check_image_folders(config(digit_folder, other_dataloader=dict(dataset=missing)))


def test_other_data_sets_are_left_alone():
    check_image_folders(Config(dict(train_dataloader=dict(dataset=dict(type='Digits')), train_cfg=dict())))


def test_a_hook_that_is_off_needs_no_images_and_the_place_of_another_is_named():
    own = dict(dataset=dict(type='Digits'))
    bank = dict(dataset=dict(type='ImageFolder', split='train'))
    hooks = dict(off=dict(type='BackwardCompatHook', old=None, dataloader=bank))
    cfg = Config(dict(train_dataloader=own, train_cfg=dict(), default_hooks=hooks))
    check_image_folders(cfg)
    cfg.default_hooks.off.old = 'old.pth'
    with pytest.raises(ValueError, match=r'^default_hooks\.off\.dataloader: expected an ImageFolder with a data_root'):
        check_image_folders(cfg)
    cfg.default_hooks = dict(head_first=dict(type='HeadFirstHook', dataloader=bank))
    with pytest.raises(ValueError, match=r'^default_hooks\.head_first\.dataloader: .* write your own dataset here'):
        check_image_folders(cfg)
