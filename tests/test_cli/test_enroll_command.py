"""The subcommand: its options are those of the shipped file, its object, its exit codes."""

import argparse
import json

import pytest

from hybridcls.cli import enroll as command

pytest.importorskip('onnx', reason="needs onnx and onnxruntime: pip install 'hybridcls[export]'")
pytest.importorskip('onnxruntime')

from color_artifact import color_artifact, paint_folder


def options_of(add_arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return {
        action.dest: (action.option_strings, action.nargs, action.default, action.type) for action in parser._actions
    }


def test_the_options_are_those_of_the_shipped_file():
    """But for what the command alone asks: the shipped file runs in a folder whose programs its user starts anyway."""
    from hybridcls.apis.artifact.shipped import enroll as shipped

    own = options_of(command.add_arguments)
    assert own.pop('trust_checkpoint')
    assert own == options_of(shipped.add_arguments)


def test_enroll_list_and_remove(tmp_path, capsys):
    from hybridcls.cli.main import parse_args

    folder = str(color_artifact(tmp_path / 'art'))
    paint_folder(tmp_path / 'blue', (0.1, 0.1, 0.9), 4)
    arguments = ['enroll', folder, f'blue={tmp_path}/blue', '--json']
    assert command.run(parse_args(arguments)) == 0
    said = json.loads(capsys.readouterr().out)
    assert said['command'] == 'enroll'
    assert [(one['name'], one['images']) for one in said['enrolled']['classes']] == [('blue', 4)]
    (tmp_path / 'blue/bad.png').write_bytes(b'')
    assert command.run(parse_args([*arguments, '--force'])) == 1
    assert json.loads(capsys.readouterr().out)['unreadable'][0]['path'].endswith('bad.png')
    assert command.run(parse_args(['enroll', folder, '--list'])) == 0
    assert capsys.readouterr().out == 'blue: 4 images\n'
    assert command.run(parse_args(['enroll', folder, '--remove', 'blue'])) == 0
    assert 'blue: removed from' in capsys.readouterr().err
