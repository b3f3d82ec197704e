"""The cards."""

from types import SimpleNamespace

from hybridcls.apis.report.headline_section import headline_section


def test_cards_say_which_way_is_better():
    rows = [
        dict(name='Accuracy', value=75.0, low=19.41, high=99.4, unit='%', better='higher', what='w'),
        dict(name='NLL', value=0.51234, low=None, high=None, unit='nats', better='lower', what='w'),
    ]
    model = SimpleNamespace(calibration=SimpleNamespace(calibration='T = 2'))
    section = headline_section(rows, ['A note.'], model)
    assert section.says == ['A note.', 'Probabilities are calibrated: T = 2.']
    assert [card['value'] for card in section.cards] == ['75.0 %', '0.512 nats']
    assert section.cards[0]['interval'] == '[19.4, 99.4], higher is better'
    assert section.cards[1]['interval'] == 'lower is better; no interval'


def test_what_a_threshold_does_is_among_the_first_numbers():
    share = dict(value=0.5, low=0.25, high=0.75)
    threshold = dict(answered=share, errors=dict(value=0.125, low=0, high=0.5), images=8)
    model = SimpleNamespace(calibration=SimpleNamespace(calibration='T = 2'))
    said = 'With its threshold 50.0 % [25.0, 75.0] of these images are answered'
    wrong = ', and 12.5 % [0.0, 50.0] of these answers are wrong.'
    assert headline_section([], [], model, threshold).says[1:] == [said + wrong]
    assert headline_section([], [], model, {**threshold, 'images': 0}).says[1:] == [said + '.']
