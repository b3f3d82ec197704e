"""The parts of docs/protocols.md, as they stand there, train and predict together."""

import re
from pathlib import Path

import pytest
import torch
from mmpretrain.structures import DataSample

from hybridcls.registry import MODELS

TEXT = (Path(__file__).parents[2] / 'docs' / 'protocols.md').read_text(encoding='utf8')
(CODE,) = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)


@pytest.fixture(scope='module', autouse=True)
def _parts_of_the_page():
    exec(compile(CODE.replace('register_module()', 'register_module(force=True)'), 'docs/protocols.md', 'exec'), {})


def build(head):
    return MODELS.build(
        dict(
            type='HybridClassifier',
            backbone=dict(
                type='HybridBackbone', cnn=dict(type='MyStream', width=16), vit=dict(model_name='test_vit'), img_size=32
            ),
            neck=dict(type='MyFusion', out=32),
            head=head,
        )
    )


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
def test_parts_work_together(head):
    model = build(head)
    assert model.backbone.out_channels == (16, 64)
    assert (model.head.in_channels, model.head.num_classes) == (32, 10)
    model(torch.rand(6, 3, 32, 32), samples(), mode='loss')['loss'].backward()  # two views
    assert all(param.grad is not None for param in model.parameters())
    model.eval()
    predicted = model.predict(torch.rand(3, 3, 32, 32), samples())
    assert [sample.pred_score.shape for sample in predicted] == [(10,)] * 3
    assert (
        model.val_step(dict(inputs=torch.zeros(3, 3, 32, 32).byte(), data_samples=samples()))[2].val_losses['loss'] > 0
    )
