"""The cards."""

from types import SimpleNamespace

from hybridcls.apis.report.headline_section import headline_section


def test_cards_say_which_way_is_better():
    rows = [
        dict(name='Accuracy', value=75.0, low=19.41, high=99.4, unit='%', better='higher', what='w'),
        dict(name='NLL', value=0.51234, low=None, high=None, unit='nats', better='lower', what='w'),
    ]
    model = SimpleNamespace(calibration=SimpleNamespace(calibration='T = 2'))
    rows.append(dict(name='ECE', value=1.2, low=1.3, high=7.9, unit='%', better='lower', what='w'))
    section = headline_section(rows, model)
    assert section.says == ['Probabilities are calibrated: T = 2.']
    assert [card['value'] for card in section.cards] == ['75.0 %', '0.512 nats', '1.2 %']
    assert section.cards[0]['interval'] == '[19.4, 99.4], higher is better'
    assert section.cards[1]['interval'] == 'lower is better; no interval'
    assert [card['what'].partition(' lies above')[0] for card in section.cards] == ['w', 'w', 'w. The interval']
