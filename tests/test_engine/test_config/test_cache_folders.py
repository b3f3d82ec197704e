"""Mapped caches of images: in the work dir, or where the config says."""

from config_helpers import loaded

from hybridcls.engine.config.cache_folders import cache_folders
from hybridcls.engine.config.change import apply, provenance_of

CONFIG = """
cache_dir = None
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    type='ConcatDataset', datasets=[
        dict(type='ImageFolder', cache=dict(where='mapped')),
        dict(type='ImageFolder', cache=dict(where='mapped', folder='mine'))]))
val_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(type='ImageFolder', cache='uint8'))
"""


def folders(cfg):
    return [one.cache.get('folder') for one in cfg.train_dataloader.dataset.datasets]


def test_a_mapped_cache_is_in_the_work_dir(tmp_path):
    cfg = loaded(tmp_path, base=CONFIG)
    apply(cfg, cache_folders, 'work')
    assert folders(cfg) == ['work/image_cache', 'mine']
    assert cfg.val_dataloader.dataset.cache == 'uint8'


def test_cache_dir_comes_first_and_what_is_written_before_it(tmp_path):
    cfg = loaded(tmp_path, base=CONFIG, options=dict(cache_dir='all'))
    apply(cfg, cache_folders, 'work')
    assert folders(cfg) == ['all', 'mine']
    assert any("cache_dir='all' does not reach" in note for note in provenance_of(cfg).notes)
