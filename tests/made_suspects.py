"""Three images and what an audit says of them, made by hand."""

import numpy as np

from hybridcls.apis.audit.audited_images import TrainingImages
from hybridcls.apis.audit.label_suspects import Suspects
from hybridcls.apis.image_inputs import Item

CLASSES = ('ant, red', '<script>', '日本')


def made(listed=2):
    """Three images, of which the second is most suspect."""
    items = [Item(f'/root/{name}', f'/root/{name}') for name in ('a.png', 'b, c.png', 'é.png')]
    images = TrainingImages(items, np.array([0, 1, 2]), CLASSES, '/root', None, ['A note.'])
    suspects = Suspects(
        order=np.array([1, 2, 0]), score=np.array([0.1, 0.9, 0.6]), probability=np.array([0, 1, 0.5]),
        suggested=np.array([1, 2, 0]), margins=dict(training=np.array([0.9, -0.8, np.nan])),
        signals=dict(loss=np.array([0.1, 3, 1])), expected=1.7, listed=listed, contradicted=0.67,
        strictness=1.0, listed_unstrictly=5,
    )  # fmt: skip
    return images, suspects
