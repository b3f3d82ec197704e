"""The section on merged tokens, drawn on images."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hybridcls.checks import counted

from .charts import curves_chart
from .html_page import Section
from .merged_tokens import MergingReadings
from .thumbnails import data_address

__all__ = ['tokens_section']


def tokens_section(readings: MergingReadings) -> Section:
    """Show how many tokens are left after each block, the savings, and which patches are merged."""
    blocks = list(range(len(readings.tokens)))
    curves: dict[str, Any] = {
        'merged': (blocks, readings.tokens),
        'without merging': (blocks, [readings.tokens[0]] * len(blocks)),
    }
    chart = curves_chart(curves, 'block (0: before the first one)', 'tokens', 'Tokens after each block', ylim=(0, None))
    saved = 100 * (1 - readings.gflops / readings.gflops_whole)
    when = (
        'Tokens were merged only in the training. Predictions use all tokens; the pictures show the merging of the '
        'training.'
        if readings.in_training
        else 'Predictions use the merged tokens.'
    )
    says = [
        f'{readings.name or "The model"} merges similar tokens (schedule {readings.ratio}): in '
        f'{counted(len(blocks) - 1, "block")}, {readings.tokens[0]} tokens become {readings.tokens[-1]}. The model '
        f'needs {readings.gflops:.3g} GFLOPs per image with merging and {readings.gflops_whole:.3g} without: '
        f'{saved:.0f} % less. {when}'
    ]
    pictures = []
    for one in readings.images:
        name = Path(str(one.item.path)).name
        pictures.append(_picture(one.seen, name, name))
        for block, drawing in zip(readings.drawn, one.drawings, strict=True):
            pictures.append(_picture(drawing, name, f'tokens after block {block}'))
    title = 'Patches that were merged to one token have the same colour, the mean of their colours'
    group = dict(title=title, pictures=pictures, large=1 + len(readings.drawn))
    charts = [dict(svg=chart, caption='Number of tokens after each block.')]
    return Section('tokens', 'Merged tokens', says, charts=charts, groups=[group])


def _picture(pixels: np.ndarray, name: str, caption: str) -> dict[str, Any]:
    alt = name if caption == name else f'{name}: {caption}'
    return dict(image=data_address(Image.fromarray(pixels)), alt=alt, caption=caption)
