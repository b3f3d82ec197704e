"""Names of classes that nearly equal each other, and names that only look so."""

import pytest

from hybridcls.apis.doctor.classes import alike_names


@pytest.mark.parametrize(
    ('names', 'sure'),
    [
        (['Cat', 'cat'], True),
        (['cat', 'cats'], True),
        (['red car', 'red_car'], True),
        (['café', 'cafe'], True),
        (['labrador', 'labardor'], False),
        (['golden_retriever', 'golden_retreiver'], False),
    ],
)
def test_one_class_in_two_spellings(names, sure):
    assert alike_names(['zebra', *names, 'aardvark']) == [(names, sure)]


@pytest.mark.parametrize(
    'names',
    [
        ['cat', 'rat', 'bat'],
        ['n02085620', 'n02085782'],
        ['class 1', 'class 11', 'class 2'],
        ['male', 'female'],
        ['glass', 'gla'],
        ['mass', 'mas'],
        ['t-shirt', 'shirt', 'shorts', 'skirt'],
        ['left_turn', 'right_turn'],
    ],
)
def test_classes_of_their_own(names):
    assert alike_names(names) == []
