"""The suspects on the page, as pictures by the pair of label and suggestion."""

from ..report.html_page import Section, Table
from ..report.thumbnails import thumbnail
from .label_suspects import Suspects
from .training_images import TrainingImages

__all__ = ['suspects_section']

_PICTURES = 96


def suspects_section(images: TrainingImages, suspects: Suspects, count: int) -> Section:
    """Show the first suspects."""
    says = [
        *images.notes,
        f'About {suspects.expected:.0f} of {len(images)} labels are wrong, as far as the training can tell. '
        f'{suspects.listed} images are suspects.',
    ]
    shown = suspects.order[:count]
    pictures = []
    for row in shown[:_PICTURES]:
        text = f'{images.classes[images.labels[row]]}, rather {images.classes[suspects.suggested[row]]}?'
        pictures.append(dict(image=thumbnail(images.items[row]), alt=f'{images.items[row].path}: {text}', caption=text))
    names = images.names()
    head = ['image', 'label', 'suggested', 'score', *suspects.signals]
    rows = [
        [names[row], images.classes[images.labels[row]], images.classes[suspects.suggested[row]],
         f'{suspects.score[row]:.3f}', *(f'{values[row]:.3f}' for values in suspects.signals.values())]
        for row in shown
    ]  # fmt: skip
    table = Table('Suspects', head, rows, set(range(3, len(head))))
    groups = [dict(title='The most suspect first', pictures=pictures)] if pictures else []
    return Section('suspects', 'Labels that look wrong', says, tables=[table] if rows else [], groups=groups)
