"""A bank with the evaluated images in it: each would be its own nearest neighbour."""

import pytest
from made_images import class_folders
from mmengine.config import Config

from hybridcls.apis.doctor.banks import check_banks
from hybridcls.apis.doctor.data_parts import build_parts
from hybridcls.apis.doctor.subject import Subject


def dataset(root, split):
    return dict(type='ImageFolder', data_root=str(root), data_prefix=split)


@pytest.mark.parametrize(('split', 'count'), [('train', 0), ('more', 0), ('val', 1)])
def test_which_bank_is_told(tmp_path, split, count):
    for position, name in enumerate(('train', 'val', 'more')):
        class_folders(tmp_path / name, **{'cat': 2 + position, 'dog': 2})
    cfg = dict(
        train_dataloader=dict(dataset=dataset(tmp_path, 'train')),
        val_dataloader=dict(dataset=dataset(tmp_path, 'val')),
        test_dataloader=dict(dataset=dataset(tmp_path, 'val')),
        custom_hooks=[dict(type='EmbeddingBankHook', dataloader=dict(dataset=dataset(tmp_path, split)))],
    )
    subject = Subject(Config(cfg), str(tmp_path))
    list(build_parts(subject))
    found = list(check_banks(subject))
    assert len(found) == count
    for one in found:
        assert one.where == 'custom_hooks.0.dataloader.dataset'
        assert one.what.startswith('5 of 5 images of val are in the bank too')
