"""The fixed inputs of the cases: irregular numbers, equal on every machine."""

import math

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

__all__ = [
    'ANGLES', 'CLASS_WEIGHTS', 'LABELS', 'Dimensions', 'SmallNet', 'adaface_batches', 'pairs', 'photographs',
    'probabilities', 'set_parameters', 'waves',
]  # fmt: skip

ANGLES = np.array([0.05, 0.8, 1.5, 2.0, 2.6, 2.7, 3.1])
LABELS = np.array([0, 1, 2, 3, 0, 1])


def waves(*shape: int, start: float = 0.0, phase: float = 0.0) -> np.ndarray:
    """Return irregular numbers between -1.5 and 1.5, float64."""
    i = np.arange(math.prod(shape), dtype=np.float64) + start
    return (np.sin(1.7 * i + phase) + 0.5 * np.cos(0.37 * i * i + phase)).reshape(shape)


CLASS_WEIGHTS = waves(4, 5, phase=0.3)


def adaface_batches() -> list[np.ndarray]:
    """Return four batches of six embeddings; the norms of the first three exceed AdaFace's clip.

    The last batch lies beside its class weights or opposite of them: angles that turn past 0 and pi.
    """
    norms = np.array([0.0001, 3.0, 9.0, 20.0, 40.0, 100.0])
    batches = [waves(6, 5, phase=1.0 + step) * norms[:, None] for step in range(3)]
    targets = (CLASS_WEIGHTS / np.linalg.norm(CLASS_WEIGHTS, axis=1, keepdims=True))[LABELS]
    signs = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    norms = np.array([0.5, 2.0, 15.0, 30.0, 60.0, 90.0])
    return [*batches, (signs[:, None] * targets + 0.02 * waves(6, 5, phase=9.0)) * norms[:, None]]


def probabilities(count: int, classes: int, sharpness: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities, float64 (N, C), and labels, int64 (N,), most of which are the most probable class."""
    logits = sharpness * waves(count, classes, phase=0.7)
    scores = np.exp(logits - logits.max(1, keepdims=True))
    scores /= scores.sum(1, keepdims=True)
    labels = scores.argmax(1)
    other = np.arange(count) % 5 < 2
    labels[other] = (np.arange(count) * 7 % classes)[other]
    return scores, labels


def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines of 600 pairs, and whether each pair is of one class."""
    i = np.arange(600, dtype=np.float64)
    same = np.sin(1.7 * i + 0.3) > 0
    return 0.25 + 0.3 * same + 0.2 * np.sin(2.9 * i) + 0.2 * np.cos(0.37 * i * i), same


def photographs(count: int, size: int) -> np.ndarray:
    """Return images (N, 3, size, size)."""
    return waves(count, 3, size, size, phase=0.4)


def set_parameters(model: nn.Module, scale: float = 1.0, step: int = 10) -> nn.Module:
    """Set each parameter of a model to :func:`waves`, in order; return the model."""
    with torch.no_grad():
        for place, param in enumerate(model.parameters()):
            param.copy_(torch.from_numpy(scale * waves(*param.shape, start=step * place)))
    return model


class SmallNet(BaseModel):
    """A convolution and a matrix; a batch is five images (5, 2, 3, 3), the loss a cross entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 2)
        self.fc = nn.Linear(12, 4)
        set_parameters(self, 0.5)

    def forward(self, inputs: Tensor, data_samples: object = None, mode: str = 'loss') -> dict[str, Tensor]:
        """Return the loss."""
        logits = self.fc(self.conv(inputs).tanh().flatten(1))
        return dict(loss=nn.functional.cross_entropy(logits, torch.arange(5, device=logits.device) % 4))


class Dimensions(nn.Module):
    """Parameters whose number of dimensions does not tell which kind of layer they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 3, 2))
        self.scale = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.conv1d = nn.Conv1d(2, 3, 3, bias=False)
        self.conv = nn.Conv2d(3, 2, 2, bias=False)
        self.transposed = nn.ConvTranspose2d(3, 4, 2, bias=False)
        self.fc = nn.Linear(4, 3)
        self.one_input = nn.Linear(1, 3, bias=False)
        set_parameters(self)

    def linear_loss(self, step: int) -> Tensor:
        """Return a loss whose gradients are :func:`waves`, different in each step."""
        products = []
        for place, param in enumerate(self.parameters()):
            gradient = torch.from_numpy(waves(*param.shape, start=10 * place + 100 * (step + 1)))
            products.append((param * gradient.to(param.dtype).to(param.device)).sum())
        return torch.stack(products).sum()
