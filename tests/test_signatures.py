"""signatures: arguments of constructors, through inheritance and **kwargs."""

import pytest
from torch import nn

from hybridcls.signatures import arguments_of, owners_of, takes_argument, takes_positional


class Base:
    def __init__(self, num_classes, *, bias=True):
        pass


class Passing(Base):
    def __init__(self, width, **kwargs):
        pass


class Silent(Passing):
    pass


class Using(Base):
    def __init__(self, **kwargs):
        self.width = kwargs.pop('width')
        super().__init__(**kwargs)


class UsingBelow(Using):
    def __init__(self, depth, **kwargs):
        super().__init__(**kwargs)


class Keeping(nn.Module):
    def __init__(self, width, **kwargs):
        super().__init__()
        self.kwargs = kwargs


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
        (Using, ['num_classes', 'bias'], False),
        (UsingBelow, ['depth', 'num_classes', 'bias'], False),
        (Keeping, ['width'], False),
        (nn.Identity, [], False),  # it takes anything, and does nothing with it
    ],
)
def test_arguments_of_constructors(kind, names, are_all):
    found, all_known = arguments_of(kind)
    assert ({*found} | {'self'}, all_known) == ({*names} | {'self'}, are_all)
    assert takes_argument(kind, 'bias') == ('bias' in names)


def test_owners_of_arguments():
    owners, _ = owners_of(UsingBelow)
    assert owners == dict(depth=UsingBelow, num_classes=Base, bias=Base)


def test_how_many_positional_arguments_a_function_takes():
    assert takes_positional(lambda a, b, c=0: None, 2)
    assert takes_positional(lambda *rows: None, 5)
    assert not takes_positional(lambda a, b, *, c: None, 2)  # one that has no default is left over
    assert takes_positional(Base(1).__init__, 1)  # bound
    assert not takes_positional(Base(1).__init__, 2)
