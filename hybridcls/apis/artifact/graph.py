"""The exported part of a trained model: from uint8 images to named outputs."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hybridcls.models.backbones.stream import Stream
from hybridcls.models.classifiers import EnsembleClassifier
from hybridcls.models.classifiers.mixture_predictions import mixture_fields
from hybridcls.models.heads.head import is_multi_label, outputs_of

from .network_input import NetworkInput

__all__ = ['MEANINGS', 'ImageGraph', 'normalizations_of', 'normalized_images', 'run_in_torch']

MEANINGS = dict(
    logits='before the softmax (of several labels an image: the sigmoid)',
    probabilities='of each class, adding up to 1 (of several labels an image: each for itself)',
    embedding='what images are compared by, not normalized',
    total='uncertainty, nats: the entropy of the probabilities',
    aleatoric='uncertainty, nats: the part that more training images would not reduce',
    epistemic='uncertainty, nats: the part that they would reduce',
    vacuity='uncertainty in (0, 1]: 1 is no evidence at all',
)
"""What the outputs are, by the last part of their names."""


class ImageGraph(nn.Module):
    """A classifier with its normalization and layout, for export.

    Args:
        model (nn.Module): The classifier, in eval mode.
        given (NetworkInput): What its pipeline gives it.

    Shape:
        - images: ``(N, h, w, 3)`` uint8, RGB, of the network's size.
        - returns: tensors by name, float32: ``logits`` and ``probabilities`` ``(N, C)``, ``embedding`` ``(N, D)``, each
          uncertainty ``(N,)``; those of them that the head has.
    """

    def __init__(self, model: nn.Module, given: NetworkInput) -> None:
        super().__init__()
        self.model: Any = model
        self._given = given
        self._dtype = torch.float32

    def in_half(self) -> 'ImageGraph':
        """Return a copy that computes in float16 after the data preprocessor.

        What heads do in float32 whatever the embedding is (cosines, evidence, scores) stays in float32.
        """
        graph = deepcopy(self)
        graph.model.half().data_preprocessor = deepcopy(self.model.data_preprocessor)
        graph._dtype = torch.float16
        return graph

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs."""
        inputs = self._given.preprocessed(self.model, images).to(self._dtype)
        return {name: value.float() for name, value in classifier_outputs(self.model, inputs).items()}


def classifier_outputs(model: Any, inputs: Tensor) -> dict[str, Tensor]:
    """Return the outputs of a classifier for images that its data preprocessor returned."""
    if isinstance(model, EnsembleClassifier):
        return _mixed(model, [classifier_outputs(member, inputs) for member in model.members])
    if getattr(model, 'head', None) is None:
        return outputs_of(model, inputs)
    return outputs_of(model.head, model.extract_feat(inputs))


def normalizations_of(model: Any) -> dict[str, dict[str, Any]]:
    """Return each normalization in a graph, by the name of the stream or part that applies it.

    Returns:
        dict[str, dict]: ``mean`` and ``std``, of R, G, B (or of grey), and ``range``: the largest value of what they
        are applied to, 255 or 1.
    """
    found = {}
    preprocessor = model.data_preprocessor
    if getattr(preprocessor, 'mean', None) is not None:
        found['data_preprocessor'] = _numbers(preprocessor.mean, preprocessor.std, 255)
    for name, module in model.named_modules():
        if isinstance(module, Stream):
            found[name] = _numbers(module.mean, module.std, 1)
        elif getattr(module, 'image_mean', None) is not None:
            found[f'{name}.backbone'.lstrip('.')] = _numbers(module.image_mean, module.image_std, 1)
    return found


@torch.no_grad()
def run_in_torch(graph: ImageGraph, images: np.ndarray) -> dict[str, np.ndarray]:
    """Run a graph in PyTorch, before it is exported."""
    return {name: value.numpy() for name, value in graph(torch.from_numpy(images)).items()}


@torch.no_grad()
def normalized_images(model: Any, given: NetworkInput, images: np.ndarray) -> dict[str, np.ndarray]:
    """Apply each of :func:`normalizations_of` to images ``(N, h, w, C)`` uint8; the results have the same names."""
    return {
        name: value.numpy() for name, value in _normalized(model, given.preprocessed(model, torch.from_numpy(images)))
    }


def _normalized(model: Any, inputs: Tensor) -> Iterator[tuple[str, Tensor]]:
    if getattr(model.data_preprocessor, 'mean', None) is not None:
        yield 'data_preprocessor', inputs
    for name, module in model.named_modules():
        if isinstance(module, Stream):
            yield name, module.normalized(inputs)
        elif getattr(module, 'image_mean', None) is not None:
            yield f'{name}.backbone'.lstrip('.'), (inputs - module.image_mean) / module.image_std


def _numbers(mean: Tensor, std: Tensor, largest: int) -> dict[str, Any]:
    return dict(mean=mean.flatten().tolist(), std=std.flatten().tolist(), range=largest)


def _mixed(model: Any, members: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the outputs of an ensemble from those of its members, as its ``forward`` and ``predict`` do."""
    multi_label = is_multi_label(model.members[0].head)
    scores, aleatoric, vacuity = (
        torch.stack([outputs[name] for outputs in members]) if name in members[0] else None
        for name in ('probabilities', 'aleatoric', 'vacuity')
    )
    if scores is None:
        raise ValueError(
            f'export: expected members with classes, got the head {type(model.members[0].head).__name__}, whose '
            'embeddings have no mean. Export one of the members.'
        )
    mean = scores.mean(0)
    info = torch.finfo(mean.dtype)
    logits = mean.logit(eps=info.eps) if multi_label else mean.clamp_min(info.tiny).log()
    fields = mixture_fields(scores, multi_label, aleatoric, vacuity)
    return {**members[0], 'logits': logits, 'probabilities': mean, **fields}
