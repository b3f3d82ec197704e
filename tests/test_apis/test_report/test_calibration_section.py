"""The section shows the same axes twice."""

from hybridcls.apis.report.calibration_effect import CalibrationEffect
from hybridcls.apis.report.calibration_section import calibration_section

BINS = dict(confidence=[0.5], right=[0.6], low=[0.4], high=[0.8], images=[20])


def test_both_diagrams_and_the_difference_are_shown():
    number = dict(value=1.0, low=0.5, high=2.0)
    rows = [dict(key='calibration/nll', name='NLL', unit='nats', better='lower', before=number, after=number,
                 difference=dict(value=-0.5, low=-0.9, high=-0.1))]  # fmt: skip
    effect = CalibrationEffect('cross-validated', rows, BINS, BINS, [1.0, 1.2, 1.1], None, '', None, None, 0.05)
    section = calibration_section(effect, 'a.pth', 'd')
    assert len(section.charts) == 2
    assert section.tables[0].rows == [['NLL, nats (lower is better)', '1.000 [0.500, 2.000]', '1.000 [0.500, 2.000]',
                                       '-0.500 [-0.900, -0.100]']]  # fmt: skip
    assert section.says[-1].endswith('To calibrate the model: hybridcls calibrate a.pth --data d')
    (_, _, command, why) = calibration_section(effect, 'a.pth', None).says
    assert command.endswith('--data OTHER_IMAGES')
    assert 'Do not use images that you report on later' in why
    assert len(calibration_section(effect._replace(kind='none', after=None, why='no'), 'a', 'd').charts) == 1


def test_what_was_guaranteed_is_compared_with_what_came():
    wide, narrow = dict(value=0.26, low=0.21, high=0.32), dict(value=0.1, low=0.05, high=0.18)
    threshold = dict(risk=0.2, confidence=0.95, answered=wide, errors=narrow, images=30)
    biased = dict(value=1.2, low=1.3, high=7.9)
    rows = [dict(key='calibration/ece', name='ECE', unit='%', better='lower', before=biased, after=biased,
                 difference=dict(value=0.0, low=-1.0, high=1.0)),
            dict(key='calibration/nll', name='NLL', unit='nats', better='lower', before=biased, after=biased,
                 difference=dict(value=0.0, low=-1.0, high=1.0))]  # fmt: skip
    effect = CalibrationEffect('cross-validated', rows, BINS, BINS, [1.0, 1.2, 1.1], None, '', threshold,
                               dict(alpha=0.2, missed=wide, size=1.5), 0.2)  # fmt: skip
    section = calibration_section(effect, 'a.pth', 'd')
    assert [row[-1] for row in section.tables[1].rows] == ['', 'within the guarantee', 'more than guaranteed', '']
    assert 'The interval lies above the number' in section.says[-1]
