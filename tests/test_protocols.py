"""A plugin of each kind, taken from docs/protocols.md as it stands there: they train, resume and predict together."""

import pickle
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmpretrain.structures import DataSample
from processes import run_tool

from hybridcls.registry import MODELS

TEXT = (Path(__file__).parents[1] / 'docs' / 'protocols.md').read_text(encoding='utf8')
*PLUGINS, CONFIG = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)
PLUGINS = '\n\n'.join(PLUGINS)


@pytest.fixture(scope='module')
def plugins():
    """The plugins as a module, registered here."""
    module = ModuleType('plugins_of_the_page')
    exec(compile(PLUGINS.replace('register_module()', 'register_module(force=True)'), 'page', 'exec'), vars(module))
    return module


@pytest.fixture(scope='module')
def folder(tmp_path_factory, plugins):
    """A user's folder: the two files of the page, and the weights of the teacher."""
    folder = tmp_path_factory.mktemp('user')
    (folder / 'my_plugins.py').write_text(PLUGINS)
    (folder / 'my_run.py').write_text(CONFIG)
    torch.manual_seed(1)
    torch.save(plugins.MyTeacher().state_dict(), folder / 'my_teacher.pth')
    run_tool('train.py', 'my_run.py', '--work-dir', 'whole', folder=folder)
    return folder


def samples():
    return [DataSample().set_gt_label(label) for label in (0, 2, 9)]


@pytest.mark.parametrize(
    'head',
    [
        dict(type='MyHead', num_classes=10),
        dict(type='MarginHead', num_classes=10, margin=dict(type='MyMargin', margin=0.2)),
        dict(type='MarginHead', num_classes=10, margin=dict(type='ClassWise', base=dict(type='MyMargin', margin=0.2))),
    ],
)
def test_parts_of_a_model_work_together(head, plugins):
    backbone = dict(type='HybridBackbone', cnn=dict(type='MyStream', width=16), vit=dict(model_name='test_vit'))
    model = MODELS.build(
        dict(
            type='HybridClassifier', backbone=dict(backbone, img_size=32), neck=dict(type='MyFusion', out=32), head=head
        )
    )
    assert model.backbone.out_channels == (16, 64)
    assert (model.head.in_channels, model.head.num_classes) == (32, 10)
    model(torch.rand(6, 3, 32, 32), samples(), mode='loss')['loss'].backward()  # two views
    assert all(param.grad is not None for param in model.parameters())
    model.eval()
    predicted = model.predict(torch.rand(3, 3, 32, 32), samples())
    assert [sample.pred_score.shape for sample in predicted] == [(10,)] * 3
    batch = dict(inputs=torch.zeros(3, 3, 32, 32).byte(), data_samples=samples())
    assert model.val_step(batch)[2].val_losses['loss'] > 0


def test_the_sampler_shards_by_rank(plugins, monkeypatch):
    seen = []
    for rank in range(3):
        monkeypatch.setattr(plugins, 'get_dist_info', lambda rank=rank: (rank, 3))
        sampler = plugins.MySampler(range(10), seed=4)
        first = list(sampler)
        sampler.set_epoch(1)
        assert list(sampler) != first
        assert len(first) == len(sampler) == 3
        seen += first
    assert len(set(seen)) == 9


def test_every_plugin_takes_part(folder):
    log = next((folder / 'whole').glob('*/*.log')).read_text()
    for entry in ('plain.loss: ', 'face.loss: ', 'loss_distill: ', 'Validation after epoch 2: mine/true_score '):
        assert entry in log, entry
    checkpoint = load(folder / 'whole' / 'iter_16.pth')
    assert checkpoint['optimizer']['param_groups'][0]['composed_update']['stages']['mine']['numbers'] == {'updates': 16}
    assert all('mine/slow' in state for state in checkpoint['optimizer']['state'].values())
    assert sum(checkpoint['resume']['hooks']['MyHook.0']['seen'].values()) == 512  # two epochs of MySampler
    assert (folder / 'whole' / 'best_mine_true_score_iter_16.pth').exists() != (
        folder / 'whole' / 'best_mine_true_score_iter_8.pth'
    ).exists()


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_bits(folder):
    run_tool('train.py', 'my_run.py', '--work-dir', 'resumed', '--resume', 'whole/iter_5.pth', folder=folder)
    whole, resumed = (load(folder / name / 'iter_16.pth') for name in ('whole', 'resumed'))
    for part in ('state_dict', 'optimizer', 'resume'):
        assert_same(whole[part], resumed[part], part)


def test_predictions_of_the_tool(folder):
    output = run_tool('test.py', 'my_run.py', 'whole/iter_16.pth', '--out', 'predictions.pkl', folder=folder)
    predictions = pickle.loads((folder / 'predictions.pkl').read_bytes())
    assert len(predictions) == 64
    true = [float(one['pred_score'][int(one['gt_label'])]) for one in predictions]
    shown = float(re.search(r'mine/true_score:? +([\d.]+)', output)[1])
    assert shown == pytest.approx(100 * sum(true) / 64, abs=1e-2)


def load(path):
    return torch.load(path, map_location='cpu', weights_only=False)


def assert_same(one, other, where):
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key, value in one.items():
            assert_same(value, other[key], f'{where}.{key}')
    elif isinstance(one, (list, tuple)):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f'{where}.{index}')
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where
