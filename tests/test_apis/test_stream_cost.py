"""The parts of a model cost what the whole costs."""

import pytest
import torch
from trained_checkpoints import LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.counted_flops import counted_flops
from hybridcls.apis.stream_cost import stream_costs

PAIR = dict(type='HybridBackbone', cnn=dict(model_name='test_resnet'), vit=dict(model_name='test_vit'), img_size=64)


def test_the_costs_of_the_parts_add_up(tmp_path):
    cfg = config_of(PAIR, LINEAR)
    cfg['model']['neck'] = dict(type='SumFusion', fusion_dim=16)
    model = hybridcls.load(write_checkpoint(tmp_path / 'epoch_1.pth', cfg)[0], 'cpu')
    costs = stream_costs(model, (64, 64), ('cnn', 'vit'))
    whole = counted_flops(lambda: model.model(torch.rand(1, 3, 64, 64)))
    assert sum(cost.gflops for cost in costs.values()) == pytest.approx(whole / 1e9)
    assert min(cost.milliseconds for cost in costs.values()) > 0
