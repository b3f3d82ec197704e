"""The section of images: errors by confused pair, and the least certain images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hybridcls.checks import counted

from .evaluated_images import EvaluatedImages
from .html_page import Section, isolated, shown_probability
from .thumbnails import thumbnail

__all__ = ['images_section', 'picture']

_PAIRS, _OF_A_PAIR, _UNSURE = 8, 8, 24


def images_section(known: EvaluatedImages, classes: Sequence[str]) -> Section:
    """Show the thumbnails of wrong and uncertain images."""
    wrong = np.flatnonzero(known.wrong)
    groups = []
    by_pair: dict[tuple[int, int], list[int]] = {}
    for row in wrong:
        by_pair.setdefault((int(known.labels[row]), int(known.predicted[row])), []).append(int(row))

    def first(pair: tuple[tuple[int, int], list[int]]) -> tuple:
        return -len(pair[1]), -max(known.confidence[pair[1]]), pair[0]  # where all are rare, the surest tells most

    for (own, said), rows in sorted(by_pair.items(), key=first)[:_PAIRS]:
        surest = sorted(rows, key=lambda row: -known.confidence[row])[:_OF_A_PAIR]
        groups.append(
            dict(
                title=f'{isolated(classes[own])} predicted as {isolated(classes[said])} '
                f'({"1 image" if len(rows) == 1 else f"{len(rows)} images, the most confident first"})',
                pictures=[picture(known, row, classes) for row in surest],
            )
        )
    unsure = np.argsort(known.confidence, kind='stable')[:_UNSURE]
    groups.append(dict(title='Least confident answers', pictures=[picture(known, int(row), classes) for row in unsure]))
    say = f'The answer is wrong for {counted(len(wrong), "image", of=len(known))}.'
    if len(by_pair) > _PAIRS:
        say += (
            f' There are {counted(len(by_pair), "pair")} of a true and a predicted class. The {_PAIRS} most frequent '
            'pairs are shown; of equally frequent ones, those with the most confident error.'
        )
    return Section('images', 'Images to look at', [say], groups=groups)


def picture(images: EvaluatedImages, row: int, classes: Sequence[str]) -> dict[str, Any]:
    """Return the thumbnail of an image with its caption."""
    item = images.items[row]
    own, said = isolated(classes[int(images.labels[row])]), isolated(classes[int(images.predicted[row])])
    text = f'{own}: {shown_probability(images.scores[row, images.labels[row]])}'
    if own != said:
        text = f'predicted {said}: {shown_probability(images.confidence[row])}, true {text}'
    return dict(image=thumbnail(item), alt=f'{item.path}: {text}', caption=text)
