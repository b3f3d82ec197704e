"""`hybridcls pull` as it is typed: programs that are not ours are named, and what is there is kept."""

import json

import pytest
from tiny_artifact import write_tiny_artifact

from hybridcls.cli.main import SUBCOMMANDS, parse_args
from hybridcls.safetensors_folder import digest_of_file

pytest.importorskip('onnx', reason='the extra export is not installed')


def pull(*arguments):
    return SUBCOMMANDS['pull'].run(parse_args(['pull', *map(str, arguments)]))


def test_an_artifact_and_programs_of_others(tmp_path, capfd):
    folder = write_tiny_artifact(tmp_path / 'artifact')
    (folder / 'runtime.py').write_text('print("mine")')
    (folder / 'notes.txt').write_text('not listed')
    sidecar = json.loads((folder / 'model.json').read_text())
    sidecar['files']['runtime.py'] = dict(sha256=digest_of_file(folder / 'runtime.py'), bytes=13)
    (folder / 'model.json').write_text(json.dumps(sidecar))
    assert pull(folder, '--out', tmp_path / 'out') == 0
    assert 'runtime.py differs from the one of hybridcls' in capfd.readouterr().err
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['model.json', 'model.onnx', 'runtime.py']
    with pytest.raises(FileExistsError):
        pull(folder, '--out', tmp_path / 'out')
    assert pull(folder, '--out', tmp_path / 'out', '--force') == 0
