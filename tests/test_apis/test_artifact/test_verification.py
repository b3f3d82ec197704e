"""An artifact beside the checkpoint that it was exported from, by `hybridcls verify`."""

import json
import shutil

import numpy as np
import pytest
from command_runs import run_command
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

from hybridcls.apis.artifact import export
from hybridcls.apis.artifact.shipped.graph_check import check_other
from hybridcls.apis.artifact.shipped.verify import read_golden


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """A checkpoint with LoRA, another one without that it does not equal, and the artifact of the first."""
    pytest.importorskip('peft', reason="needs PEFT: pip install 'hybridcls[lora]'")
    pytest.importorskip('onnxscript', reason="needs ONNX: pip install 'hybridcls[export]'")
    folder = tmp_path_factory.mktemp('exported')
    backbone = dict(type='HybridBackbone', vit=dict(model_name='test_vit'), img_size=64, lora_rank=2)
    checkpoint, _ = write_checkpoint(folder / 'lora.pth', config_of(backbone, LINEAR))
    other, _ = write_checkpoint(folder / 'other.pth', config_of(CNN, LINEAR))
    export(checkpoint, folder / 'A')
    return checkpoint, other, folder / 'A'


def test_an_export_is_right(exported, capsys):
    checkpoint, _, folder = exported
    code = run_command('verify', folder, '--checkpoint', checkpoint, '--json', '--device', 'cpu')
    said = json.loads(capsys.readouterr().out)
    assert (code, said['ok'], said['findings'], said['command']) == (0, True, [], 'verify')
    assert len(said['passed']) == 4


def test_another_checkpoint_is_named(exported, capsys):
    _, other, folder = exported
    assert run_command('verify', folder, '--checkpoint', other, '--device', 'cpu') == 1
    assert 'MISMATCH  checkpoint: ' in capsys.readouterr().out


def test_an_adapter_that_is_not_merged_is_named(exported, tmp_path):
    """The same graph with the weights that the adapters were made for: what it answers is stored."""
    *_, folder = exported
    sidecar = json.loads((folder / 'model.json').read_text())
    _goldens, stages = read_golden(str(folder), sidecar)
    names = [name for name in stages if name.startswith('mistake/adapter/')]
    assert 'mistake/adapter/logits' in names
    assert np.abs(stages['mistake/adapter/logits'] - stages['logits']).max() > 1e-2
    # Seen from stages in which the two are exchanged, the artifact's own graph is the one without adapters
    exchanged = stages | {name.split('/')[-1]: stages[name] for name in names}
    exchanged |= {name: stages[name.split('/')[-1]] for name in names}
    found = list(check_other(str(folder / 'model.onnx'), exchanged, sidecar, None, []))
    assert [one.name for one in found] == ['adapter']


def test_a_users_error_is_a_sentence(exported, tmp_path, capsys):
    *_, folder = exported
    for options in ([tmp_path / 'nowhere'], [tmp_path], [folder, '--checkpoint', 'nowhere.pth']):
        assert run_command('verify', *options) == 2
    copy = shutil.copytree(folder, tmp_path / 'A')
    (copy / 'golden' / 'grey.jpg').unlink()
    assert run_command('verify', copy) == 1
    assert 'golden/grey.jpg is missing' in capsys.readouterr().out
