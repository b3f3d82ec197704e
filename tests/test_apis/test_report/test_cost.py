"""What a model costs is counted and measured."""

import pytest
import torch
from torch import nn
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.report.cost import model_cost


def test_parameters_and_operations_are_those_of_the_network(tmp_path, monkeypatch):
    path, network = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, LINEAR))
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)
    cost = model_cost(hybridcls.load(path, 'cpu'), (64, 64))
    rows, numbers = dict(cost.rows), cost.numbers
    count = sum(one.numel() for one in network.parameters())
    assert rows['parameters'] == f'{count / 1e6:.2f} million'
    products = []
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(
                lambda one, inputs, output: products.append(
                    2 * output.numel() * one.weight[0].numel()  # a product and a sum for each weight
                )
            )
    with torch.no_grad():
        network.eval()(torch.rand(1, 3, 64, 64), mode='tensor')
    assert float(rows['GFLOPs for an image of 64 x 64 pixels']) == pytest.approx(sum(products) / 1e9, abs=0.006)
    assert float(rows['milliseconds for a batch of 32 on cpu (3 threads)']) > 0
    # The numbers for a program are those of the page.
    assert (numbers['parameters'], numbers['threads']) == (count, 3)
    assert numbers['gflops'] == pytest.approx(sum(products) / 1e9, rel=0.01)
    assert f'{numbers["milliseconds"][32]:.1f}' == rows['milliseconds for a batch of 32 on cpu (3 threads)']
    assert f'{numbers["activations_mib"]:.0f}' == rows['MiB for activations of a batch of 32']
