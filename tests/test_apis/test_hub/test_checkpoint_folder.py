"""What is written of a checkpoint, and what cannot be."""

import json

import pytest
import torch
from safetensors.torch import load_file
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

from hybridcls.apis.hub.checkpoint_folder import files_in, write_checkpoint_folder
from hybridcls.apis.hub.pushing import push
from hybridcls.checkpoint_reading import read_checkpoint
from hybridcls.engine.checkpoints.find_checkpoint import find_checkpoint
from hybridcls.safetensors_folder import check_files


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp('work') / 'epoch_1.pth', config_of(CNN, LINEAR), epoch=3)[0]


def test_weights_and_meta(checkpoint, tmp_path):
    content = read_checkpoint(checkpoint)
    weights = content['state_dict']
    name = next(name for name, value in weights.items() if value.dim() == 4)
    weights[name] = weights[name].to(memory_format=torch.channels_last)
    weights['head.tied'] = next(iter(weights.values()))  # shares memory
    content |= dict(optimizer=dict(state={}), state_dict=weights)
    content['meta'] |= dict(hook_msgs=dict(x=1))
    torch.save(content, tmp_path / 'a.pth')
    (tmp_path / 'out').mkdir()
    sidecar = write_checkpoint_folder(find_checkpoint(tmp_path / 'a.pth'), tmp_path / 'out')
    written = load_file(tmp_path / 'out' / 'model.safetensors')
    assert written.keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in written.items())
    assert sidecar['meta']['cfg'] == content['meta']['cfg']
    assert sorted(sidecar['meta']) == ['cfg', 'dataset_meta', 'epoch', 'preprocessing_version']
    assert json.loads((tmp_path / 'out' / 'model.json').read_text()) == sidecar
    check_files(tmp_path / 'out', sidecar['files'])
    assert files_in(tmp_path / 'out').keys() == {'model.json', *sidecar['files']}
    modes = {path.stat().st_mode for path in (tmp_path / 'out').iterdir()}
    assert len(modes) == 1  # of safetensors too, which leaves its files to the owner


def test_weights_without_a_config_cannot_be_pushed(checkpoint, tmp_path):
    torch.save(read_checkpoint(checkpoint)['state_dict'], tmp_path / 'bare.pth')
    with pytest.raises(ValueError, match='expected the config of the training in the checkpoint'):
        push(tmp_path / 'bare.pth', str(tmp_path / 'pushed'))
    assert not (tmp_path / 'pushed').exists()


def test_what_is_no_tensor_cannot_be_pushed(checkpoint, tmp_path):
    content = read_checkpoint(checkpoint)
    content['state_dict']['head._extra_state'] = 'text'
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'expected tensors in .*, got others: head._extra_state'):
        push(tmp_path / 'a.pth', str(tmp_path / 'pushed'))
