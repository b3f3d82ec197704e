"""Draw training images as the model sees them, augmented, with their labels."""

import io
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from hybridcls.visualization.contact_sheet import Cell, contact_sheet
from hybridcls.visualization.prediction_image import to_rgb_image

from .train_step import pick, size_of

__all__ = ['sheet_of_batches']

_COLUMNS, _SIDE = 8, 128  # images, pixels
_MOST = 32  # images


def sheet_of_batches(batches: Sequence[dict], model: Any, classes: Sequence[str]) -> bytes:
    """Draw the first images of some training batches after the data preprocessor, with views side by side.

    Args:
        batches (Sequence[dict]): Of the dataloader.
        model (nn.Module): Whose ``data_preprocessor`` they go through, with what it augments.
        classes (Sequence[str]): Class names by number.

    Returns:
        bytes: A PNG file of rows of eight.
    """
    preprocessor = deepcopy(model.data_preprocessor)  # it checks the values of its first batch of a training
    cells: list[Cell] = []
    for data in batches:
        count = size_of(data)
        seen = preprocessor(pick(data, range(count)), True)
        inputs, samples = seen['inputs'], seen['data_samples']
        views = len(inputs) // count
        for number in range(count):
            for view in range(views):
                picture = Image.fromarray(_picture(inputs[view * count + number], model))
                cells.append(Cell(picture, [_label(samples[number], classes)]))
        if len(cells) >= _MOST:
            break
    cells = cells[:_MOST]
    content = io.BytesIO()
    rows = [cells[start : start + _COLUMNS] for start in range(0, len(cells), _COLUMNS)]
    contact_sheet(rows, size=_SIDE).save(content, 'PNG')
    return content.getvalue()


def _picture(image: Tensor, model: Any) -> np.ndarray:
    if getattr(model.data_preprocessor, 'gives_unit_range', False):
        return to_rgb_image((image.float() * 255).round().clamp(0, 255).byte(), is_bgr=False)
    return to_rgb_image(image, is_bgr=False)


def _label(sample: Any, classes: Sequence[str]) -> str:
    if 'gt_score' in sample and (sample.gt_score > 0).sum() > 1:  # mixed images
        numbers = sample.gt_score.argsort(descending=True)[:2].tolist()
        return ' + '.join(f'{sample.gt_score[number]:.0%} {_name(number, classes)}' for number in numbers)
    numbers = sample.gt_label.tolist() if 'gt_label' in sample else []
    return ', '.join(_name(number, classes) for number in numbers) or 'no label'


def _name(number: int, classes: Sequence[str]) -> str:
    return classes[number] if 0 <= number < len(classes) else str(number)
