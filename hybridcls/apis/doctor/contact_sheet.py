"""A contact sheet: training images as the model sees them, augmented, with their labels."""

import io
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from hybridcls.visualization.prediction_image import to_rgb_image

from .train_step import pick, size_of

__all__ = ['contact_sheet', 'sheet_of_batches']

_SIDE, _COLUMNS, _TEXT, _GAP = 128, 8, 16, 4  # pixels, but the columns
_MOST = 32  # images


def contact_sheet(images: Sequence[np.ndarray], labels: Sequence[str], side: int = _SIDE) -> bytes:
    """Draw images in rows of eight, each with a line of text below it.

    Args:
        images (Sequence[np.ndarray]): uint8 (H, W, 3), RGB; shown as large as fits into a square.
        labels (Sequence[str]): One for each, cut where it is too long.
        side (int): Of the square, in pixels. Defaults to 128.

    Returns:
        bytes: A PNG file.
    """
    columns = min(_COLUMNS, max(1, len(images)))
    rows = -(-len(images) // columns)
    width, height = side + _GAP, side + _TEXT + _GAP
    sheet = Image.new('RGB', (columns * width + _GAP, max(1, rows) * height + _GAP), 'white')
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT - 4)
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        left, top = _GAP + number % columns * width, _GAP + number // columns * height
        image = Image.fromarray(pixels)
        factor = side / max(image.size)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        image = image.resize(size, Image.Resampling.NEAREST if factor > 2 else Image.Resampling.BILINEAR)
        sheet.paste(image, (left + (side - image.width) // 2, top + (side - image.height) // 2))
        while label and draw.textlength(label, font) > side:
            label = label[:-2] + '…' if len(label) > 2 else ''
        draw.text((left, top + side), label, fill='black', font=font)
    content = io.BytesIO()
    sheet.save(content, 'PNG')
    return content.getvalue()


def sheet_of_batches(batches: Sequence[dict], model: Any, classes: Sequence[str]) -> bytes:
    """Draw the first images of some training batches as they leave the data preprocessor, the views side by side.

    Args:
        batches (Sequence[dict]): Of the dataloader.
        model (nn.Module): Whose ``data_preprocessor`` they go through, with what it augments.
        classes (Sequence[str]): Class names by number.
    """
    preprocessor = deepcopy(model.data_preprocessor)  # it checks the values of its first batch of a training
    images: list[np.ndarray] = []
    labels: list[str] = []
    for data in batches:
        count = size_of(data)
        seen = preprocessor(pick(data, range(count)), True)
        inputs, samples = seen['inputs'], seen['data_samples']
        views = len(inputs) // count
        for number in range(count):
            for view in range(views):
                images.append(_picture(inputs[view * count + number], model))
                labels.append(_label(samples[number], classes))
        if len(images) >= _MOST:
            break
    return contact_sheet(images[:_MOST], labels[:_MOST])


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
