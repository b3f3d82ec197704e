"""Thresholds of classes are fitted on the validation data, and are in the checkpoints."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from PIL import Image
from processes import run_tool
from toy_runs import run_test, train

from hybridcls.functional.multilabel import f1_thresholds
from hybridcls.registry import DATASETS, MODELS

SPLITS = dict(train=24, val=13)  # 13: the last batch of two processes is padded


def dataset(split, folder):
    return dict(
        type='ImageFolder', data_root=str(folder), ann_file=f'{split}.csv', multi_label=True,
        classes=['red', 'green', 'blue'], pipeline=[dict(type='LoadImage'), dict(type='PackInputs')],
    )  # fmt: skip


def loader(split, folder):
    sampler = dict(type='DefaultSampler', shuffle=split == 'train')
    return dict(batch_size=4, num_workers=0, sampler=sampler, dataset=dataset(split, folder))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Images of 32 pixels with any of three coloured squares, their labels, and a config."""
    folder, rng = tmp_path_factory.mktemp('several'), np.random.default_rng(0)
    for split, count in SPLITS.items():
        lines = ['path,label']
        for number in range(count):
            image = rng.integers(0, 60, (32, 32, 3)).astype(np.uint8)
            colours = [colour for colour in range(3) if rng.random() < (0.6, 0.4, 0.3)[colour]]
            for colour in colours:
                image[rng.integers(16) :, rng.integers(16) :, colour] += 150
            Image.fromarray(image).save(folder / f'{split}{number}.png')
            lines.append(f'{split}{number}.png,' + '|'.join(('red', 'green', 'blue')[colour] for colour in colours))
        (folder / f'{split}.csv').write_text('\n'.join(lines))
    head = dict(type='MultiLabelHead', num_classes=3, pos_weight='balanced', thresholds='f1')
    Config(
        dict(
            default_scope='hybridcls',
            randomness=dict(seed=0),
            model=dict(
                type='HybridClassifier',
                backbone=dict(type='TimmStream', model_name='test_vit', img_size=32, drop_path_rate=0.0),
                head=head,
            ),
            train_dataloader=loader('train', folder),
            val_dataloader=loader('val', folder),
            test_dataloader=loader('val', folder),
            val_evaluator=[dict(type='AveragePrecision'), dict(type='ValLoss')],
            test_evaluator=[dict(type='MultiLabelMetric', average=None)],
            train_cfg=dict(by_epoch=True, max_epochs=2),
            val_cfg=dict(),
            test_cfg=dict(),
            optim_wrapper=dict(type='ComposedOptimWrapper', optimizer=dict(type='SGD', lr=0.05)),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best='multi-label/mAP')),
            custom_hooks=[dict(type='EMAHook', momentum=0.5)],
        )
    ).dump(folder / 'config.py')
    return folder


@pytest.fixture(scope='module')
def whole(folder):
    train(str(folder / 'config.py'), folder / 'whole')
    return folder / 'whole'


def load(path):
    return torch.load(path, weights_only=True)


def expected(folder, checkpoint):
    """The thresholds for the predictions of the weights of a checkpoint, image by image."""
    model = MODELS.build(Config.fromfile(folder / 'config.py').model).eval()
    model.load_state_dict(load(checkpoint)['state_dict'])
    with DefaultScope.overwrite_default_scope('hybridcls'), torch.no_grad():
        samples = [model.test_step(pseudo_collate([item]))[0] for item in DATASETS.build(dataset('val', folder))]
    targets = torch.zeros(len(samples), 3)
    for row, sample in enumerate(samples):
        targets[row, sample.gt_label] = 1
    return f1_thresholds(torch.stack([sample.pred_score for sample in samples]), targets)


def test_checkpoints_have_the_thresholds_of_their_own_validation(folder, whole):
    for name in ('epoch_1.pth', 'epoch_2.pth', next(whole.glob('best_*.pth')).name):
        checkpoint = load(whole / name)
        found = checkpoint['state_dict']['head.thresholds.values']
        torch.testing.assert_close(found, expected(folder, whole / name).thresholds)
        if 'ema_state_dict' in checkpoint:
            assert torch.equal(checkpoint['ema_state_dict']['module.head.thresholds.values'], found)
    assert not torch.equal(
        load(whole / 'epoch_1.pth')['state_dict']['head.thresholds.values'],
        load(whole / 'epoch_2.pth')['state_dict']['head.thresholds.values'],
    )
    log = next(whole.glob('*/*.log')).read_text()
    assert log.count('head.thresholds: thresholds from') == 2
    assert '24 training images, from ' in log
    assert "head: pos_weight='balanced' from" in log


def test_a_test_predicts_by_them(folder, whole):
    result = run_test(str(folder / 'config.py'), str(whole / 'epoch_2.pth'), folder / 'tested')
    f1 = 100 * expected(folder, whole / 'epoch_2.pth').f1
    assert result['multi-label/f1-score_classwise'] == pytest.approx(f1.tolist(), abs=1e-3)


def test_a_resumed_run_ends_in_the_same_bits(folder, whole):
    train(str(folder / 'config.py'), folder / 'resumed', resume=str(whole / 'epoch_1.pth'))
    for part in ('state_dict', 'ema_state_dict'):
        one, other = (load(path / 'epoch_2.pth')[part] for path in (whole, folder / 'resumed'))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.dist
def test_two_processes_fit_on_all_images_once(folder):
    run_tool('train.py', 'config.py', '--work-dir', 'two', count=2, folder=folder)
    state = load(folder / 'two' / 'epoch_2.pth')['state_dict']
    torch.testing.assert_close(
        state['head.thresholds.values'], expected(folder, folder / 'two' / 'epoch_2.pth').thresholds
    )
    assert state['head.positive_weight.counts'][-1] == 24
