"""What is said of corrupted images."""

from hybridcls.apis.report.robustness_section import robustness_section


def row(kind, severity, accuracy, **more):
    ends = dict(accuracy_low=accuracy - severity, accuracy_high=accuracy + 2)
    return dict(kind=kind, severity=severity, accuracy=accuracy, **ends, ece=1.0, confidence=50.0, **more)


def test_the_worst_corruption_is_named():
    rows = [
        row(None, 0, 90.0),
        row('blur', 1, 80.0),
        row('blur', 2, 60.0),
        row('noise', 1, 50.0),
        row('noise', 2, 70.0),
    ]
    section = robustness_section(rows)
    assert 'is 90.0 % [90.0, 92.0] on the images as they are.' in section.says[0]
    assert 'The accuracy is lowest with noise: 60.0 % [58.5, 62.0], averaged' in section.says[0]
    assert 'hybridcls calibrate --risk' in section.says[1]
    assert len(section.charts) == 2


def test_no_loss_is_claimed_where_there_is_none():
    said = robustness_section([row(None, 0, 32.7), row('blur', 1, 33.3)]).says[0]
    assert 'No corruption lowers it; it is lowest with blur: 33.3 %' in said
    assert 'loses' not in said


def test_with_a_threshold_abstention_is_shown():
    rows = [row(None, 0, 90.0, unanswered=5.0, error=2.0), row('blur', 1, 80.0, unanswered=10.0, error=None)]
    section = robustness_section(rows)
    assert len(section.says) == 2
    worse = robustness_section([*rows, row('blur', 2, 60.0, unanswered=12.0, error=34.0)])
    assert worse.says[2].startswith('The highest error rate is 34.0 % (blur, severity 2), where 12.0 %')
    assert len(section.charts) == 4
    assert section.tables[0].rows[1][-2:] == ['10.0', '-']
