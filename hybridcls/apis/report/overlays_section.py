"""The section on class activation maps, and their deletion scores."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

import numpy as np

from hybridcls.checks import counted, is_or_are
from hybridcls.functional.metrics import fewest_units

from ..inferencer import HybridInferencer
from ..overlays import DeletionGain, DeletionScore, Overlays, make_overlays, passes_of_scores
from .cost import gflops_of, seen_size
from .evaluated_images import EvaluatedImages
from .html_page import Section, Table
from .thumbnails import data_address

__all__ = ['overlay_numbers', 'overlays_of_some', 'overlays_section', 'scored_images']

# By operations and not by a clock: the same report scores the same images. About a minute of one core, or of a GPU.
_GFLOPS = dict(cpu=3e3, cuda=1.5e5)
_MOST_SCORED = 500


def scored_images(gflops: float, streams: int, shown: int, device: str = 'cpu') -> int:
    """Return how many images are used to score the maps: as many as a minute allows, at least those shown.

    Args:
        gflops (float): Of the model for an image.
        streams (int): With maps.
        shown (int): Images that are shown.
        device (str): Its type. Defaults to ``'cpu'``.
    """
    allowed = _GFLOPS.get(device, _GFLOPS['cpu']) / (passes_of_scores(streams) * max(gflops, 1e-9))
    return max(shown, min(_MOST_SCORED, int(allowed)))


def overlays_of_some(
    model: HybridInferencer,
    known: EvaluatedImages,
    count: int,
    layers: Optional[Mapping[str, str]] = None,
    streams: int = 1,
    tell: Callable[[str], None] = print,
) -> Overlays:
    """Map the most confident errors, at most half of ``count``, and other images at random (seed 0).

    The maps are scored on images that are drawn at random, :func:`scored_images` of them.

    Args:
        model (HybridInferencer), known (EvaluatedImages): Its images.
        count (int): How many are shown.
        layers (Mapping[str, str], optional): See :func:`~hybridcls.apis.stream_maps.mapped_layers`.
        streams (int): How many have maps. Defaults to 1.
        tell (Callable): Takes what this costs, before it is done.
    """
    gflops = gflops_of(model, seen_size(model, known.items))
    scored = min(len(known), scored_images(gflops, streams, count, model.device.type))
    work = scored * passes_of_scores(streams)
    tell(
        f'Maps of {counted(min(count, len(known)), "image")}, scored on {scored}: as much as {work} more images, '
        f'{work * gflops:.0f} GFLOPs (a core of a CPU does some 50 a second).'
    )
    drawn = np.sort(np.random.default_rng(1).permutation(len(known))[:scored])
    wrong = np.flatnonzero(known.wrong)
    surest = wrong[np.argsort(-known.confidence[wrong], kind='stable')][: count // 2]
    others = np.random.default_rng(0).permutation(np.setdiff1d(np.arange(len(known)), wrong))
    chosen = [*surest, *others[: count - len(surest)]]
    items, those = ([known.items[int(row)] for row in rows] for rows in (chosen, drawn))
    return make_overlays(model, items, layers, scored=those)


def overlay_numbers(overlays: Overlays) -> dict[str, Any]:
    """Return the deletion scores, in JSON's types."""
    return dict(
        images=len(overlays.images),
        scored=overlays.scored,
        layers=overlays.layers,
        deletion={
            stream: dict(
                says_something=score.says_something,
                **{
                    name: dict(gain=one.gain, low=one.interval.low, high=one.interval.high)
                    for name, one in score._asdict().items()
                },
            )
            for stream, score in overlays.scores.items()
        },
    )


def overlays_section(overlays: Overlays, classes: Sequence[str], labels: Mapping[str, str]) -> Section:
    """Show the overlays and their deletion scores.

    Args:
        overlays (Overlays): Of images of a model.
        classes (Sequence[str]): Names of the classes.
        labels (Mapping[str, str]): By path the class of an image.
    """
    streams = ' and '.join(overlays.layers)
    says = [
        f'Grad-CAM of the predicted class for {streams}. Yellow places support the class most, grey ones do not (in '
        'this layer, to first order). Each map is scaled to its own maximum. A map shows where, not why: it does not '
        'explain the answer.',
        *[_worth(stream, score, overlays.scored) for stream, score in overlays.scores.items()],
    ]
    if overlays.merging:
        says.append(
            'Token merging was switched off for the maps, so their features differ slightly from those of the '
            'predictions.'
        )
    rows = [[stream, overlays.layers[stream], _points(score.moved), _points(score.others)]
            for stream, score in overlays.scores.items()]  # fmt: skip
    tables = [Table(
        f'Deletion on {counted(overlays.scored, "image")} drawn at random: how much faster the probability of the '
        f'answer falls than with control maps (area between the curves, percentage points, 95 % interval)',
        ['stream', 'layer', 'control: the same maps, shifted', 'control: maps of other images'], rows)]  # fmt: skip
    groups = []
    for one in overlays.images:
        said, own = classes[one.label], labels.get(str(one.item.path), '')
        title = said if said == own or not own else f'{said}, true {own}'
        pictures = [dict(image=data_address(one.seen), alt=f'{one.item.path}: as the model sees it', caption='image')]
        for stream, picture in one.overlays.items():
            silent = ': nothing supports the class' if stream in one.silent else ''
            alt = f'{one.item.path}: map of {stream} for {said}{silent}'
            pictures.append(dict(image=data_address(picture), alt=alt, caption=f'{stream}{silent}'))
        groups.append(dict(title=f'Predicted {title}', pictures=pictures, large=len(pictures)))
    return Section('overlays', 'Where the answers come from', says, tables=tables, groups=groups)


def _points(score: DeletionGain) -> Optional[str]:
    if np.isnan(score.gain):
        return None
    ends = [f'{100 * end:.1f}' for end in score.interval]
    return f'{100 * score.gain:.1f}' + ('' if np.isnan(score.interval.low) else f' [{", ".join(ends)}]')


def _worth(stream: str, score: DeletionScore, count: int) -> str:
    """Interpret the deletion scores in a sentence."""
    if np.isnan(score.moved.interval.low):
        return (
            f'{stream}: {counted(count, "image")} {is_or_are(count)} too few to test the maps ({fewest_units()} at '
            'least).'
        )
    moved, others = (f'{_points(one)} points' for one in score)
    if score.says_something:
        return (
            f'{stream}: deleting what the maps mark lowers the probability of the answer more than deleting by the '
            f'same maps shifted at random ({moved}) and by maps of other images ({others}). The maps mark places that '
            'the answer depends on.'
        )
    if score.moved.interval.low > 0:
        return (
            f'{stream}: the maps do better than the same maps shifted at random ({moved}), but not clearly better than '
            f'maps of other images ({others}). They may only show where objects usually are, such as the middle. Do '
            'not interpret them for a single image.'
        )
    return (
        f'{stream}: deleting what the maps mark does not clearly lower the probability of the answer more than '
        f'deleting by the same maps shifted at random ({moved}). Do not interpret these maps.'
    )
