"""A model with everything that makes a second pass hard, batches, and a run of a wrapper over them."""

import torch
from mmengine.model import BaseModel
from torch import nn


class HardNet(BaseModel):
    """BatchNorm, dropout, a queue in a buffer, a frozen and an unused parameter, several losses."""

    def __init__(self, dropout=0.5):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 2)
        self.bn = nn.BatchNorm2d(3)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(12, 4)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(3, 3))
        self.register_buffer('queue', torch.zeros(4))
        self.seen = []

    def forward(self, inputs, data_samples=None, mode='tensor'):
        features = self.dropout(self.bn(self.conv(inputs)).tanh())
        logits = self.fc(features.flatten(1))
        self.queue = torch.cat([self.queue[1:], logits.detach().mean()[None]])  # replaced, not changed in place
        self.seen.append(
            dict(inputs=inputs.clone(), zeros=(features == 0).clone(), weight=self.fc.weight.detach().clone())
        )
        return dict(
            loss_class=nn.functional.cross_entropy(logits, data_samples),
            loss_size=logits.square().mean() * 0.1,
            accuracy=(logits.argmax(1) == data_samples).float().mean(),
        )


def make_net(seed=3, **kwargs):
    torch.manual_seed(seed)
    return HardNet(**kwargs)


def make_batches(count, size=6, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return [
        dict(
            inputs=torch.randn(size, 2, 3, 3, generator=generator),
            data_samples=torch.randint(0, 4, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def sgd(model, **kwargs):
    return torch.optim.SGD(model.parameters(), **{'lr': 0.05, 'momentum': 0.9, **kwargs})


def train(model, wrapper, batches, start=0, total=None):
    """Train on ``batches``; returns what was logged."""
    wrapper.initialize_count_status(model, start, len(batches) if total is None else total)
    return [{name: float(value) for name, value in model.train_step(batch, wrapper).items()} for batch in batches]


def assert_same(one, other, **tolerance):
    """Two models have the same weights and buffers; to the bit, unless told otherwise."""
    expected = other.state_dict()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(
            value, expected[name], **{'rtol': 0, 'atol': 0, **tolerance}, msg=lambda text, name=name: f'{name}: {text}'
        )
