"""What a dataloader names is looked for before anything is built."""

import pytest
from mmengine.config import Config

from hybridcls.engine.config.dataloaders import check_dataloaders


@pytest.mark.parametrize(
    'dataloader',
    [
        dict(),
        dict(collate_fn=None),
        dict(collate_fn=list),
        dict(collate_fn=dict(type=list)),
        dict(collate_fn=dict(type='default_collate'), worker_init_fn=dict(type='hybridcls.seed_worker')),
        dict(collate_fn=dict(type='mmengine.pseudo_collate')),
    ],
)
def test_what_mmengine_finds_passes(dataloader):
    check_dataloaders(Config(dict(train_dataloader=dataloader)))


@pytest.mark.parametrize(
    ('dataloader', 'sentence'),
    [
        (dict(collate_fn=dict(type='default_colate')), "default_colate is not in .* Did you mean 'default_collate'"),
        (dict(collate_fn=dict(type='nosuchpackage.collate')), "Its package 'nosuchpackage' is not installed"),
        (dict(collate_fn=dict(tpye='default_collate')), r"val_dataloader.collate_fn = {'tpye': .*} has no 'type'"),
        (
            dict(worker_init_fn=dict(type='seed_worker')),
            r"val_dataloader.worker_init_fn.type='seed_worker' is a function "
            "of hybridcls.* Write 'hybridcls.seed_worker'",
        ),
    ],
)
def test_what_it_does_not_find_is_told(dataloader, sentence):
    with pytest.raises((ValueError, KeyError), match=sentence):
        check_dataloaders(Config(dict(val_dataloader=dataloader)))
