"""Export a trained model to a folder that needs neither hybridcls nor torch, and check its outputs."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch

from hybridcls.checks import check_choice, check_number
from hybridcls.datasets.dataset_parts import loaders_of, version_of
from hybridcls.engine.checkpoints.calibration_file import FoundCalibration, find_calibration

from ..held_out_images import held_out_images
from ..image_inputs import Item
from ..trained_model import Source, TrainedModel, read_trained_model
from .agreement import output_agreement
from .artifact_folder import check_out_folder, lost_with, unfinished_folder
from .comparison import BATCHES, check_differences, check_same_names, largest_differences, predictions_of
from .exported_levers import TOKEN_MERGING, WEIGHTS, check_exportable, choose_weights, merge_adapters, set_token_merging
from .formats import FORMATS, OPSET, check_format, write_model
from .golden import golden_batch
from .graph import MEANINGS, ImageGraph, normalizations_of, normalized_images, run_in_torch
from .half_precision import check_half
from .network_input import NetworkInput, read_network_input
from .preprocessing import preprocessing_of
from .quantized_artifact import check_images, quantize_artifact
from .reference import add_reference, check_count
from .shipped.runtime import open_graph
from .sidecar import read_sidecar, write_artifact
from .unmerged import answers_without_adapters

__all__ = ['DTYPES', 'Exported', 'export']

DTYPES = ('float32', 'float16', 'int8')


@dataclass(frozen=True)
class Exported:
    """The result of :func:`export`.

    Args:
        folder (str): The artifact.
        checkpoint (str): What was exported.
        why (str): Which checkpoint this is.
        notes (tuple[str, ...]): What was done to the model, a sentence each.
        difference (Mapping[str, float]): The largest absolute difference to PyTorch, by output.
        description (Mapping[str, Any]): ``model`` of the sidecar.
        files (Mapping[str, int]): Bytes of each file, by its path in the folder.
    """

    folder: str
    checkpoint: str
    why: str
    notes: tuple[str, ...]
    difference: Mapping[str, float]
    description: Mapping[str, Any]
    files: Mapping[str, int]


def export(
    checkpoint: Source,
    out: Union[str, Path],
    format: str = 'onnx',
    dtype: str = 'float32',
    token_merging: Optional[str] = None,
    weights: str = 'test',
    golden: Optional[str] = None,
    calibration: Union[str, Path, bool, None] = None,
    config: Union[str, Path, None] = None,
    force: bool = False,
    data: Optional[str] = None,
    max_loss: Optional[float] = None,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Exported:
    """Export a trained model.

    What is written is opened again and compared with the predictions of a test, on batches of 1, 2, 3 and 5 images of
    noise and on the golden images. If they differ, nothing is left there.

    Args:
        checkpoint: A checkpoint or a work dir, or several, as an ensemble; see
            :func:`~hybridcls.apis.trained_model.read_trained_model`.
        out (str | Path): The folder to write.
        format (str): ``'onnx'``; ``'torch_export'``, which needs torch where it runs; ``'openvino'``. Defaults to
            ``'onnx'``.
        dtype (str): ``'float32'``, ``'float16'`` or ``'int8'``. Defaults to ``'float32'``.
        token_merging (str, optional): ``'keep'`` or ``'remove'``. Defaults to None: as in a test.
        weights (str): ``'test'``: those that a test takes; ``'ema'``, ``'raw'``, ``'slow'``, ``'fast'``. Defaults to
            ``'test'``.
        golden (str, optional): A folder of images that are taken in place of the generated golden ones. Defaults to
            None.
        calibration (str | Path | bool, optional): A file of ``hybridcls calibrate``; False: none. Defaults to None:
            that beside the checkpoint, if it holds for what is exported.
        config (str | Path, optional): The config for a checkpoint that holds none. Defaults to None.
        force (bool): Whether an artifact that is there is replaced. Defaults to False.
        data (str, optional): Held-out images, with or without labels, that the artifact's alarm compares with; see
            :func:`~hybridcls.apis.held_out_images.held_out_images`. Defaults to None: there is no alarm.
        max_loss (float, optional): How many points int8 may lose on a part of ``data``; see
            :func:`~hybridcls.apis.artifact.quantized_artifact.quantize_artifact`. Defaults to None: 1.
        tell (Callable): Takes sentences about work that takes minutes.

    Raises:
        ValueError: If the model or its pipeline cannot be exported, or the result differs.
        FileExistsError: If ``out`` is there.
        ImportError: If the extra ``export`` is missing.
        TooMuchLost: If int8 loses more than ``max_loss``.
    """
    out = os.path.expanduser(os.fspath(out))
    check_choice('export', 'format', format, FORMATS)
    check_choice('export', 'dtype', dtype, DTYPES)
    check_choice('export', 'weights', weights, WEIGHTS)
    check_choice('export', 'token_merging', token_merging, (None, *TOKEN_MERGING))
    check_format(format)
    _check_int8(format, dtype, data, max_loss)
    check_out_folder('export', out, force)
    trained = read_trained_model(checkpoint, config)
    notes = [*lost_with(out), *check_exportable(trained)]
    held_out: list[Item] = []
    about_held_out: list[str] = []
    if data is not None:
        held_out, about_held_out = held_out_images(data, trained.found.path, trained.cfg, 'export')
        check_count(len(held_out))
        if dtype == 'int8':
            check_images(sum(item.label is not None for item in held_out))
    preprocessing_of(trained)  # raises for a pipeline that runtime.py does not have
    given = read_network_input(trained)
    levers: dict[str, Optional[str]] = {}
    levers['weights'], said = choose_weights(trained, weights)
    levers['token_merging'], merging = set_token_merging(trained, token_merging)
    notes += [said, *merging]
    found = _calibration(trained, given, calibration, levers, weights, notes)
    batches = [_random_images(given.shape, size) for size in BATCHES] + [golden_batch(trained, golden)]
    expected = [predictions_of(trained, given, batch) for batch in batches]

    mistakes = answers_without_adapters(trained, given, batches[-1])
    kept, more = merge_adapters(trained.model)
    notes += more
    graph = ImageGraph(trained.model, given).eval()
    computed = [run_in_torch(graph, batch) for batch in batches]
    names = list(computed[0])
    check_same_names(expected[0], names, type(getattr(trained.model, 'head', trained.model)).__name__)
    check_differences('the graph in PyTorch', largest_differences(names, expected, computed), expected)
    expected = [{**all_of, **predicted} for all_of, predicted in zip(computed, expected, strict=True)]
    half = dtype == 'float16'
    written = graph.in_half() if half and format != 'openvino' else graph
    with unfinished_folder(out) as folder:
        file = write_model(written, names, torch.from_numpy(batches[1]), folder, format, half)
        description: dict[str, Any] = dict(
            file=file.name, format=format, dtype=dtype, opset=OPSET if format == 'onnx' else None,
            input=dict(name='images', dtype='uint8', shape=['N', *given.shape],
                       colors='RGB' if given.channels == 3 else 'gray'),
            outputs={name: _described(name, computed[0][name]) for name in names},
            normalization=normalizations_of(trained.model),
            levers=levers | kept,
        )  # fmt: skip
        run = open_graph(str(folder), description)
        got = [run(batch) for batch in batches]
        description['difference'] = difference = largest_differences(names, expected, got)
        if half:
            notes.append(check_half(expected, got))
        else:
            check_differences(file.name, difference, expected)
        write_artifact(
            folder, trained, description, partial(predictions_of, trained, given),
            calibration=None if found is None else found.calibration,
            golden=golden, normalized=partial(normalized_images, trained.model, given), mistakes=mistakes,
        )  # fmt: skip
        if 'probabilities' in names and dtype != 'int8':
            notes.append(f'Compared with PyTorch on {output_agreement(folder, expected, got)}.')
        if dtype == 'int8':
            quantized = quantize_artifact(folder, held_out, 1.0 if max_loss is None else max_loss, tell=tell)
            held_out, notes = quantized.judges, [*notes, *quantized.notes]  # the others are no longer held out
            description = read_sidecar(folder)['model']
        if data is not None:
            notes += [*about_held_out, *add_reference(folder, held_out)]
        files = {
            path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob('*') if path.is_file()
        }
    return Exported(out, *trained.found, tuple(notes), description['difference'], description, files)


def _check_int8(format: str, dtype: str, data: Optional[str], max_loss: Optional[float]) -> None:
    if dtype != 'int8':
        if max_loss is not None:
            raise ValueError(f'export: --max-loss is for --dtype int8, got {dtype}. Leave it out.')
        return
    if format != 'onnx':
        raise ValueError(f'export: --dtype int8 is for --format onnx, got {format}.')
    if data is None:
        raise ValueError(
            'export: --dtype int8 needs held-out images with labels, which set the ranges and show what is lost. Type: '
            '--data FOLDER'
        )
    if max_loss is not None:
        check_number('export', '--max-loss', max_loss, 0, 100)


def _calibration(
    trained: TrainedModel,
    given: NetworkInput,
    asked: Union[str, Path, bool, None],
    levers: Mapping[str, Optional[str]],
    weights: str,
    notes: list[str],
) -> Optional[FoundCalibration]:
    """Find the calibration that is valid for the exported model; if there is none, say why."""
    found = find_calibration(trained.found.path, asked)
    if found is None:
        return None
    changed = f'--weights {weights}' if weights != 'test' else None
    if levers['token_merging'] == 'removed':
        changed = '--token-merging remove'
    size = found.calibration.img_size
    if size is not None and tuple(size) != (given.height, given.width):
        changed = f'images of {given.height} x {given.width} instead of {" x ".join(map(str, size))}'
    version = version_of(loaders_of(trained.pipeline))
    if found.calibration.preprocessing_version != version:
        changed = f'preprocessing version {version} instead of {found.calibration.preprocessing_version}'
    if found.calibration.precision != 'float32':
        changed = f'float32 instead of {found.calibration.precision}'
    if found.calibration.token_merging_ratio is not None:
        changed = f'tokens that are not merged by {found.calibration.token_merging_ratio:g}'
    if changed is None:
        notes.append(found.why)
        return found
    text = f'The calibration {found.path} does not hold with {changed}'
    if asked is not None:
        raise ValueError(f'export: {text}. Leave --calibration out.')
    notes.append(f'{text}, so it is left out.')
    return None


def _random_images(shape: Sequence[int], size: int) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, (size, *shape), dtype=np.uint8)


def _described(name: str, value: np.ndarray) -> dict[str, Any]:
    return dict(shape=['N', *value.shape[1:]], meaning=MEANINGS.get(name.rpartition('.')[2], ''))
