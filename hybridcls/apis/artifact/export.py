"""Export a trained model to a folder that needs neither hybridcls nor torch, and compare what it computes."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch

from hybridcls.checks import check_choice
from hybridcls.models.adapters import merge_lora

from ..trained_model import Source, read_trained_model
from .artifact_folder import SIDECAR, check_out_folder, unfinished_folder
from .formats import FORMATS, OPSET, open_model, write_model
from .graph import MEANINGS, ImageGraph
from .network_input import read_network_input

__all__ = ['DTYPES', 'Exported', 'export']

DTYPES = ('float32', 'float16', 'int8')
_BATCHES = (1, 2, 5)


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
    config: Union[str, Path, None] = None,
    force: bool = False,
) -> Exported:
    """Export a trained model."""
    out = os.path.expanduser(os.fspath(out))
    check_choice('export', 'format', format, FORMATS)
    check_choice('export', 'dtype', dtype, DTYPES)
    check_out_folder('export', out, force)
    trained = read_trained_model(checkpoint, config)
    given = read_network_input(trained)
    merged = merge_lora(trained.model)
    graph = ImageGraph(trained.model, given).eval()
    shape = (given.height, given.width, given.channels)
    images = torch.randint(0, 256, (max(_BATCHES), *shape), dtype=torch.uint8)
    with torch.no_grad():
        names = list(graph(images[:2]))
    with unfinished_folder(out) as folder:
        file = write_model(graph, names, images[:2], folder, format)
        run = open_model(file, format, names)
        difference = _difference(graph, run, images, names)
        description = dict(
            file=file.name, format=format, dtype=dtype, opset=OPSET,
            input=dict(name='images', dtype='uint8', shape=['N', *shape], colors='RGB'),
            outputs={name: dict(meaning=MEANINGS.get(name.rpartition('.')[2], '')) for name in names},
            levers=dict(lora='merged' if len(merged) else None), difference=difference,
        )  # fmt: skip
        sidecar = dict(format='hybridcls artifact', version=1, model=description)
        (folder / SIDECAR).write_text(json.dumps(sidecar, indent=2))
    return Exported(out, trained.found.why, (), difference, description)


def _difference(graph: ImageGraph, run: Any, images: torch.Tensor, names: list[str]) -> dict[str, float]:
    largest = dict.fromkeys(names, 0.0)
    for size in _BATCHES:
        with torch.no_grad():
            expected = graph(images[:size])
        got = run(images[:size].numpy())
        for name in names:
            largest[name] = max(largest[name], float(np.abs(expected[name].numpy() - got[name]).max()))
    return largest
