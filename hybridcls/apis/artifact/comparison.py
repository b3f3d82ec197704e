"""Compare the outputs of an exported graph with the predictions of the trained model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmpretrain.structures import DataSample

from ..trained_model import TrainedModel
from .network_input import NetworkInput

__all__ = ['BATCHES', 'check_differences', 'check_same_names', 'largest_differences', 'limit_of', 'predictions_of']

BATCHES = (1, 2, 5, 3)
"""The sizes of the batches that are compared."""
_ABSOLUTE, _RELATIVE = 1e-4, 1e-5


@torch.no_grad()
def predictions_of(trained: TrainedModel, given: NetworkInput, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the predictions of the trained model for images, under the names of the graph's outputs.

    All but the logits are read from the samples that a test writes.

    Args:
        trained (TrainedModel): As it is before the export changes it.
        given (NetworkInput): What its pipeline gives.
        images (np.ndarray): ``(N, h, w, C)`` uint8, RGB.

    Raises:
        ValueError: If a test of the model fails: its pipeline gives another size than it takes, say.
    """
    model: Any = trained.model
    try:
        packed = [dict(inputs=image, data_samples=DataSample()) for image in given.packed(images)]
        outputs = _fields_of(model.test_step(trained.collate(packed)))
        if 'probabilities' in outputs:
            outputs['logits'] = model(given.preprocessed(model, torch.from_numpy(images))).float().numpy()
    except (ValueError, RuntimeError, AssertionError) as error:  # timm asserts
        raise ValueError(f'export: a test fails on images of {given.height} x {given.width}: {error}') from error
    return outputs


def _fields_of(samples: Sequence[Any]) -> dict[str, np.ndarray]:
    """Return the fields of predictions under the names of outputs: vectors with a known name, and all scalars."""
    names = dict(pred_score='probabilities', embedding='embedding')
    numbers = {name: name for name, value in samples[0].items() if isinstance(value, torch.Tensor) and not value.dim()}
    fields = {
        output: torch.stack([sample.get(name) for sample in samples]).float().numpy()
        for name, output in (names | numbers).items()
        if name in samples[0]
    }
    for head in samples[0].heads.keys() if 'heads' in samples[0] else ():
        of_head = _fields_of([sample.heads.get(head) for sample in samples])
        fields.update({f'{head}.{name}': value for name, value in of_head.items() if name != 'embedding'})
    return fields


def check_same_names(predicted: Mapping[str, Any], names: Sequence[str], head: str) -> None:
    """Raise unless the graph has all outputs that the model predicts."""
    missing = [name for name in predicted if name not in names]
    if missing:
        raise ValueError(
            f'export: {head} predicts {", ".join(missing)}, which its graph does not give. Return them from '
            f'{head}.outputs(feats), one tensor each.'
        )


def largest_differences(
    names: Sequence[str], expected: Sequence[Mapping[str, np.ndarray]], got: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, float]:
    """Return the largest absolute difference of each output over all batches; infinite where a value is not finite.

    Outputs that are not expected are left out.
    """
    return {
        name: max(_difference(one[name], other[name]) for one, other in zip(expected, got, strict=True))
        for name in names
        if name in expected[0]
    }


def _difference(expected: np.ndarray, got: np.ndarray) -> float:
    if expected.shape != got.shape:
        return float('inf')
    difference = np.abs(expected.astype(np.float64) - got)
    difference[expected == got] = 0  # of equal infinities
    return float(np.nan_to_num(difference, nan=np.inf).max())


def limit_of(name: str, expected: Sequence[Mapping[str, np.ndarray]]) -> float:
    """Return the largest allowed error of an output in float32: 1e-4, or 1e-5 of the largest value if above 10."""
    return max(_ABSOLUTE, _RELATIVE * max(float(np.abs(batch[name]).max()) for batch in expected))


def check_differences(
    what: str, differences: Mapping[str, float], expected: Sequence[Mapping[str, np.ndarray]]
) -> None:
    """Raise if the error of an output exceeds :func:`limit_of`."""
    for name, value in differences.items():
        limit = limit_of(name, expected)
        if not value <= limit:
            raise ValueError(
                f'export: {what}: {name} is off by {value:.3g}, more than {limit:.3g}. Nothing was written.'
            )
