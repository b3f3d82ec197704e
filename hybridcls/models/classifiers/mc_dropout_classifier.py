"""Monte Carlo dropout: uncertainty from dropout that stays active in prediction."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hybridcls.checks import check_number
from hybridcls.compat.torch import AnyDropout
from hybridcls.registry import MODELS

from .hybrid_classifier import HybridClassifier
from .mixture_predictions import aggregate_predictions

_STOCHASTIC_DEPTH = ('DropPath', 'StochasticDepth')  # timm's and mmcv's, torchvision's


@MODELS.register_module()
class MCDropoutClassifier(HybridClassifier):
    """A ``HybridClassifier`` that predicts ``samples`` times with dropout, and reports how much the draws disagree.

    `Gal and Ghahramani <https://arxiv.org/abs/1506.02142>`_. It trains as its parent does and has the same weights
    under the same names, so that a trained ``HybridClassifier`` with dropout can be tested with
    ``model=dict(type='MCDropoutClassifier')`` in place of its type.

    Predictions carry the mean score and, in nats, ``total`` = ``aleatoric`` + ``epistemic``; ``embedding`` (and the
    single predictions of a ``MultiHead``) are those without dropout. Nothing but dropout layers leaves eval mode, so
    BatchNorm's statistics stay. Where only the embedding is dropped, backbone and neck run once.

    Draws follow ``seed`` alone and leave the other random numbers as they were: the same batch gives the same numbers.

    Args:
        samples (int): T, how many draws. Defaults to 20.
        dropout (float): A dropout of the embedding, in training and in the draws, in [0, 1). Defaults to 0: only the
            layers that the parts have themselves (``drop_rate`` of a timm stream, ``dropout`` of a projection ...).
            timm's attention drops inside of a fused function, which this does not reach.
        drop_path (bool): Whether stochastic depth is drawn, too. Defaults to False.
        seed (int): Of the draws. Defaults to 0.
        **kwargs: As for ``HybridClassifier``.

    Raises:
        ValueError: If a number is out of range, no layer drops anything, or the head predicts no scores.

    Example:
        >>> model = MCDropoutClassifier(
        ...     dropout=0.5, samples=8, backbone=dict(type='LeNet5', num_classes=-1),
        ...     neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearHead', num_classes=3, in_channels=120))
        >>> sample = model.eval().predict(torch.rand(2, 1, 32, 32))[0]
        >>> sample.pred_score.shape, bool(sample.epistemic > 0)
        (torch.Size([3]), True)
    """

    def __init__(
        self, samples: int = 20, dropout: float = 0.0, drop_path: bool = False, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_number('MCDropoutClassifier', 'samples', samples, 1, integer=True)
        check_number('MCDropoutClassifier', 'dropout', dropout, 0, 1, high_open=True)
        check_number('MCDropoutClassifier', 'seed', seed, 0, integer=True)
        self.samples = samples
        self.drop_path = drop_path
        self.seed = seed
        self.embedding_dropout = nn.Dropout(dropout)
        if not self._dropping(self):
            raise ValueError(
                'MCDropoutClassifier: no layer of the model drops anything, so that all draws would be '
                "equal. Set dropout=0.2, the streams' drop_rate, or drop_path=True for a model with "
                'stochastic depth.'
            )

    def extract_feat(self, inputs: Tensor, stage: str = 'neck') -> Any:
        """Return features as the parent does, with dropout on the embedding after the neck."""
        if stage == 'backbone':
            return super().extract_feat(inputs, stage)
        if stage == 'neck':
            return self._drop_embedding(super().extract_feat(inputs, stage))
        return self.head.pre_logits(self.extract_feat(inputs))

    def _predict(
        self, inputs: Tensor, features: Any, data_samples: Optional[list[DataSample]], **kwargs: Any
    ) -> list[DataSample]:
        samples = super()._predict(inputs, features, data_samples, **kwargs)
        looks_again = any(self._dropping(part) for part in (self.backbone, self.neck) if part is not None)
        members = []
        with self._draws(inputs.device):
            for _ in range(self.samples):
                drawn = self.extract_feat(inputs) if looks_again else self._drop_embedding(features)
                members.append(super()._predict(inputs, drawn, [DataSample() for _ in samples], **kwargs))
        return aggregate_predictions('MCDropoutClassifier', samples, members, self.head)

    def _drop_embedding(self, features: Any) -> Any:
        return (*features[:-1], self.embedding_dropout(features[-1]))

    def _dropping(self, part: nn.Module) -> list[nn.Module]:
        """Return the layers in a part that drop activations in training mode."""
        found = []
        for module in part.modules():
            if isinstance(module, AnyDropout):
                rate = module.p
            elif self.drop_path and type(module).__name__ in _STOCHASTIC_DEPTH:
                rate = getattr(module, 'drop_prob', None) or getattr(module, 'p', None) or 0.0
            else:
                continue
            if rate > 0:
                found.append(module)
        return found

    @contextmanager
    def _draws(self, device: torch.device) -> Iterator[None]:
        """Run the block with active dropout and a separate random state."""
        layers = [(module, module.training) for module in self._dropping(self)]
        on_device = [] if device.type == 'cpu' else [device]
        with torch.random.fork_rng(on_device, device_type='cuda' if device.type == 'cpu' else device.type):
            torch.manual_seed(self.seed)
            for module, _ in layers:
                module.training = True
            try:
                yield
            finally:
                for module, was_training in layers:
                    module.training = was_training
