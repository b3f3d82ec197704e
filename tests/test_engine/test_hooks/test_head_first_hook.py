"""The head is fitted first, and the parts before it stay as they are for some epochs."""

import json
from types import SimpleNamespace

import pytest
import timm
import torch
from mmengine.hooks import Hook
from processes import run_tool
from sklearn.linear_model import LogisticRegression
from toy_runs import train

from hybridcls.engine.hooks import HeadFirstHook
from hybridcls.registry import DATASETS, HOOKS

CONFIG = """
img_size = 32
model = dict(
    type='HybridClassifier', backbone=dict(type='HybridBackbone', {stream}=dict(model_name='{name}')),
    head=dict(type='LinearHead', num_classes=10))
pipeline = [dict(type='ResizeToSize'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='Digits', split='train', indices=64, pipeline=pipeline))
val_dataloader = dict(
    batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='val', indices=32, pipeline=pipeline))
val_evaluator = dict(type='Accuracy')
bank_dataloader = dict(
    batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='train', indices=64, pipeline=pipeline))
train_cfg = dict(by_epoch=True, max_epochs=2)
val_cfg = dict()
optim_wrapper = dict(type='ComposedOptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05))
default_hooks = dict(
    head_first=dict(type='HeadFirstHook', fit=False, frozen_epochs=1),
    checkpoint=dict(type='CheckpointHook', interval=1, save_best='accuracy/top1'))
randomness = dict(seed=0)
log_level = 'ERROR'
env_cfg = dict(dist_cfg=dict(backend='gloo'))
"""


@HOOKS.register_module(force=True)
class StateOfEpochs(Hook):
    """Remembers the whole state before the training and after each epoch."""

    states = []

    def before_train_epoch(self, runner):
        if not runner.epoch:
            type(self).states = [self._state(runner)]

    def after_train_epoch(self, runner):
        self.states.append(self._state(runner))

    @staticmethod
    def _state(runner):
        return {name: value.clone() for name, value in runner.model.state_dict().items()}


@pytest.fixture
def config(tmp_path):
    file = tmp_path / 'cnn.py'
    file.write_text(CONFIG.format(stream='cnn', name='test_resnet'))
    return file


def changed(before, after, start):
    return [name for name in before if name.startswith(start) and not torch.equal(before[name], after[name])]


PIPELINE = [dict(type='ResizeToSize', img_size=32), dict(type='PackInputs')]
LEVERS = {
    'plain': {},
    'sam, lookahead and EMA': {
        'optim_wrapper.stages': dict(sam=dict(type='SAM', rho=0.1), lookahead=dict(type='Lookahead', k=2)),
        'default_hooks.ema': dict(type='EMAHook', momentum=0.3, update_buffers=True),
    },
    'accumulation': {'optim_wrapper.accumulative_counts': 3},
}


@pytest.mark.parametrize('levers', LEVERS)
def test_frozen_parts_stay_to_the_bit_and_move_afterwards(config, tmp_path, levers):
    """Statistics of BatchNorm included; the head trains all the time."""
    train(config, tmp_path / 'w', custom_hooks=[dict(type='StateOfEpochs')], **LEVERS[levers])
    start, frozen, thawed = StateOfEpochs.states
    assert changed(start, frozen, 'backbone.') == []
    assert changed(start, frozen, 'head.') == ['head.fc.weight', 'head.fc.bias']
    weights = [name for name in start if 'num_batches' not in name and name.startswith('backbone.')]
    assert set(changed(frozen, thawed, 'backbone.')) >= set(weights)
    assert changed(frozen, thawed, 'backbone.cnn.model.bn1.running_mean')


def test_layers_that_stay_in_eval_mode_do_so_after_the_release(config, tmp_path):
    """``norm_eval`` is of the backbone, and a part of it is released."""
    options = {'model.backbone.norm_eval': True, 'default_hooks.head_first.parts': ['backbone.cnn']}
    train(config, tmp_path / 'w', custom_hooks=[dict(type='StateOfEpochs')], **options)
    _, frozen, thawed = StateOfEpochs.states
    moved = changed(frozen, thawed, 'backbone.cnn.')
    assert 'backbone.cnn.model.bn1.weight' in moved
    assert not [name for name in moved if 'running_' in name]


def test_resumed_inside_of_the_frozen_epochs_to_the_bit(config, tmp_path):
    options = {
        'default_hooks.checkpoint.by_epoch': False,
        'default_hooks.head_first.frozen_epochs': 2,
        'default_hooks.ema': dict(type='EMAHook', momentum=0.3, update_buffers=True),
        'default_hooks.head_first.fit': True,
        'default_hooks.head_first.dataloader': dict(
            batch_size=16,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(
                type='Digits',
                split='train',
                indices=64,
                pipeline=[dict(type='ResizeToSize', img_size=32), dict(type='PackInputs')],
            ),
        ),
        'train_cfg.max_epochs': 3,
    }
    whole = train(config, tmp_path / 'whole', **options)
    resumed = train(config, tmp_path / 'part', resume=str(tmp_path / 'whole' / 'iter_6.pth'), **options)
    expected, found = whole.model.state_dict(), resumed.model.state_dict()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert resumed.iter == whole.iter == 12


def test_optimizer_has_no_state_of_what_was_never_released(config, tmp_path):
    runner = train(config, tmp_path / 'w', **{'default_hooks.head_first.frozen_epochs': 'all'})
    head = set(runner.model.head.parameters())
    state = runner.optim_wrapper.optimizer.state
    assert set(state) == head
    runner = train(config, tmp_path / 'released')
    state, steps = runner.optim_wrapper.optimizer.state, {}
    for name, param in runner.model.named_parameters():
        steps[name.split('.')[0]] = int(state[param]['step'])
    assert steps == {'backbone': 4, 'head': 8}


