"""The section with the map of the embeddings."""

from collections.abc import Sequence
from typing import Any, Optional

from hybridcls.checks import counted

from .embedding_map import embedding_places, spread_places
from .evaluated_images import EvaluatedImages
from .html_page import Section, isolated
from .thumbnails import thumbnail

__all__ = ['map_section']


def map_section(known: EvaluatedImages, classes: Sequence[str]) -> Optional[Section]:
    """Show the images as dots and some as thumbnails; None without embeddings."""
    found = embedding_places(known)
    if found is None:
        return None
    chosen, places = found
    wrong = known.wrong

    def at(place: int) -> dict[str, Any]:
        row = int(chosen[place])
        x, y = (4 + 92 * places[place]).round(2)
        title = f'{known.items[row].path}: {isolated(known.class_text(row, classes))}'
        return dict(x=float(x), y=float(y), wrong=bool(wrong[row]), title=title)

    pictures = []
    for place in spread_places(places):
        image = thumbnail(known.items[int(chosen[place])], 40)
        if image is not None:
            pictures.append(dict(at(int(place)), image=image))
    say = (
        f't-SNE of the embeddings of {counted(len(chosen), "image", of=len(known))}. Images that are near each other '
        'have similar embeddings. The distance between groups has no meaning. Orange squares: wrong answers.'
    )
    alt = f'Map of {counted(len(chosen), "image")} by their embeddings'
    dots = [at(place) for place in range(len(chosen))]
    return Section('map', 'Map of the embeddings', [say], map=dict(alt=alt, dots=dots, pictures=pictures))
