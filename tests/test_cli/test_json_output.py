"""One object on stdout, whatever else is written."""

import json
import subprocess
import sys

from hybridcls.cli.json_output import print_json, stdout_for_json, tell

CODE = """
import os, subprocess, sys
from hybridcls.cli.json_output import print_json, stdout_for_json
with stdout_for_json({asked}):
    print('by print')
    os.write(1, b'by the descriptor\\n')
    subprocess.run(['echo', 'by a child'])
print_json(dict(a=1))
print('imported' if 'torch' in sys.modules else 'light', file=sys.stderr)
"""


def run(asked):
    return subprocess.run([sys.executable, '-c', CODE.format(asked=asked)], capture_output=True, text=True)


def test_all_else_goes_to_stderr():
    done = run(True)
    assert json.loads(done.stdout) == dict(a=1)
    for text in ('by print', 'by the descriptor', 'by a child', 'light'):
        assert text in done.stderr


def test_without_it_nothing_is_moved(capfd):
    with stdout_for_json(False):
        print('here')
    assert capfd.readouterr().out == 'here\n'


def test_numbers_that_json_does_not_know(capsys):
    print_json(dict(nan=float('nan'), inside=[float('inf'), 1.5]))
    assert json.loads(capsys.readouterr().out) == dict(nan=None, inside=[None, 1.5])


def test_the_first_process_speaks(capsys, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    tell('text')
    print_json({})
    assert capsys.readouterr().out == ''
