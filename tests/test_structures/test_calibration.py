"""A calibration is plain content, and says what it does."""

import json

import pytest

from hybridcls.structures import Calibration

PLAIN = dict(checkpoint='a.pth', weights_sha256='0', classes=['cat', 'dog'], scaling=dict(kind='none'), images=40)
FULL = Calibration(
    **{**PLAIN, 'scaling': dict(kind='temperature', temperature=1.5)},
    risk=dict(risk=0.05, confidence=0.9, threshold=0.75, answered=20, errors=1, images=30),
    sets=dict(alpha=0.1, threshold=0.2, images=30),
    img_size=[64, 48],
)


def test_it_is_read_as_it_was_written():
    assert Calibration.from_json(json.loads(json.dumps(FULL.to_json())), 'a.json') == FULL
    assert FULL.has_guarantee
    assert not Calibration(**PLAIN).has_guarantee


def test_it_says_what_it_does():
    assert str(FULL) == (
        "temperature 1.500, 'unknown' below 0.7500 (error at most 0.05 with confidence 0.9), sets of classes "
        '(including the right one with probability 0.9); from 40 images'
    )
    assert str(Calibration(**PLAIN)) == 'probabilities as the model says them; from 40 images'


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (dict(format='other'), 'expected a file of hybridcls calibrate, got a.json'),
        (dict(version=9), 'expected version 1, got 9 in a.json. Update hybridcls'),
    ],
)
def test_other_files_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Calibration.from_json({**FULL.to_json(), **change}, 'a.json')
    with pytest.raises(ValueError, match='expected a file of hybridcls calibrate'):
        Calibration.from_json([1, 2], 'a.json')


def test_a_damaged_file_is_a_sentence():
    content = FULL.to_json()
    del content['classes']
    with pytest.raises(ValueError, match=r"a.json is damaged .*'classes'"):
        Calibration.from_json(content, 'a.json')
