"""LoRA through the Runner: over the weights of phase 1, back, and with checkpoints of the adapters alone."""

import pytest
import timm
import torch

from hybridcls.engine import TrainOptions, WeightMismatchError, build_runner, load_config, prepare_training
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.engine.training import prepare_testing
from hybridcls.models.adapters import lora_layers

pytest.importorskip('peft', reason="needs PEFT: pip install 'hybridcls[lora]'")

CONFIG = """
default_scope = 'hybridcls'
img_size = 32
num_classes = 10
model = dict(
    type='HybridClassifier',
    backbone=dict(type='HybridBackbone', vit=dict(model_name='test_vit', num_heads=1, depth=2, embed_dim=16),
                  cnn=dict(model_name='test_convnext')),
    neck=dict(type='DHAFusion', fusion_dim=8), head=dict(type='LinearHead'))
pipeline = [dict(type='ResizeToSize', img_size=32), dict(type='PackInputs')]
train_dataloader = dict(batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                        dataset=dict(type='Digits', indices=32, pipeline=pipeline))
test_dataloader = dict(batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                       dataset=dict(type='Digits', split='test', indices=16, pipeline=pipeline))
test_evaluator = dict(type='Accuracy')
test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(type='ComposedOptimWrapper', optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.5))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
randomness = dict(seed=0)
log_level = 'ERROR'
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'config.py').write_text(CONFIG)
    return tmp_path


def train(folder, name, *hooks, go_on=None, **options):
    with isolated_globals():
        cfg = load_config(folder / 'config.py', dict(custom_hooks=list(hooks), **options))
        runner = build_runner(prepare_training(cfg, TrainOptions(resume=go_on), str(folder / name)))
        runner.train()
    return runner


def run_test(folder, checkpoint, **options):
    with isolated_globals():
        cfg = prepare_testing(
            load_config(folder / 'config.py', options), str(checkpoint), TrainOptions(), str(folder / 'test')
        )
        runner = build_runner(cfg)
        runner.test()
    return runner


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


@pytest.mark.parametrize('constructor', ['HybridOptimWrapperConstructor', 'DefaultOptimWrapperConstructor'])
def test_phase_two_adapts_all_weights_of_phase_one(folder, constructor):
    train(folder, 'one')
    first = folder / 'one' / 'epoch_1.pth'
    runner = train(
        folder,
        'two',
        dict(type='TransferHook'),
        load_from=str(first),
        **{'model.backbone.lora_rank': 2, 'optim_wrapper.constructor': constructor},
    )
    before, after = weights(first), weights(folder / 'two' / 'epoch_1.pth')
    for name, value in before.items():  # frozen since, so they are still those of phase 1: no weight decay either
        if name.startswith('backbone.'):
            assert torch.equal(after.pop(name), value), name
    left = [name for name in after if name.startswith('backbone.')]
    assert left
    assert all('.lora_' in name for name in left)
    assert any(after[name].abs().sum() > 0 for name in left if '.lora_B.' in name)
    frozen = [param for param in runner.model.parameters() if not param.requires_grad]
    assert all(param.grad is None and param not in runner.optim_wrapper.optimizer.state for param in frozen)

    # The way back leaves the adapters out, and says so.
    with pytest.raises(WeightMismatchError, match=r'holds LoRA adapters: .* not in the model.*adapters\.py merge'):
        run_test(folder, folder / 'two' / 'epoch_1.pth')


def test_transfer_to_a_model_without_adapters_is_told(folder, caplog):
    from hybridcls.engine.checkpoints.weight_transfer import select_weights

    said = str(
        select_weights(
            {'backbone.a.weight': torch.zeros(1), 'backbone.a.lora_A.weight': torch.zeros(1)},
            {'backbone.a.weight': torch.zeros(1)},
        )
    )
    assert '1 of these are LoRA adapters' in said
    assert 'tools/adapters.py merge' in said


@pytest.fixture
def adapters_alone(folder):
    torch.manual_seed(7)
    vit = timm.create_model('test_vit', num_heads=1, depth=2, embed_dim=16, num_classes=0, img_size=32)
    torch.save(vit.state_dict(), folder / 'vit.pth')
    return {
        'model.backbone.vit.checkpoint_path': str(folder / 'vit.pth'),
        'model.backbone.lora_rank': dict(rank=2, checkpoint='adapters', cnn=None),
    }


def test_checkpoints_of_adapters_alone_are_resumed_and_tested(folder, adapters_alone):
    ema = dict(type='EMAHook', momentum=0.1)
    straight = train(folder, 'straight', ema, **adapters_alone, **{'train_cfg.max_epochs': 2})
    saved = torch.load(folder / 'straight' / 'epoch_1.pth', weights_only=False)
    vit = [name for name in saved['state_dict'] if name.startswith('backbone.vit.')]
    assert len(vit) == 2 * len(lora_layers(straight.model.backbone.vit))
    assert all('.lora_' in name for name in vit)
    resumed = train(
        folder,
        'resumed',
        ema,
        go_on=str(folder / 'straight' / 'epoch_1.pth'),
        **adapters_alone,
        **{'train_cfg.max_epochs': 2},
    )
    tested = run_test(folder, folder / 'straight' / 'epoch_2.pth', **adapters_alone)
    averaged = weights(folder / 'straight' / 'epoch_2.pth')
    for (name, value), other, third in zip(
        straight.model.named_parameters(), resumed.model.parameters(), tested.model.parameters(), strict=True
    ):
        assert torch.equal(value, other), name
        assert value.requires_grad or torch.equal(value, third), name
    for name, value in tested.model.state_dict().items():
        assert torch.equal(value, averaged[name]), name


def test_other_weights_under_adapters_alone_are_not_lost_in_silence(folder, adapters_alone):
    train(folder, 'one')
    first = str(folder / 'one' / 'epoch_1.pth')
    with pytest.raises(WeightMismatchError, match=r"backbone\.vit\.\S+ and \d+ other weights.*checkpoint='all'"):
        train(folder, 'two', dict(type='TransferHook'), load_from=first, **adapters_alone)
    with pytest.raises(ValueError, match=r"leave backbone\.vit\.\S+ out.*would be lost.*checkpoint='all'"):
        train(folder, 'three', load_from=first, **adapters_alone)
