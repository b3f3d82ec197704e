"""The bank of the nearest-neighbour metric: whose images, whose weights, and that training does not notice."""

from types import SimpleNamespace

import pytest
import torch
from made_images import class_folders
from mmengine.model import BaseModel

from hybridcls.datasets import ConcatDataset, Digits
from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_testing, prepare_training
from hybridcls.engine.hooks import GalleryHook
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.registry import METRICS, MODELS

CONFIG = """
default_scope = 'hybridcls'
model = dict(type='BankModel')
train_dataloader = dict(batch_size=32, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                        dataset=dict(type='Digits', indices=64, pipeline=[dict(type='PackInputs')]))
val_dataloader = dict(batch_size=32, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                      dataset=dict(type='Digits', split='test', indices=50, pipeline=[dict(type='PackInputs')]))
test_dataloader = val_dataloader
bank_dataloader = dict(batch_size=32, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                       dataset=dict(type='Digits', indices=100, pipeline=[dict(type='PackInputs')]))
val_evaluator = test_evaluator = dict(type='WatchedKNN', k=1)
train_cfg = dict(by_epoch=True, max_epochs=2)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type='ComposedOptimWrapper', optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
custom_hooks = [dict(type='EmbeddingBankHook', dataloader=bank_dataloader)]
randomness = dict(seed=0)
log_level = 'ERROR'
env_cfg = dict(dist_cfg=dict(backend='gloo'))
"""
BANKS = []


@METRICS.register_module(force=True)
class WatchedKNN(METRICS.get('KNNAccuracy')):
    """Keeps what it was given."""

    def set_bank(self, embeddings, labels):
        BANKS.append((embeddings, labels))
        super().set_bank(embeddings, labels)


