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
    assert section.says[-1].endswith('To apply it: hybridcls calibrate a.pth --data d')
    (_, _, command, why) = calibration_section(effect, 'a.pth', None).says
    assert command.endswith('--data OTHER_IMAGES')
    assert 'keep some out of it' in why
    assert len(calibration_section(effect._replace(kind='none', after=None, why='no'), 'a', 'd').charts) == 1
