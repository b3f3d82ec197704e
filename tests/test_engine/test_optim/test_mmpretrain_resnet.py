"""A config of mmpretrain, unchanged but for its optim_wrapper (and what this small machine needs), on real images."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from sklearn.datasets import load_digits

from hybridcls.engine.runner.global_instances import isolated_globals


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """Written digits as a folder of PNG files, as ImageNet is: train/CLASS/x.png, val/CLASS/x.png."""
    folder = tmp_path_factory.mktemp('digits')
    images, labels = load_digits(return_X_y=True)
    for index, (pixels, label) in enumerate(zip(images[:160], labels[:160], strict=True)):
        place = folder / ('train' if index < 128 else 'val') / f'{label}'
        place.mkdir(parents=True, exist_ok=True)
        gray = np.kron(pixels.reshape(8, 8) * 15.9, np.ones((4, 4))).astype(np.uint8)
        Image.fromarray(gray).convert('RGB').save(place / f'{index}.png')
    return folder


@pytest.mark.slow
def test_it_trains_a_resnet_of_mmpretrain(digits, tmp_path):
    cfg = Config.fromfile(str(_config_folder() / 'resnet' / 'resnet18_8xb16_cifar10.py'))
    cfg.optim_wrapper = dict(
        type='hybridcls.ComposedOptimWrapper',
        optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0001),
        stages=dict(
            sam=dict(type='SAM', rho=0.05),
            gc=dict(type='GradientCentralization'),
            lookahead=dict(type='Lookahead', k=5),
        ),
        clip_grad=dict(max_norm=5.0),
    )
    for loader, part in ((cfg.train_dataloader, 'train'), (cfg.val_dataloader, 'val')):  # images that are here
        loader.dataset = dict(
            type='CustomDataset',
            data_root=str(digits / part),
            pipeline=[dict(type='LoadImageFromFile'), *loader.dataset.pipeline],
        )
        loader.update(num_workers=0, persistent_workers=False)
    cfg.model.backbone.update(stem_channels=8, base_channels=8)  # and a computer of this size
    cfg.model.head.in_channels = 64
    cfg.train_cfg.update(max_epochs=5, val_interval=5)
    cfg.merge_from_dict(
        dict(
            work_dir=str(tmp_path),
            log_level='ERROR',
            randomness=dict(seed=1),
            custom_imports=dict(imports=['hybridcls.engine'], allow_failed_imports=False),
        )
    )
    with isolated_globals():
        runner = Runner.from_cfg(cfg)
        runner.train()
        losses = runner.message_hub.get_scalar('train/loss').data[0]
        accuracy = runner.message_hub.get_scalar('val/accuracy/top1').current()
    assert runner.optim_wrapper.updates == 5 * len(runner.train_dataloader) == 40
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    assert accuracy > 10
    state = torch.load(tmp_path / 'epoch_5.pth', weights_only=False)['optimizer']['state']
    assert all('lookahead/slow' in entry for entry in state.values())


def _config_folder():
    from pathlib import Path

    import mmpretrain

    return Path(mmpretrain.__file__).parent / '.mim' / 'configs'
