"""The small problem that the authors' optimizers were run on, once, in float64."""

import torch
from mmengine.model import BaseModel
from torch import nn

from hybridcls.engine.optim import ComposedOptimWrapper

STEPS = 5


def waves(shape, start):
    """Numbers without a pattern, the same on every machine."""
    shape = torch.Size(shape)
    i = torch.arange(shape.numel(), dtype=torch.float64) + start
    return (torch.sin(1.7 * i) + 0.5 * torch.cos(0.37 * i * i)).reshape(shape)


class SmallNet(BaseModel):
    """A convolution and a matrix; five images a batch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 2)
        self.fc = nn.Linear(12, 4)
        for place, param in enumerate(self.parameters()):
            param.data = 0.5 * waves(param.shape, 10 * place)

    def forward(self, inputs, data_samples=None, mode='loss'):
        logits = self.fc(self.conv(inputs).tanh().flatten(1))
        return dict(loss=nn.functional.cross_entropy(logits, torch.arange(5) % 4))


def sums_of_weights(make_optimizer, stage):
    """The sum of |w| of each parameter after five updates with the stage."""
    model = SmallNet()
    wrapper = ComposedOptimWrapper(make_optimizer(model.parameters()), stages=dict(mine=stage))
    wrapper.initialize_count_status(model, 0, STEPS)
    for step in range(STEPS):
        model.train_step(dict(inputs=waves((5, 2, 3, 3), 7 * step)), wrapper)
    return [param.abs().sum().item() for param in model.parameters()]
