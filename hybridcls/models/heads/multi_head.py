"""Several heads that train one embedding."""

from collections.abc import Mapping, Sequence
from typing import Optional

from mmengine.model import ModuleDict
from mmpretrain.structures import DataSample
from torch import Tensor

from hybridcls.checks import check_choice, check_known_keys, check_number
from hybridcls.registry import MODELS
from hybridcls.structures import write_predictions

from ..building.chain import build_part
from .embedding_head import EmbeddingHead
from .head import Features, check_head, is_multi_label, outputs_of, samples_of_rows, takes_views


@MODELS.register_module()
class MultiHead(EmbeddingHead):
    """Train one embedding for several tasks, and return the predictions of each head.

    ::

        head=dict(type='MultiHead', heads=dict(face=dict(type='AdaFaceHead'), evidence=dict(type='EvidentialHead')),
                  weights=dict(evidence=0.5))

    Each loss is logged under its head's name, times the head's weight (``face.loss``, ``evidence.loss``), and so is
    everything else a head logs (``face.accuracy_top-1``); a validation uses the same names. The training loss is the
    sum. A child config changes one head by its name, or drops it: ``heads=dict(evidence=None)``.

    Predictions of all heads are on each sample, ``sample.heads.face.pred_score`` and so on; those of the main head also
    stand where all metrics look, ``sample.pred_score``. :class:`hybridcls.evaluation.HeadMetric` shows a metric another
    head's. ``embedding`` is the same for all.

    A config says ``in_channels`` and ``num_classes`` once for all heads that take them. Labels are those of the
    sample for each head, so soft ones (mixup) need heads that all take them.

    Args:
        heads (Mapping[str, dict | None]): The heads' configs by name; None is no head. A name is an identifier without
            'loss' in it, by which the log would add up what is no loss.
        weights (Mapping[str, float], optional): Factors >= 0 of the losses, by name. Defaults to None: 1 for all.
        main (str, optional): The head whose outputs ``forward`` returns and whose predictions are the sample's.
            Defaults to None: the first that has classes, else the first.
        num_classes (int, optional): For each head that takes it and does not say its own.
        in_channels (int, optional): The same. ``HybridClassifier`` fills it in.
        init_cfg (dict, optional): MMEngine's.

    Attributes:
        num_classes (int, optional): The main head's.

    Raises:
        ValueError: If there is no head, a name does not work, or a weight is negative.
        TypeError: If ``weights`` names no head.

    Example:
        >>> import torch
        >>> heads = dict(face=dict(type='ArcFaceHead'), evidence=dict(type='EvidentialHead'))
        >>> head = MODELS.build(dict(type='MultiHead', in_channels=8, num_classes=3, heads=heads))
        >>> losses = head.loss((torch.ones(2, 8),), [DataSample().set_gt_label(label) for label in (0, 2)])
        >>> [name for name in losses if 'loss' in name]
        ['face.loss', 'evidence.loss']
        >>> sample = head.predict((torch.ones(2, 8),))[0]
        >>> sample.pred_score is sample.heads.face.pred_score, sample.heads.evidence.epistemic.shape
        (True, torch.Size([]))
    """

    def __init__(
        self,
        heads: Mapping[str, Optional[dict]],
        weights: Optional[Mapping[str, float]] = None,
        main: Optional[str] = None,
        num_classes: Optional[int] = None,
        in_channels: Optional[int] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(in_channels, init_cfg)
        chosen = {name: cfg for name, cfg in heads.items() if cfg is not None}
        if not chosen:
            raise ValueError(
                'MultiHead: heads has no head. Give it some by name: heads=dict(face=dict(type='
                "'AdaFaceHead'), evidence=dict(type='EvidentialHead'))."
            )
        for name in chosen:
            _check_name(name)
        inferred = dict(in_channels=self.in_channels, num_classes=num_classes)
        self.heads = ModuleDict(
            {name: build_part('MultiHead', f'heads.{name}', cfg, **inferred) for name, cfg in chosen.items()}
        )
        for head in self.heads.values():
            check_head('MultiHead', head)
        # A weight may outlive a head that a child config has dropped.
        check_known_keys('MultiHead: weights', weights or {}, heads)
        self.weights = {name: (weights or {}).get(name, 1.0) for name in chosen}
        for name, weight in self.weights.items():
            check_number('MultiHead', f'weights[{name!r}]', weight, 0)
        if main is None:
            main = next((name for name, head in self.heads.items() if hasattr(head, 'num_classes')), next(iter(chosen)))
        check_choice('MultiHead', 'main', main, chosen)
        self.main = main

    @property
    def num_classes(self) -> Optional[int]:
        """The number of classes of the main head."""
        return getattr(self.heads[self.main], 'num_classes', None)

    @property
    def multi_label(self) -> bool:
        """Whether the score is the sigmoid of the output of ``forward``, as the main head defines."""
        return is_multi_label(self.heads[self.main])

    def forward(self, feats: Features) -> Tensor:
        """Return the output of the main head's ``forward``."""
        return self.heads[self.main](feats)

    def loss(self, feats: Features, data_samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """Return all values of all heads as ``<head>.<name>``; the losses are weighted."""
        losses = {}
        embedding = self.pre_logits(feats)
        self.count_views(embedding, data_samples)  # raises unless each sample has as many rows
        for name, head in self.heads.items():
            for key, value in head.loss(feats, samples_of_rows(head, len(embedding), data_samples)).items():
                losses[f'{name}.{key}'] = value * self.weights[name] if 'loss' in key else value
        return losses

    def outputs(self, feats: Features) -> dict[str, Tensor]:
        """Return the main head's outputs, and those of each head as ``NAME.logits``, ``NAME.probabilities`` ..."""
        by_head = {name: outputs_of(head, feats) for name, head in self.heads.items()}
        named = {
            f'{name}.{key}': value
            for name, outputs in by_head.items()
            for key, value in outputs.items()
            if key != 'embedding'
        }
        return {**by_head[self.main], 'embedding': self.pre_logits(feats), **named}

    def predict(
        self, feats: Features, data_samples: Optional[Sequence[Optional[DataSample]]] = None
    ) -> list[DataSample]:
        """Write ``embedding``, the main head's predictions, and all predictions below ``heads`` to each sample."""
        embedding = self.pre_logits(feats)
        samples = write_predictions(self._name, data_samples, embedding)
        mean = embedding.unflatten(0, (-1, len(samples))).mean(0)
        by_head = {
            name: head.predict(feats if takes_views(head) else (mean,), [DataSample() for _ in samples])
            for name, head in self.heads.items()
        }
        for index, sample in enumerate(samples):
            predictions = DataSample()
            for name, predicted in by_head.items():
                predictions.set_field(predicted[index], name)
            sample.set_field(predictions, 'heads')
            main = predictions.get(self.main)
            for key, value in main.items():
                sample.set_field(value, key)
            if sample.get('num_classes', None) is None and 'num_classes' in main:
                sample.set_metainfo(dict(num_classes=main.num_classes))
        return samples


def _check_name(name: str) -> None:
    taken = hasattr(DataSample, name) or hasattr(ModuleDict, name)
    if not name.isidentifier() or 'loss' in name or taken:
        why = (
            'is taken'
            if taken
            else "contains 'loss', so that all it logs would be added to the loss"
            if 'loss' in name
            else 'is no identifier'
        )
        raise ValueError(f"MultiHead: the name {name!r} of a head {why}. Choose another, such as 'face' or 'evidence'.")