def test_two_processes_equal_one(tmp_path):
    """DistributedDataParallel waits for no gradient that does not come; the sum of two halves is the whole batch."""
    file = tmp_path / 'vit.py'
    options = (
        "\nmodel['backbone']['vit']['drop_path_rate'] = 0.0\noptim_wrapper['optimizer'] = dict(type='SGD', lr=0.05)\n"
    )
    text = CONFIG.format(stream='vit', name='test_vit') + options
    fit = "default_hooks['head_first'] = dict(type='HeadFirstHook', dataloader=bank_dataloader, frozen_epochs=1)\n"
    file.write_text(text + fit)
    train(file, tmp_path / 'one')
    run_tool(
        'train.py', file, '--work-dir', tmp_path / 'two', '--cfg-options', 'train_dataloader.batch_size=8', count=2
    )
    one, two = (
        torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False)['state_dict'] for name in ('one', 'two')
    )
    torch.testing.assert_close(two, one, atol=2e-5, rtol=1e-4)
    assert not torch.equal(one['backbone.vit.model.blocks.0.attn.qkv.weight'], torch.zeros(1))


def test_head_is_fitted_to_the_features_of_eval_mode(config, tmp_path):
    """Against scikit-learn on timm's own features; the validation of the fit is the first candidate for the best."""
    weights = tmp_path / 'resnet.pth'
    torch.manual_seed(1)
    net = timm.create_model('test_resnet', num_classes=0).eval()
    torch.save(net.state_dict(), weights)
    with open(config, 'a') as file:
        file.write("\ndefault_hooks['head_first'] = dict(type='HeadFirstHook', dataloader=bank_dataloader)\n")
    train(
        config,
        tmp_path / 'w',
        checkpoint_path=str(weights),
        custom_hooks=[dict(type='StateOfEpochs'), dict(type='LearningCurvesHook')],
        **{'optim_wrapper.optimizer.lr': 1e-3, 'default_hooks.ema': dict(type='EMAHook', momentum=0.01)},
    )
    best = torch.load(next((tmp_path / 'w').glob('best_*.pth')), weights_only=False)
    state = StateOfEpochs.states[0]
    images, labels = [], []
    for split, count in (('train', 64), ('val', 32)):
        with DATASETS.switch_scope_and_registry('hybridcls') as registry:
            data = registry.build(dict(type='Digits', split=split, indices=count, pipeline=PIPELINE))
        images.append(torch.stack([data[number]['inputs'] for number in range(count)]).flip(1).float() / 255)
        labels.append([int(data[number]['data_samples'].gt_label) for number in range(count)])
    mean, std = (torch.tensor(net.pretrained_cfg[key])[:, None, None] for key in ('mean', 'std'))
    with torch.no_grad():
        known, new = (net((part - mean) / std).double() for part in images)
    center = known.mean(0)
    scale = (known - center).square().mean().sqrt()
    known, new = ((part - center) / scale for part in (known, new))
    theirs = LogisticRegression(C=1.0, max_iter=1000, tol=1e-6).fit(known.numpy(), labels[0])
    weight, bias = state['head.fc.weight'].double() * scale, state['head.fc.bias'].double()
    bias = bias + weight @ center / scale
    found = (new @ weight.T + bias).softmax(1)
    torch.testing.assert_close(found, torch.from_numpy(theirs.predict_proba(new.numpy())), atol=0.02, rtol=0)
    info = best['message_hub']['runtime_info']
    assert info['best_score'] == pytest.approx(100 * theirs.score(new.numpy(), labels[1]), abs=3.2)  # an image
    assert info['best_ckpt'].endswith('best_accuracy_top1_epoch_0.pth')
    first = json.loads((tmp_path / 'w' / 'learning_curves.json').read_text())[0]  # the best one is in the curves
    assert (first['iter'], first['metrics']['accuracy/top1']) == (0, info['best_score'])


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(), 'needs images to fit the head to. Set'),
        (dict(fit=False, frozen_epochs=-1), 'frozen_epochs'),
        (dict(fit=False, frozen_epochs='always'), 'frozen_epochs'),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        HeadFirstHook(**settings)


@pytest.mark.parametrize(
    ('parts', 'message'), [(['backbone', 'head'], 'nothing else needs a gradient'), (['bakbone'], 'backbone')]
)
def test_impossible_parts(config, tmp_path, parts, message):
    with pytest.raises(ValueError, match=message):
        train(config, tmp_path / 'w', **{'default_hooks.head_first.parts': parts})


@pytest.mark.parametrize(
    ('changes', 'parts', 'fitted'),
    [
        ({}, None, False),
        ({'head.fc.bias': torch.zeros(3)}, None, True),  # of other classes
        ({}, ('backbone', 'neck'), True),  # phase 2
        ({}, ('backbone', 'head'), False),
    ],
)
def test_a_head_that_was_loaded_is_not_fitted_again(monkeypatch, changes, parts, fitted):
    model = torch.nn.ModuleDict(
        dict(backbone=torch.nn.Linear(2, 2), head=torch.nn.ModuleDict(dict(fc=torch.nn.Linear(2, 4))))
    )
    hook, calls = HeadFirstHook(dataloader=dict()), []
    monkeypatch.setattr(hook, '_fit', lambda runner: calls.append(runner))
    runner = SimpleNamespace(model=model, iter=0, _resume=False)
    checkpoint = dict(state_dict={**model.state_dict(), **changes})
    hook.after_load_checkpoint(runner, checkpoint if parts is None else dict(checkpoint, transferred_parts=parts))
    hook.before_train(runner)
    assert bool(calls) == fitted
