"""What constructors take, by their signatures."""

import pytest
from torch import nn

from hybridcls.signatures import arguments_of, takes_argument


class Base:
    def __init__(self, num_classes, *, bias=True):
        pass


class Passing(Base):
    def __init__(self, width, **kwargs):
        pass


class Silent(Passing):
    pass


class Closed(Passing):
    def __init__(self, depth):
        pass


def function(x, **kwargs):
    pass


@pytest.mark.parametrize(
    ('kind', 'names', 'are_all'),
    [
        (Base, ['self', 'num_classes', 'bias'], True),
        (Passing, ['width', 'num_classes', 'bias'], True),
        (Silent, ['width', 'num_classes', 'bias'], True),
        (Closed, ['depth'], True),
        (function, ['x'], False),
        (nn.Identity, [], True),
    ],
)
def test_arguments(kind, names, are_all):
    found, all_known = arguments_of(kind)
    assert ({*found} | {'self'}, all_known) == ({*names} | {'self'}, are_all)
    assert takes_argument(kind, 'bias') == ('bias' in names)
