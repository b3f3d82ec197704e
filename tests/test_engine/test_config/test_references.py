"""The line of a value in a config file."""

import pytest

from hybridcls.engine.config.references import line_of

TEXT = """_base_ = 'base.py'
views = [dict(type='A', sizes=(1, 2)),
         dict(type='B')]
loader = dict(
    dataset=dict(
        pipeline=views,
        **extra),
    size=3)
model = {'head': {
    'scale': 2},
    'neck': make()}
model['head']['margin'] = 4
scale: float = 5
again = loader
size = '{{_base_.size}}'
size = 6
lists = [[1,
          2],
         [3]]
"""


@pytest.mark.parametrize(
    ('path', 'line'),
    [
        ('views', 2),
        ('views.1', 3),
        ('views.1.type', 3),
        ('views.0.sizes.1', 2),
        ('loader.size', 8),
        ('loader.dataset.pipeline', 2),
        ('loader.dataset.pipeline.1.type', 3),
        ('loader.dataset.unknown', 5),
        ('model.head.scale', 10),
        ('model.head.margin', 12),
        ('model.neck.width', 11),
        ('scale', 13),
        ('again.dataset.pipeline.1.type', 3),
        ('size', 16),
        ('lists.0.1', 18),
        ('lists.1.0', 19),
        ('nothing', 0),
    ],
)
def test_line(path, line):
    keys = tuple(int(key) if key.isdigit() else key for key in path.split('.'))
    assert line_of(TEXT, keys) == line


def test_the_first_place_that_is_written_out_counts():
    text = 'loader = dict(num_workers=2)\nviews = [\n    dict(size=1)]\n'
    assert line_of(text, ('loader', 'pipeline', 0, 'size'), ('views', 0, 'size')) == 3
    assert line_of(text, ('loader', 'pipeline', 0, 'size'), ('other', 0, 'size')) == 1
    assert line_of(text, ('loader', 'num_workers'), ('views', 0, 'size')) == 1


def test_names_that_mean_each_other_end():
    assert line_of('a = b\nb = a\n', ('a', 'x')) in (1, 2)