@MODELS.register_module(force=True)
class BankModel(BaseModel):
    """The embedding is the image times a weight that training moves; dropout tells eval mode from training."""

    def __init__(self):
        super().__init__(data_preprocessor=dict(type='HybridDataPreprocessor'))
        self.weight = torch.nn.Parameter(torch.ones(()))

    def init_weights(self):
        """Plain."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        embedding = torch.nn.functional.dropout(inputs.flatten(1), 0.5, self.training) * self.weight
        if mode == 'loss':
            return dict(loss=(embedding.mean() - 1).square())
        for sample, row in zip(data_samples, embedding, strict=True):
            sample.set_field(row, 'embedding')
        return data_samples


@pytest.fixture
def config(tmp_path):
    BANKS.clear()
    path = tmp_path / 'bank.py'
    path.write_text(CONFIG)
    return path


def train(config, work_dir, **options):
    with isolated_globals():
        runner = build_runner(prepare_training(load_config(config, options), TrainOptions(), str(work_dir)))
        runner.train()
        return runner, runner.message_hub.get_scalar('val/knn/top1').current()


def test_neighbours_are_the_images_of_the_bank_with_the_weights_of_the_moment(config, tmp_path):
    runner, score = train(config, tmp_path / 'w')
    assert [tuple(embeddings.shape) for embeddings, _ in BANKS] == [(100, 192)] * 2
    from hybridcls.datasets import Digits

    labels = Digits(indices=100).get_gt_labels()
    assert BANKS[1][1].tolist() == list(labels)
    digits = Digits(indices=100)
    images = torch.stack([torch.from_numpy(digits[i]['img']).permute(2, 0, 1).flatten() for i in range(100)])
    torch.testing.assert_close(BANKS[1][0], images / 255.0 * runner.model.weight.item(), rtol=1e-5, atol=1e-6)
    assert not torch.equal(BANKS[0][0], BANKS[1][0])
    assert score > 70  # one neighbour among 100 digits, by the raw pixels


def test_training_draws_the_same_numbers_with_and_without_a_bank(config, tmp_path):
    with_bank, _ = train(config, tmp_path / 'a')
    without, _ = train(config, tmp_path / 'b', custom_hooks=[])
    assert with_bank.model.weight.item() == without.model.weight.item()


def test_averaged_weights_fill_the_bank_when_they_are_evaluated(config, tmp_path):
    hooks = [dict(type='EMAHook', momentum=0.5), *load_config(config).custom_hooks]
    runner, _ = train(config, tmp_path / 'w', custom_hooks=hooks)
    ema = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model.module.weight.item()
    assert ema != runner.model.weight.item()
    assert BANKS[-1][0].max().item() == pytest.approx(ema)  # the brightest pixel of a scan is 1


def test_a_test_has_a_bank_too(config, tmp_path):
    train(config, tmp_path / 'w')
    with isolated_globals():
        checkpoint = str(tmp_path / 'w' / 'epoch_2.pth')
        cfg = prepare_testing(load_config(config), checkpoint, TrainOptions(), str(tmp_path / 't'))
        assert build_runner(cfg).test()['knn/top1'] > 70
    assert len(BANKS) == 3


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        ({'val_evaluator': dict(_delete_=True, type='ValLoss')}, 'no metric of this evaluation uses a bank'),
        ({'model.type': 'BankModelWithoutEmbedding'}, 'have no embedding'),
        ({'model.type': 'BankModelOfSeveralLabels'}, r'expected images with one label each, got \[0, 1\]'),
    ],
)
def test_what_cannot_work_is_told(config, tmp_path, options, sentence):
    @MODELS.register_module(force=True)
    class BankModelWithoutEmbedding(BankModel):
        """Predicts nothing."""

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return data_samples if mode == 'predict' else super().forward(inputs, data_samples, mode)

    @MODELS.register_module(force=True)
    class BankModelOfSeveralLabels(BankModel):
        """Its images have two labels."""

        def forward(self, inputs, data_samples=None, mode='tensor'):
            outputs = super().forward(inputs, data_samples, mode)
            return [sample.set_gt_label([0, 1]) for sample in outputs] if mode == 'predict' else outputs

    with pytest.raises(ValueError, match=sentence):
        train(config, tmp_path / 'w', **options)


def test_its_images_are_read_as_those_of_the_test(config, tmp_path):
    """An old checkpoint was trained with preprocessing version 1, which holds for the bank too."""
    config.write_text(CONFIG.replace('pipeline=[dict', "pipeline=[dict(type='LoadImage'), dict"))
    torch.save(dict(state_dict=dict(weight=torch.ones(())), meta={}), tmp_path / 'old.pth')
    cfg = prepare_testing(load_config(config), str(tmp_path / 'old.pth'), TrainOptions(), str(tmp_path / 'work'))
    with isolated_globals():
        runner = build_runner(cfg)
        runner.test()
    (bank,) = [hook.dataloader for hook in runner.hooks if type(hook).__name__ == 'EmbeddingBankHook']
    assert bank.dataset.pipeline.transforms[0].version == 1
    assert runner.test_dataloader.dataset.pipeline.transforms[0].version == 1


def test_a_query_that_is_in_the_gallery_is_named(tmp_path):
    """It would find itself."""
    root = class_folders(tmp_path / 'both', cat=2, dog=1)
    more = class_folders(tmp_path / 'more', cat=1)
    queries, gallery, other = (
        ConcatDataset([dict(type='ImageFolder', data_root=str(one)) for one in parts])
        for parts in ([root], [more, root], [more])
    )
    said = []
    runner = SimpleNamespace(logger=SimpleNamespace(warning=said.append))
    hook = GalleryHook(dict())
    hook._compare(runner, other, queries)
    assert said == []
    hook._compare(runner, gallery, queries)
    assert said[0].startswith('GalleryHook: 3 of 3 queries are in the gallery too, and find themselves: ')
    assert f'{root}/cat/0.png' in said[0]
    hook._compare(runner, Digits(indices=2), queries)  # has no files
    assert len(said) == 1


def test_a_gallery_needs_a_metric_that_searches_it(config, tmp_path):
    hooks = [dict(load_config(config).custom_hooks[0], type='GalleryHook')]
    with pytest.raises(ValueError, match=r'^GalleryHook: no metric of this evaluation uses a gallery. Add .*Retrieval'):
        train(config, tmp_path / 'w', custom_hooks=hooks)
