"""Test-time augmentation with the uncertainty from the disagreement of views."""

from collections.abc import Sequence
from typing import Any, Union

import torch
from mmengine.model import BaseTTAModel
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hybridcls.registry import MODELS

from .mixture_predictions import aggregate_predictions


@MODELS.register_module()
class MixtureTTA(BaseTTAModel):
    """Predict several views of each image, and aggregate the predictions field by field.

    Views are members, as the members of an ensemble are:

    - ``pred_score`` is the mean score, and ``pred_label`` its largest, as with mmpretrain's ``AverageClsScoreTTA``.
    - In nats, ``total`` is the entropy of that mean, and ``total`` = ``aleatoric`` + ``epistemic``. Aleatoric is the
      mean of what the views say of themselves (an ``EvidentialHead``, an ensemble, MC dropout), and the mean entropy of
      their scores where they say nothing; all else, what the views disagree about included, is epistemic. See
      :func:`hybridcls.functional.evidential.mixture_uncertainty`.
    - ``vacuity`` is the mean of the views'. (An ``EvidentialHead`` that gets several views as one image averages their
      evidence instead, before there are scores.)
    - ``embedding`` is the mean of the views'.
    - ``heads`` of a ``MultiHead``: each head's predictions, the same.

    Everything else, such as labels and paths, is that of the first view. A head without scores leaves the embedding.

    ``python tools/test.py CONFIG CHECKPOINT --tta`` takes this model where the config has no ``tta_model``.

    Args:
        module (dict | nn.Module): The classifier, or its config.

    Example:
        >>> model = MixtureTTA(dict(type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=3)))
        >>> views = [DataSample().set_pred_score([0.9, 0.1]), DataSample().set_pred_score([0.5, 0.5])]
        >>> joined, = model.merge_preds([views])
        >>> joined.pred_score, bool(joined.epistemic > 0)
        (tensor([0.7000, 0.3000]), True)
    """

    def __init__(self, module: Union[dict, nn.Module]) -> None:
        super().__init__(module if isinstance(module, nn.Module) else MODELS.build(module))

    def merge_preds(self, data_samples_list: Sequence[Sequence[DataSample]]) -> list[DataSample]:
        """Aggregate the predictions of B images in T views each, given image by image."""
        views = [list(samples) for samples in zip(*data_samples_list, strict=True)]
        return _join(views, [samples[0].new() for samples in data_samples_list], getattr(self.module, 'head', None))


def _join(views: list[list[DataSample]], samples: list[DataSample], head: Any) -> list[DataSample]:
    """Aggregate the predictions of T views of B images onto the samples."""
    if not samples:
        return samples
    first = views[0][0]
    if 'pred_score' in first:
        aggregate_predictions('MixtureTTA', samples, views, head)
    if 'embedding' in first:
        embeddings = torch.stack([torch.stack([sample.embedding for sample in view]) for view in views]).mean(0)
        for sample, embedding in zip(samples, embeddings, strict=True):
            sample.set_field(embedding, 'embedding', dtype=Tensor)
    if 'heads' in first:
        by_head = {}
        for name, _ in first.heads.items():
            of_views = [[sample.heads.get(name) for sample in view] for view in views]
            own = head.heads[name] if hasattr(head, 'heads') else None
            by_head[name] = _join(of_views, [sample.new() for sample in of_views[0]], own)
        for row, sample in enumerate(samples):
            joined = sample.heads.new()
            for name, predictions in by_head.items():
                joined.set_field(predictions[row], name)
            sample.set_field(joined, 'heads')
    return samples
