"""A calibration is named, left off, or that beside the checkpoint."""

from argparse import ArgumentParser

import pytest

from hybridcls.cli.calibration_options import add_calibration_options


def test_three_ways():
    parser = ArgumentParser()
    add_calibration_options(parser)
    assert parser.parse_args([]).calibration is None
    assert parser.parse_args(['--no-calibration']).calibration is False
    assert parser.parse_args(['--calibration', 'a.json']).calibration == 'a.json'
    with pytest.raises(SystemExit):
        parser.parse_args(['--calibration', 'a.json', '--no-calibration'])
