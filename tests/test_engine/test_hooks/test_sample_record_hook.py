"""What a training records of its images is what its forward passes gave, in one piece or several, and costs nothing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.hooks import Hook
from PIL import Image
from processes import run_tool
from toy_runs import train

from hybridcls.compat.mmengine import bare_model
from hybridcls.registry import HOOKS
from hybridcls.structures.sample_record import SampleRecord

CLASSES = ('blue', 'green', 'red')
RECORD = [dict(type='SampleRecordHook')]


@HOOKS.register_module()
class EmbeddingSpy(Hook):
    """Keep what the head is given in each forward pass of the training, with the weights of that moment."""

    def before_train(self, runner):
        self.seen, self.passes = [], 0
        head = bare_model(runner.model).head
        loss = head.loss

        def spied(feats, samples):
            if head.training:
                self.passes += 1
                with torch.no_grad():
                    self.seen.append(([one.sample_idx for one in samples], head(feats).float().clone()))
            return loss(feats, samples)

        head.loss = spied

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen = [one for one in self.seen]


def config(folder, head=None, **changes):
    dataset = dict(
        type='ImageFolder', data_root=str(folder / 'images'),
        pipeline=[dict(type='LoadImage'), dict(type='PackInputs')],
    )  # fmt: skip
    cfg = dict(
        default_scope='hybridcls',
        randomness=dict(seed=0),
        log_level='INFO',
        model=dict(
            type='HybridClassifier',
            backbone=dict(type='TimmStream', model_name='test_vit', img_size=32, drop_path_rate=0.0),
            head=dict(type='LinearHead', num_classes=3) | (head or {}),
        ),
        train_dataloader=dict(
            batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True), dataset=dataset
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(type='ComposedOptimWrapper', optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1), logger=dict(type='LoggerHook')),
        custom_hooks=RECORD,
    )
    cfg.update(changes)
    path = folder / f'{len(list(folder.glob("*.py")))}.py'
    Config(cfg).dump(path)
    return str(path)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """14 images of three classes: the last batch of four has two."""
    folder, rng = tmp_path_factory.mktemp('record'), np.random.default_rng(0)
    for row in range(14):
        path = folder / 'images' / CLASSES[row % 3] / f'{row}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(path)
    return folder


@pytest.fixture(scope='module')
def whole(folder):
    """A training with SAM, which passes each batch twice."""
    sam = dict(type='ComposedOptimWrapper', optimizer=dict(type='SGD', lr=0.01), stages=dict(sam=dict(type='SAM')))
    path = config(folder, optim_wrapper=sam, custom_hooks=[*RECORD, dict(type='EmbeddingSpy')])
    runner = train(path, folder / 'whole')
    return runner, path, next(hook for hook in runner.hooks if isinstance(hook, EmbeddingSpy))


def read(work_dir):
    return SampleRecord.read(work_dir / 'sample_record.npz')


def same(one, other, tolerance=0.0):
    assert one.paths == other.paths
    assert one.epochs.tolist() == other.epochs.tolist()
    for name in ('labels', 'loss', 'margin', 'other', 'seen'):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=tolerance, atol=tolerance)
    for name, values in one.means.items():
        np.testing.assert_allclose(values, other.means[name], rtol=tolerance, atol=tolerance)


def test_it_is_what_the_first_pass_of_each_batch_gave(folder, whole):
    _, _, spy = whole
    record = read(folder / 'whole')
    assert len(record) == 14
    assert record.classes == list(CLASSES)
    assert record.root == str(folder / 'images')
    assert record.paths[0].endswith('images/blue/0.png')
    assert (record.seen == 3).all()
    batches = 4 * 3
    assert spy.passes == 2 * batches  # SAM's second one is not recorded
    for epoch in range(3):
        for rows, logits in spy.seen[8 * epoch : 8 * epoch + 8 : 2]:
            labels = torch.from_numpy(record.labels[rows]).long()
            others = logits.scatter(1, labels[:, None], -torch.inf)
            own = logits.gather(1, labels[:, None])[:, 0]
            margins = own - others.amax(1)
            np.testing.assert_allclose(record.margin[epoch, rows], margins, atol=2e-3)
            np.testing.assert_allclose(
                record.loss[epoch, rows], F.cross_entropy(logits, labels, reduction='none'), atol=2e-3
            )
            assert record.other[epoch, rows].tolist() == others.argmax(1).tolist()
    np.testing.assert_allclose(record.means['margin'], record.margin.astype(float).mean(0), atol=2e-3)
    np.testing.assert_allclose(record.means['right'], (record.margin > 0).mean(0), atol=1e-6)


def test_the_training_is_the_same_without_it(folder, whole):
    runner, path, _ = whole
    plain = train(path, folder / 'plain', custom_hooks=[])
    states = (bare_model(one.model).state_dict() for one in (runner, plain))
    one, other = states
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not (folder / 'plain' / 'sample_record.npz').exists()


def test_a_run_that_was_stopped_in_an_epoch_ends_with_the_same_record(folder, whole):
    _, path, _ = whole
    every = dict(type='CheckpointHook', by_epoch=False, interval=6)
    train(path, folder / 'stopped', **{'default_hooks.checkpoint': every})
    checkpoint = folder / 'stopped' / 'iter_6.pth'
    assert torch.load(checkpoint, weights_only=True)['sample_record']['counts'].sum() > 0  # within an epoch
    train(path, folder / 'resumed', resume=str(checkpoint), **{'default_hooks.checkpoint': every})
    same(read(folder / 'resumed'), read(folder / 'whole'))
    other = dict(type='CheckpointHook', interval=1)
    train(path, folder / 'again', resume=str(folder / 'whole' / 'epoch_1.pth'), **{'default_hooks.checkpoint': other})
    same(read(folder / 'again'), read(folder / 'whole'))


def test_two_processes_record_what_one_does(folder):
    still = dict(type='ComposedOptimWrapper', optimizer=dict(type='SGD', lr=0.0))  # 7 batches, of 2 and filled up
    path = config(folder, optim_wrapper=still, train_cfg=dict(by_epoch=True, max_epochs=2))
    train(path, folder / 'one')
    run_tool('train.py', path, '--work-dir', folder / 'two', '--device', 'cpu', '--cfg-options',
             'train_dataloader.batch_size=4', count=2)  # fmt: skip
    same(read(folder / 'one'), read(folder / 'two'), tolerance=2e-3)


def test_memory_is_bounded_by_a_grid_that_gets_coarser(folder):
    few = [dict(type='SampleRecordHook', most_epochs=3)]
    train(config(folder, custom_hooks=few, train_cfg=dict(by_epoch=True, max_epochs=9)), folder / 'few')
    record = read(folder / 'few')
    assert record.epochs.tolist() == [0, 4, 8]
    assert (record.seen == 9).all()
    assert record.loss.shape == (3, 14)


def test_mixed_images_are_skipped_and_counted(folder):
    mixed = config(folder)
    cfg = Config.fromfile(mixed)
    cfg.model.train_cfg = dict(augments=[dict(type='Mixup', alpha=0.8)])
    cfg.train_dataloader.batch_size = 7
    cfg.dump(folder / 'mixed.py')
    train(str(folder / 'mixed.py'), folder / 'mixed')
    record = read(folder / 'mixed')
    assert record.about['skipped'] == 3 * 14
    assert (record.seen == 0).all()


def test_heads(folder):
    short = dict(by_epoch=True, max_epochs=1)
    train(config(folder, head=dict(type='EvidentialHead'), train_cfg=short), folder / 'evidence')
    record = read(folder / 'evidence')
    assert ((record.vacuity > 0) & (record.vacuity <= 1)).all()
    heads = dict(main=dict(type='ArcFaceHead', num_subcenters=3), more=dict(type='EvidentialHead'))
    train(config(folder, head=dict(type='MultiHead', heads=heads), train_cfg=short), folder / 'sub')
    record = read(folder / 'sub')
    assert record.about['head'] == 'ArcFaceHead'
    assert set(record.subcenter.ravel()) <= {0, 1, 2}
    assert (np.abs(record.margin.astype(float)) <= 2 * 64).all()
    supcon = config(folder, train_cfg=short)
    cfg = Config.fromfile(supcon)
    cfg.model.head = dict(type='SupConHead')
    cfg.dump(folder / 'supcon.py')
    train(str(folder / 'supcon.py'), folder / 'supcon')
    assert not (folder / 'supcon' / 'sample_record.npz').exists()
    assert 'SupConHead has no logits of one class an image' in next((folder / 'supcon').glob('*/*.log')).read_text()
