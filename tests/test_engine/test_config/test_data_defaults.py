"""What is left open is chosen by the number of images; what is written stays."""

import pytest
import torch
from config_helpers import applied, loaded

from hybridcls.engine.config import provenance_of
from hybridcls.engine.config.data_defaults import DataDefaults, data_defaults
from hybridcls.engine.training import start_from

OPEN = """
batch_size = None
max_epochs = None
lr = None
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW'))
pipeline = [dict(type='RandomCropToSize', img_size=8, crop_ratio_range=None)]
train_dataloader = dict(drop_last=None, dataset=dict(type='Digits', split='train', indices={images}, pipeline=pipeline))
val_dataloader = dict(dataset=dict(type='Digits', split='val'))
train_cfg = dict(by_epoch=True)
cnn = dict(model_name='test_resnet', pretrained=True)
model = dict(type='HybridClassifier', backbone=dict(type='HybridBackbone', cnn=cnn, norm_eval=None))
default_hooks = dict(
    ema=dict(type='EMAHook', momentum=None), early_stopping=dict(type='EarlyStoppingHook', monitor='x', patience=None))
"""


@pytest.mark.parametrize('images', [1, 3, 7, 20, 40, 100, 563, 1000, 20000])
@pytest.mark.parametrize('processes', [1, 2])
def test_every_number_of_images_can_be_trained(images, processes):
    """No epoch without a batch, even where incomplete batches are left out."""
    chosen = DataDefaults.of(images, processes)
    assert 1 <= chosen.batch_size * processes <= 32
    assert not chosen.drop_last or images >= chosen.batch_size * processes
    assert 10 <= chosen.max_epochs <= 30
    assert chosen.updates >= chosen.max_epochs
    of_a_large_batch = DataDefaults.of(images, processes, batch_size=256)
    assert of_a_large_batch.drop_last == (images >= 256 * processes)


def test_open_places_are_filled_and_told(tmp_path):
    cfg = applied(loaded(tmp_path, base=OPEN.format(images=100)), data_defaults)
    assert (cfg.train_dataloader.batch_size, cfg.train_dataloader.drop_last) == (8, True)
    assert cfg.val_dataloader.batch_size == 32
    assert cfg.train_cfg.max_epochs == 25  # 300 updates of 12 batches
    assert cfg.default_hooks.ema.momentum == pytest.approx(1 / 30, rel=0.05)
    assert cfg.default_hooks.early_stopping.patience == 12
    assert cfg.model.backbone.norm_eval is True
    assert cfg.optim_wrapper.optimizer.lr == 1e-3
    assert cfg.train_dataloader.dataset.pipeline[0].crop_ratio_range == (0.2, 1.0)
    reasons = {change.path: change.why for change in provenance_of(cfg).changes if change.told}
    assert reasons[('train_cfg', 'max_epochs')] == '100 images, 300 updates'
    again = applied(loaded(tmp_path, base=OPEN.format(images=100)), data_defaults)
    assert again.to_dict() == cfg.to_dict()


def test_a_batch_sampler_decides_about_incomplete_batches(tmp_path):
    """torch refuses drop_last=True beside one."""
    sampler = {'train_dataloader.batch_sampler': dict(type='PKSampler', images_per_class=2)}
    cfg = applied(loaded(tmp_path, base=OPEN.format(images=100), options=sampler), data_defaults)
    assert not cfg.train_dataloader.drop_last


def test_what_is_written_stays(tmp_path):
    written = {
        'batch_size': 10,
        'max_epochs': 3,
        'lr': 0.3,
        'train_dataloader.drop_last': False,
        'default_hooks.ema.momentum': 0.2,
        'default_hooks.early_stopping.patience': 2,
        'model.backbone.norm_eval': False,
        'train_dataloader.dataset.pipeline.0.crop_ratio_range': (0.1, 0.2),
    }
    cfg = loaded(tmp_path, base=OPEN.format(images=100), options=written)
    before = cfg.to_dict()
    assert applied(cfg, data_defaults).to_dict() == before


def test_a_transformer_learns_slower(tmp_path):
    text = OPEN.format(images=100).replace('cnn=cnn', "vit=dict(model_name='test_vit')")
    cfg = applied(loaded(tmp_path, base=text), data_defaults)
    assert cfg.optim_wrapper.optimizer.lr == 1e-4


def test_statistics_of_random_weights_move(tmp_path):
    options = {'model.backbone.cnn.pretrained': False}
    cfg = applied(loaded(tmp_path, base=OPEN.format(images=100), options=options), data_defaults)
    assert cfg.model.backbone.norm_eval is False


@pytest.mark.parametrize('load_from', [None, 'pretrained.pth'])
@pytest.mark.parametrize('written', [False, True])
def test_a_resume_decides_as_the_training_that_it_continues(tmp_path, load_from, written):
    """Its checkpoint is no pretrained network: BatchNorm of random weights would stop to learn in the middle."""
    options = {'model.backbone.cnn.pretrained': False, 'load_from': load_from}
    if written and load_from is None:
        options.update(resume=True, load_from='epoch_1.pth')
    cfg = loaded(tmp_path, base=OPEN.format(images=100), options=options)
    torch.save(dict(meta={}, state_dict={}), tmp_path / 'epoch_1.pth')
    if not written:
        applied(cfg, start_from, str(tmp_path / 'epoch_1.pth'))
        assert cfg.resume
        assert cfg.load_from.endswith('epoch_1.pth')
    assert applied(cfg, data_defaults).model.backbone.norm_eval is (load_from is not None)


def test_a_test_counts_no_images(tmp_path):
    text = OPEN.format(images=100).replace("type='Digits', split='train'", "type='Nowhere'")
    cfg = applied(loaded(tmp_path, base=text), data_defaults, 1, True)
    assert cfg.val_dataloader.batch_size == 32
    assert cfg.default_hooks.ema.momentum > 0


def test_pipelines_of_inner_data_sets_are_not_built_for_the_count(tmp_path):
    """What is None in a crop is filled after the images are counted, in datasets of datasets too."""
    crop = dict(type='RandomCropToSize', img_size=8, crop_ratio_range=None)
    images = loaded(tmp_path, base=OPEN.format(images=100)).train_dataloader.dataset
    joined = dict(_delete_=True, type='ConcatDataset', datasets=[dict(images, pipeline=[crop])] * 2)
    cfg = loaded(tmp_path, base=OPEN.format(images=100), options={'train_dataloader.dataset': joined})
    parts = applied(cfg, data_defaults).train_dataloader.dataset.datasets
    assert [part.pipeline[0].crop_ratio_range for part in parts] == [(0.2, 1.0)] * 2


def test_a_limit_is_the_reason_where_a_limit_decides():
    from hybridcls.engine.config.data_defaults import _momentum, _patience

    assert _patience(2) == (3, 'at least, as there are only 2 epochs')
    assert _patience(20) == (10, 'half of 20 epochs')
    assert _momentum(6) == (0.5, 'at most, as there are only 6 updates')
    assert _momentum(300) == (0.033, 'a tenth of 300 updates')
