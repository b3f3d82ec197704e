"""Verify an artifact with its shipped ``verify.py``, and compare it with its checkpoint."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from ..inferencer import HybridInferencer
from .shipped.graph_check import apart, open_artifact, stored_outputs
from .shipped.pixel_mistakes import Finding
from .shipped.runtime import prepare_image, read_image, read_sidecar
from .shipped.verify import Report, read_golden, verify

__all__ = ['Finding', 'Report', 'compare_with_checkpoint', 'verify_artifact']


def verify_artifact(
    folder: Union[str, Path],
    checkpoint: Optional[str] = None,
    device: str = 'cpu',
    config: Optional[str] = None,
    **options: Any,
) -> Report:
    """Compare an artifact, and the user's code around it, with its golden images.

    Args:
        folder (str | Path): The artifact.
        checkpoint (str, optional): A checkpoint or a work dir: its predictions are compared with those of the artifact.
            Defaults to None.
        device (str): Of the checkpoint's model. Defaults to ``'cpu'``.
        config (str, optional): The config for a checkpoint that holds none. Defaults to None.
        **options: Of the shipped ``verify``: ``pipeline``, ``predict``, ``model``, ``stage``, ``layout``,
            ``tolerance``, ``allow``.

    Raises:
        ValueError: If the folder is no artifact, or a function fails for all images.
        ImportError: If the runtime of the format is not installed.
    """
    report = verify(os.fspath(folder), **options)
    if checkpoint is None or any(finding.name == 'file' for finding in report.findings):
        return report
    model = HybridInferencer(checkpoint, device, config, calibration=False)
    found = list(compare_with_checkpoint(os.fspath(folder), model, options.get('tolerance')))
    report.findings.extend(found)
    if not found:
        report.passed.append(f'checkpoint: {model.checkpoint_path} predicts the same on the golden images')
    return report


def compare_with_checkpoint(
    folder: str, model: HybridInferencer, tolerance: Optional[float] = None
) -> Iterator[Finding]:
    """Compare the artifact, with its own preprocessing, with a trained model on the golden images.

    Args:
        folder (str): The artifact.
        model (HybridInferencer): What it was exported from, without a calibration.
        tolerance (float, optional): Relative to the largest value. Defaults to None: 1e-3 for float32, more for fewer
            bits.
    """
    sidecar = read_sidecar(folder, check_files=False)
    goldens, stages = read_golden(folder, sidecar)
    graph = open_artifact(folder, sidecar, tolerance)
    if model.classes != tuple(sidecar['classes']):
        yield Finding('classes', f'The checkpoint {model.checkpoint_path} has the classes '
                                 f'{", ".join(model.classes[:5])} ..., '
                      f'and the artifact {", ".join(sidecar["classes"][:5])} ... Export again.')  # fmt: skip
        return
    decode, steps = sidecar['preprocessing']['decode'], sidecar['preprocessing']['steps']
    outputs = graph.run(np.stack([prepare_image(read_image(one.path, decode), steps) for one in goldens]))
    answers = list(model([one.path for one in goldens], embeddings='embedding' in stored_outputs(stages, sidecar)))
    expected = {
        name: np.array(values)
        for name, values in (
            ('probabilities', [one.scores for one in answers]), ('embedding', [one.embedding for one in answers])
        )
        if all(value is not None for value in values)
    }  # fmt: skip
    far = {name: apart(outputs[name], value) for name, value in expected.items() if name in outputs}
    name = max(far, key=lambda one: far[one], default='')
    if name and not far[name] <= graph.tolerance:
        rows = np.abs(outputs[name] - expected[name]).reshape(len(goldens), -1).max(1) if far[name] < np.inf else []
        worst = goldens[int(np.argmax(rows))].name if len(rows) else 'all images'
        yield Finding('checkpoint', f'{model.checkpoint_path} gives other predictions than the artifact: {name} '
                      f'differs by {far[name]:.3g} of its largest value, most for {worst}. It is another checkpoint, '
                      'or other weights of it (EMA, adapters): export again.', (worst,), far[name])  # fmt: skip
