"""Charts are drawn of what a report holds."""

from PIL import Image

from hybridcls.apis.hub.report_figures import write_figures

BINS = dict(confidence=[0.5, 0.9], right=[0.6, 0.9], low=[0.4, 0.8], high=[0.8, 0.95], images=[20, 30])


def test_charts_of_what_is_there(tmp_path):
    report = dict(
        calibration=dict(before=BINS, after=None), risk_coverage=dict(coverage=[0.5, 1.0], risk=[0.0, 0.1]),
        robustness=[dict(kind=None, severity=0, accuracy=90.0), dict(kind='blur', severity=1, accuracy=80.0)],
    )  # fmt: skip
    captions = write_figures(report, tmp_path)
    assert [*captions] == ['figures/reliability_before.png', 'figures/risk_coverage.png', 'figures/robustness.png']
    for path in captions:
        assert Image.open(tmp_path / path).width > 400
    assert write_figures({}, tmp_path / 'none') == {}
