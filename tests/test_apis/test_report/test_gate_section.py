"""Shares of the streams as a table."""

import numpy as np
from answered_images import answered

from hybridcls.apis.report.gate import GateReadings
from hybridcls.apis.report.gate_section import gate_section


def test_shares_and_accuracies_by_hand():
    gates = GateReadings(['cnn', 'vit'])
    gates.shares = np.array([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]])
    gates.alone = dict(cnn=np.array([0, 0, 1]), vit=np.array([1, 1, 1]))
    section = gate_section(gates, answered([0, 0, 1], [0, 1, 1]), ['a', 'b'])
    assert 'On average 50.0 %' in section.says[0]
    assert [row[1] for row in section.tables[0].rows] == ['66.7', '100.0', '33.3']
    assert section.tables[1].rows == [['a', 2, '30.0'], ['b', 1, '90.0']]
