"""``hybridcls fidelity``: the table, JSON, exit codes."""

import dataclasses
import json

import numpy as np
import pytest
from command_runs import run_command

from hybridcls.apis.fidelity import cases


def test_a_table_of_what_is_named(capfd):
    assert run_command('fidelity', 'cbam', 'Lion', '--device', 'cpu') == 0
    out = capfd.readouterr().out
    assert 'Lion: Lion, arXiv 2302.06675' in out
    assert 'against google/automl 6a54c874 lion/lion_pytorch.py' in out
    assert '2 cases in float64 on cpu' in out
    assert '2 within the allowed deviation, 0 beyond it' in out


def test_json_and_float32(capfd):
    assert run_command('fidelity', 'ArcFace on angles', '--dtype', 'float32', '--device', 'cpu', '--json') == 0
    told = json.loads(capfd.readouterr().out)
    assert (told['device'], told['dtype'], told['ok']) == ('cpu', 'float32', True)
    (case,) = told['cases']
    assert 1e-12 < case['deviation'] < case['tolerance'] == 1e-4
    assert case['against'] == 'deepinsight/insightface 2e2e8c97 recognition/arcface_torch/losses.py'


@pytest.mark.parametrize('more', [[], ['--json']])
def test_a_number_too_far_off_is_one(more, capfd, monkeypatch):
    wrong = dataclasses.replace(cases.case_of('SumFusion'), expected=lambda: dict(embedding=np.zeros((2, 5))))
    monkeypatch.setattr(cases, 'CASES', [wrong])
    assert run_command('fidelity', '--device', 'cpu', *more) == 1
    out = capfd.readouterr().out
    assert json.loads(out)['ok'] is False if more else 'FAR ' in out


def test_the_list_runs_nothing(capfd):
    assert run_command('fidelity', 'CBAM', '--list') == 0
    assert 'deviates: ' in capfd.readouterr().out
    assert run_command('fidelity', 'margin', '--list', '--json') == 0
    told = json.loads(capfd.readouterr().out)
    assert {case['kind'] for case in told['cases']} == {'margin'}
    assert 'deviation' not in told['cases'][0]


def test_mistakes_are_two_and_one_sentence(capfd):
    assert run_command('fidelity', 'Lionn') == 2
    assert "got 'Lionn'. Did you mean 'Lion'" in capfd.readouterr().err
    assert run_command('fidelity', 'CBAM', '--device', 'cuda:99') == 2
    assert 'expected a device of this machine, got cuda:99' in capfd.readouterr().err
