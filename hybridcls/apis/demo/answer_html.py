"""Render a prediction as HTML; all text is escaped, and images are inlined, so nothing is fetched."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import PurePath
from typing import Optional

import numpy as np
from PIL import Image

from .shown_answer import ShownAnswer, percent

__all__ = ['CSS', 'Thumbnail', 'answer_html', 'data_uri', 'images_html', 'message_html']

# Colours are gradio's own, which follow its light and dark mode.
CSS = """
.hc { font-size: 15px; line-height: 1.45; overflow-wrap: anywhere; --soft: #57606a; }
.dark .hc { --soft: #a3aebd; }
.hc h2 { font-size: 1.7em; line-height: 1.2; margin: 0 0 .3em; display: -webkit-box; -webkit-line-clamp: 4;
  -webkit-box-orient: vertical; overflow: hidden; color: var(--body-text-color); }
.hc h2.unknown { color: #b45309; } .dark .hc h2.unknown { color: #fbbf24; }
.hc h3 { font-size: .85em; letter-spacing: .03em; margin: 1.4em 0 .4em; color: var(--soft); }
.hc p { margin: 0 0 .5em; color: var(--body-text-color); }
.hc .row { display: grid; grid-template-columns: minmax(0, 1fr) auto; column-gap: .8em; margin: .35em 0; }
.hc .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.hc .chosen .name { font-weight: 650; }
.hc .value { font-variant-numeric: tabular-nums; }
.hc .bar { grid-column: 1 / -1; height: 7px; border-radius: 4px; background: var(--border-color-primary); }
.hc .bar i { display: block; height: 100%; min-width: 1px; border-radius: 4px; background: #64748b; }
.hc .chosen .bar i { background: #2563eb; } .dark .hc .chosen .bar i { background: #60a5fa; }
.hc .subdued { color: var(--soft); font-size: .92em; }
.hc .tags { display: flex; flex-wrap: wrap; gap: .35em; }
.hc .tag { border: 1px solid var(--border-color-primary); border-radius: 1em; padding: .1em .7em; max-width: 100%;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.hc .images { display: grid; grid-template-columns: repeat(auto-fill, minmax(68px, 1fr)); gap: .7em; }
.hc.seen { display: flex; flex-wrap: wrap; gap: .8em; align-items: flex-start; }
.hc figure { margin: 0; min-width: 0; }
.hc.seen figure { max-width: 150px; } .hc.seen figcaption { white-space: normal; }
.hc figure img { display: block; max-width: 100%; border-radius: 6px; border: 1px solid var(--border-color-primary); }
.hc .images img, .hc .images .gone { width: 100%; aspect-ratio: 1; object-fit: contain;
  background: var(--background-fill-secondary); }
.hc.seen img { max-height: 150px; } .hc.seen .pixels { image-rendering: pixelated; height: 150px; width: auto; }
.hc .gone { display: grid; place-items: center; border-radius: 6px; border: 1px solid var(--border-color-primary); }
.hc figcaption { font-size: .85em; margin-top: .25em; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  color: var(--soft); }
"""
_MOST_IN_SET = 40


class Thumbnail:
    """The thumbnail of a neighbour, with its caption.

    Args:
        label (str): Its class; ``''``: not known.
        similarity (float): Cosine similarity.
        place (str): Its file; only the name is shown.
        image (str, optional): As a data URI; None if it cannot be read.
    """

    def __init__(self, label: str, similarity: float, place: str, image: Optional[str]) -> None:
        self.label, self.similarity, self.name, self.image = label, similarity, PurePath(place).name, image


def data_uri(image: np.ndarray, most: Optional[int] = None) -> str:
    """Encode an image, uint8 (H, W, 3) RGB, as a data URI: a PNG, or a JPEG of at most ``most`` pixels an edge."""
    picture, buffer = Image.fromarray(image), io.BytesIO()
    if most is None:
        picture.save(buffer, 'PNG')
        return f'data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'
    picture.thumbnail((most, most))
    picture.save(buffer, 'JPEG', quality=88)
    return f'data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}'


def message_html(text: str) -> str:
    """Render a message instead of a prediction."""
    return f'<div class="hc" role="status"><p>{escape(text)}</p></div>'


def answer_html(
    shown: ShownAnswer,
    neighbours: Optional[Sequence[Thumbnail]] = None,
) -> str:
    """Render a prediction as HTML.

    Args:
        shown (ShownAnswer): The answer.
        neighbours (Sequence[Thumbnail], optional): The images that are most similar. None: there is no index.
    """
    parts = [f'<h2{" class=unknown" if shown.is_unknown else ""} dir=auto>{escape(shown.title)}</h2>']
    parts += [f'<p>{_sentence(shown.why)}</p>', *_of_answer(shown)]
    for name, head in shown.heads:
        parts += [f'<h3>Head {escape(name)}: {escape(head.title)}</h3>', *_of_answer(head, with_titles=False)]
    if neighbours is not None:
        parts += [
            '<h3>Most similar images of the index</h3>',
            '<div class=images>',
            *map(_figure, neighbours),
            '</div>',
        ]
    return f'<div class="hc" role="status">{"".join(parts)}</div>'


def _of_answer(shown: ShownAnswer, with_titles: bool = True) -> Iterable[str]:
    if shown.classes:
        if with_titles:
            yield '<h3>Classes</h3>'
        for name, score, is_chosen in shown.classes:
            named = escape(name)
            yield (
                f'<div class="row{" chosen" if is_chosen else ""}"><span class=name dir=auto title="{named}">{named}'
                f'</span><span class=value>{escape(percent(score))}</span><div class=bar><i style="width:'
                f'{100 * score:.1f}%"></i></div></div>'
            )
    if shown.others is not None:
        count, share = shown.others
        word, most = 'class' if count == 1 else 'classes', ' at most' * shown.others_are_most
        yield f'<p class=subdued>{count:,} other {word}: {escape(percent(share))}{most}</p>'
    if shown.prediction_set is not None:
        yield '<h3>Prediction set</h3><div class=tags>'
        yield from (
            f'<span class=tag dir=auto title="{escape(name)}">{escape(name)}</span>'
            for name in shown.prediction_set[:_MOST_IN_SET]
        )
        if len(shown.prediction_set) > _MOST_IN_SET:
            yield f'<span class=tag>and {len(shown.prediction_set) - _MOST_IN_SET:,} more</span>'
        yield f'</div><p class=subdued style="margin-top:.5em">{_sentence(shown.set_why)}</p>'
    if shown.uncertainties:
        if with_titles:
            yield '<h3>Uncertainty</h3>'
        for name, value, meaning in shown.uncertainties:
            yield (
                f'<div class=row><span>{escape(name)} <span class=subdued>{escape(meaning)}</span></span>'
                f'<span class=value>{value:.3g}</span></div>'
            )


def images_html(read: Optional[np.ndarray], seen: Optional[np.ndarray]) -> str:
    """Render the image as it was read and as the network sees it, each uint8 (H, W, 3) RGB or None."""
    return f'<div class="hc seen">{"".join(_images(read, seen))}</div>'


def _images(read: Optional[np.ndarray], seen: Optional[np.ndarray]) -> Iterable[str]:
    if read is not None:
        height, width = read.shape[:2]
        yield f'<figure><img alt="The image as it was read" src="{data_uri(read, 480)}">'
        yield f'<figcaption>as read, {width:,} × {height:,}</figcaption></figure>'
    if seen is not None:
        height, width = seen.shape[:2]
        yield f'<figure><img class=pixels alt="The image as the network sees it" src="{data_uri(seen)}">'
        yield f'<figcaption>as the network sees it, {width:,} × {height:,}</figcaption></figure>'


def _sentence(text: str) -> str:
    return escape(text).replace(' %', '\u00a0%')  # a number and its sign stay on one line


def _figure(one: Thumbnail) -> str:
    title = escape(f'{one.label or "no class"}, {one.name}, similarity {one.similarity:.4f}')
    image = '<div class=gone>not found</div>' if one.image is None else f'<img alt="{title}" src="{one.image}">'
    return (
        f'<figure title="{title}">{image}<figcaption>{one.similarity:.3f} {escape(one.label or one.name)}</figcaption>'
        '</figure>'
    )
