"""How much a model of two streams leans on each: the gate's values, and what is left without a stream."""

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import torch
from torch import nn

from hybridcls.models.necks import DHAFusion

from ..image_inputs import Item
from ..inferencer import HybridInferencer

__all__ = ['GateReadings', 'has_gate', 'read_gates']


def has_gate(model: HybridInferencer) -> bool:
    """Whether the model's neck is a gate over two streams."""
    return isinstance(getattr(model.model, 'neck', None), DHAFusion)


class GateReadings:
    """What the gate did, image by image.

    Args:
        names (Sequence[str]): Of the streams.

    Attributes:
        shares (np.ndarray): For each image and stream its share of what passes the gate, (N, 2): the norm of the
            gated vector, over the sum of both.
        alone (dict[str, np.ndarray]): By stream: the classes (N,) that are predicted with the other set to zero.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.shares = np.zeros((0, len(self.names)))
        self.alone: dict[str, np.ndarray] = {}


def read_gates(
    model: HybridInferencer, items: Sequence[Item], batch_size: Optional[int] = None, workers: int = 0
) -> Optional[GateReadings]:
    """Read the gate on all images that can be read; None for a model without one."""
    if not has_gate(model):
        return None
    network: Any = model.model
    names = [name for name in ('cnn', 'vit') if isinstance(getattr(network.backbone, name, None), nn.Module)]
    readings = GateReadings(names if len(names) == 2 else ['stream 1', 'stream 2'])
    shares: list[np.ndarray] = []
    alone: dict[str, list[np.ndarray]] = {name: [] for name in readings.names}
    for read, _ in model.preprocess(items, batch_size or model.batch_size, workers):
        if not read:
            continue
        with torch.no_grad():
            batch = model.batch_of([sample for _, sample in read])
            features = network.extract_feat(batch['inputs'], stage='backbone')
            neck = network.neck
            joined = torch.cat(neck.pool(features), dim=1)
            gated = (joined * neck.gate(joined)).split(neck.in_channels, dim=1)
            norms = torch.stack([part.norm(dim=1) for part in gated], dim=1)
            shares.append((norms / norms.sum(1, keepdim=True).clamp_min(1e-12)).cpu().numpy())
            for place, name in enumerate(readings.names):
                kept = [part if k == place else torch.zeros_like(part) for k, part in enumerate(joined.split(
                    neck.in_channels, dim=1))]  # fmt: skip
                rest = torch.cat(kept, dim=1)
                embedding = neck.project(rest * neck.gate(rest))
                scores = network.head((embedding,))
                alone[name].append(scores.argmax(1).cpu().numpy())
    if not shares:
        return None
    readings.shares = np.concatenate(shares)
    readings.alone = {name: np.concatenate(found) for name, found in alone.items()}
    return readings
