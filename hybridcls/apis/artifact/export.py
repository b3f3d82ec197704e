"""Export a trained model to a folder that needs neither hybridcls nor torch, and compare what it computes."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch

from hybridcls.checks import check_choice

from ..trained_model import Source, read_trained_model
from .artifact_folder import SIDECAR, check_out_folder, unfinished_folder
from .comparison import BATCHES, check_differences, check_same_names, largest_differences, predictions_of
from .formats import FORMATS, OPSET, check_format, open_model, write_model
from .graph import MEANINGS, ImageGraph, normalizations_of
from .half_precision import check_half
from .levers import TOKEN_MERGING, WEIGHTS, check_exportable, choose_weights, merge_adapters, set_token_merging
from .network_input import read_network_input

__all__ = ['DTYPES', 'Exported', 'export']

DTYPES = ('float32', 'float16', 'int8')


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Args:
        folder (str): The artifact.
        why (str): Which checkpoint this is.
        notes (tuple[str, ...]): What was done to the model, a sentence each.
        difference (Mapping[str, float]): The largest absolute difference to PyTorch, by output.
        description (Mapping[str, Any]): ``model`` of the sidecar.
    """

    folder: str
    why: str
    notes: tuple[str, ...]
    difference: Mapping[str, float]
    description: Mapping[str, Any]


def export(
    checkpoint: Source,
    out: Union[str, Path],
    format: str = 'onnx',
    dtype: str = 'float32',
    token_merging: Optional[str] = None,
    weights: str = 'test',
    config: Union[str, Path, None] = None,
    force: bool = False,
) -> Exported:
    """Export a trained model.

    What is written is opened again and compared with the predictions of a test, on batches of 1, 2, 3 and 5 images. If
    they differ, nothing is written.

    Args:
        checkpoint: A checkpoint or a work dir, or several; see :func:`~hybridcls.apis.trained_model.read_trained_model`.
        out (str | Path): The folder to write.
        format (str): ``'onnx'``; ``'torch_export'``, which needs torch where it runs; ``'openvino'``. Defaults to
            ``'onnx'``.
        dtype (str): ``'float32'``, ``'float16'`` or ``'int8'``. Defaults to ``'float32'``.
        token_merging (str, optional): ``'keep'`` or ``'remove'``. Defaults to None: as in a test.
        weights (str): ``'test'``: those that a test takes; ``'ema'``, ``'raw'``, ``'slow'``, ``'fast'``. Defaults to
            ``'test'``.
        config (str | Path, optional): The config for a checkpoint that holds none. Defaults to None.
        force (bool): Whether an artifact that is there is replaced. Defaults to False.

    Raises:
        ValueError: If the model or its pipeline cannot be exported, or the result differs.
        FileExistsError: If ``out`` is there.
        ImportError: If the extra ``export`` is missing.
    """
    out = os.path.expanduser(os.fspath(out))
    check_choice('export', 'format', format, FORMATS)
    check_choice('export', 'dtype', dtype, DTYPES)
    check_choice('export', 'weights', weights, WEIGHTS)
    check_choice('export', 'token_merging', token_merging, (None, *TOKEN_MERGING))
    check_format(format)
    check_out_folder('export', out, force)
    trained = read_trained_model(checkpoint, config)
    check_exportable(trained)
    given = read_network_input(trained)
    levers: dict[str, Optional[str]] = {}
    levers['weights'], said = choose_weights(trained, weights)
    levers['token_merging'], notes = set_token_merging(trained, token_merging)
    batches = [_images(given.shape, size, seed) for seed, size in enumerate(BATCHES)]
    expected = [predictions_of(trained, given, batch) for batch in batches]

    kept, more = merge_adapters(trained.model)
    graph = ImageGraph(trained.model, given).eval()
    computed = [_run_in_torch(graph, batch) for batch in batches]
    names = list(computed[0])
    check_same_names(expected[0], names, type(getattr(trained.model, 'head', trained.model)).__name__)
    check_differences('the graph in PyTorch', largest_differences(expected, computed), expected)
    half = dtype == 'float16'
    if half and format != 'openvino':
        graph.halve()
    with unfinished_folder(out) as folder:
        file = write_model(graph, names, torch.from_numpy(batches[1]), folder, format, half)
        run = open_model(file, format, names)
        got = [run(batch) for batch in batches]
        difference = largest_differences(expected, got)
        if half:
            notes.append(check_half(expected, got))
        else:
            check_differences(f'{file.name}', difference, expected)
        description = dict(
            file=file.name, format=format, dtype=dtype, opset=OPSET if format == 'onnx' else None,
            input=dict(name='images', dtype='uint8', shape=['N', *given.shape],
                       colors='RGB' if given.channels == 3 else 'gray'),
            outputs={name: _described(name, got[0][name]) for name in names},
            normalization=normalizations_of(trained.model),
            levers=levers | kept, difference=difference,
        )  # fmt: skip
        sidecar = dict(format='hybridcls artifact', version=1, model=description)
        (folder / SIDECAR).write_text(json.dumps(sidecar, indent=2))
    return Exported(out, trained.found.why, (said, *notes, *more), difference, description)


def _images(shape: Sequence[int], size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, *shape), dtype=np.uint8)


def _run_in_torch(graph: ImageGraph, images: np.ndarray) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {name: value.numpy() for name, value in graph(torch.from_numpy(images)).items()}


def _described(name: str, value: np.ndarray) -> dict[str, Any]:
    return dict(shape=['N', *value.shape[1:]], meaning=MEANINGS.get(name.rpartition('.')[2], ''))
