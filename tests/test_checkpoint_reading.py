"""Checkpoint reading: every container of weights, refused code with its message, and trust."""

import argparse
import os
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint
from safetensors.torch import save_file
from torch import nn

from hybridcls import checkpoint_reading
from hybridcls.checkpoint_reading import (
    WEIGHT_KEYS,
    CheckpointError,
    read_checkpoint,
    read_weights,
    trust_checkpoints,
    weights_of,
)

OLD = 'max_softmax'  # the old spelling of a score
WEIGHTS = dict(weight=torch.ones(2, 2), bias=torch.zeros(2))


class Touch:
    """Pickles as a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


class Net(nn.Linear):
    """A class of a user's project."""


@pytest.fixture
def trusting():
    trust_checkpoints()
    yield
    trust_checkpoints(False)


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('prefix', ['', 'module.', '_orig_mod.module.'])
@pytest.mark.parametrize('key', [*WEIGHT_KEYS, None])
def test_every_container_is_read(tmp_path, key, prefix, zipped):
    weights = {prefix + name: value for name, value in WEIGHTS.items()}
    content = weights if key is None else {key: weights, 'epoch': 3, 'args': argparse.Namespace(lr=np.float64(0.1))}
    torch.save(content, tmp_path / 'm.pth', _use_new_zipfile_serialization=zipped)
    torch.testing.assert_close(dict(read_weights(tmp_path / 'm.pth')), WEIGHTS)
    model = nn.Linear(2, 2)  # mmengine's own way in, which looks below state_dict alone
    load_checkpoint(model, str(tmp_path / 'm.pth'), strict=True)
    torch.testing.assert_close(dict(model.state_dict()), WEIGHTS)


def test_safetensors(tmp_path):
    save_file(WEIGHTS, tmp_path / 'm.safetensors')
    torch.testing.assert_close(dict(read_weights(tmp_path / 'm.safetensors')), WEIGHTS)


def test_timm_ema_weights_are_preferred_and_logged(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(checkpoint_reading, 'print_log', lambda text, *_: lines.append(text))
    other = {name: value + 1 for name, value in WEIGHTS.items()}
    torch.save(dict(state_dict=other, state_dict_ema=WEIGHTS), tmp_path / 'm.pth')
    torch.testing.assert_close(dict(read_weights(tmp_path / 'm.pth')), WEIGHTS)
    assert 'weights below state_dict_ema and state_dict; those of state_dict_ema are taken' in lines[0]


def test_dict_of_settings_is_not_weights():
    found = weights_of(dict(state_dict=dict(note='see net'), net=WEIGHTS, model=dict(type='Net', width=3)))
    torch.testing.assert_close(dict(found), WEIGHTS)
    nested = weights_of(dict(model=dict(state_dict=WEIGHTS, name='Net')))
    torch.testing.assert_close(dict(nested), WEIGHTS)


def test_module_versions_are_kept():
    weights = OrderedDict(module_weight=torch.ones(1))
    weights._metadata = {'': {'version': 1}}
    assert weights_of(dict(model=weights))._metadata == weights._metadata


@pytest.mark.parametrize('zipped', [True, False])
def test_code_is_named_and_not_run(tmp_path, zipped, monkeypatch):
    lines = []
    monkeypatch.setattr(checkpoint_reading, 'print_log', lambda text, *_: lines.append(text))
    content = dict(state_dict=WEIGHTS, meta=Touch(tmp_path / 'canary'))
    torch.save(content, tmp_path / 'm.pth', _use_new_zipfile_serialization=zipped)
    assert dict(read_weights(tmp_path / 'm.pth')).keys() == WEIGHTS.keys()
    assert not (tmp_path / 'canary').exists()
    assert 'not built, since that may run code of the file: objects of posix.system' in lines[0]
    assert '--trust-checkpoint' in lines[0]


@pytest.mark.parametrize(
    'content',
    [
        Net(2, 2),
        dict(model=Net(2, 2)),
        dict(state_dict=dict(weight=Touch('canary'))),
        dict(state_dict={}, meta=Touch('canary')),
    ],
)
def test_weights_built_by_code_are_refused_with_the_flag(tmp_path, content):
    torch.save(content, tmp_path / 'm.pth')
    with pytest.raises(CheckpointError, match=r'm\.pth: expected .* got an object of .*--trust-checkpoint: then'):
        read_weights(tmp_path / 'm.pth')


def test_torchscript_is_refused_with_the_flag(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / 'm.pth')
    with pytest.raises(CheckpointError, match=r'got a TorchScript program.*--trust-checkpoint'):
        read_checkpoint(tmp_path / 'm.pth')


def test_trusted_checkpoint_runs_code(tmp_path, trusting):
    net = Net(2, 2)
    torch.save(dict(model=net, meta=Touch(tmp_path / 'canary')), tmp_path / 'm.pth')
    torch.testing.assert_close(read_weights(tmp_path / 'm.pth')['weight'], net.weight.detach())
    assert (tmp_path / 'canary').exists()
    torch.save(net, tmp_path / 'm.pth')
    torch.testing.assert_close(read_weights(tmp_path / 'm.pth')['weight'], net.weight.detach())


def test_trusted_code_that_cannot_be_imported(tmp_path, trusting):
    torch.save(dict(state_dict=WEIGHTS, meta=Touch('x')), tmp_path / 'm.pth')
    data = (tmp_path / 'm.pth').read_bytes().replace(b'cposix\nsystem', b'cposix\nsystek')
    (tmp_path / 'm.pth').write_bytes(data)
    with pytest.raises(CheckpointError, match=r'the code that it names is not here .*systek'):
        read_checkpoint(tmp_path / 'm.pth')


@pytest.mark.parametrize('zipped', [True, False])
def test_damaged_files_are_reported(tmp_path, zipped):
    torch.save(dict(state_dict=dict(w=torch.ones(9999))), tmp_path / 'm.pth', _use_new_zipfile_serialization=zipped)
    data = (tmp_path / 'm.pth').read_bytes()
    for part in (data[:30], data[: len(data) // 2], b'no checkpoint', b''):
        (tmp_path / 'm.pth').write_bytes(part)
        with pytest.raises(CheckpointError, match=r'm\.pth: expected a checkpoint, got a file that is damaged or none'):
            read_checkpoint(tmp_path / 'm.pth')
    torch.save([1], tmp_path / 'm.pth')
    with pytest.raises(CheckpointError, match='expected a dict, got a list'):
        read_checkpoint(tmp_path / 'm.pth')
    with pytest.raises(FileNotFoundError, match=r'none\.pth'):
        read_checkpoint(tmp_path / 'none.pth')


def test_all_schemes_of_mmengine_use_the_reader(tmp_path, monkeypatch):
    """mmengine's fall back to running the code of the file."""
    loaders = set(CheckpointLoader._schemes.values())
    assert {loader.__module__ for loader in loaders} == {'hybridcls.checkpoint_reading'}
    torch.save(dict(state_dict=WEIGHTS, meta=Touch(tmp_path / 'canary')), tmp_path / 'm.pth')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    fetched = []

    def fetch(address, target):
        fetched.append(address)
        os.link(tmp_path / 'm.pth', target)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', fetch)
    for _ in range(2):  # the second time it is there
        read = read_checkpoint('https://example.org/a/m.pth')
    torch.testing.assert_close(dict(read['state_dict']), WEIGHTS)
    assert fetched == ['https://example.org/a/m.pth']
    assert not (tmp_path / 'canary').exists()


def test_results_that_a_run_of_0_1_remembers_have_their_names_of_today(tmp_path):
    history = HistoryBuffer([0.5], [1])
    hub = dict(
        log_scalars=OrderedDict([(f'val/ood/auroc_{OLD}', history), ('train/loss', history)]),
        runtime_info={f'best_score_ood/auroc_{OLD}': 91.0, 'best_ckpt': f'best_ood_auroc_{OLD}_epoch_2.pth'},
    )
    saved = dict(
        state_dict=WEIGHTS, message_hub=hub, param_schedulers=[dict(monitor=f'ood/fpr95_{OLD}', best=3.0)],
        resume=dict(hooks={'EarlyStoppingHook.0': dict(monitor=f'selective/aurc_{OLD}', wait_count=2.0)}),
    )  # fmt: skip
    torch.save(saved, tmp_path / 'old.pth')
    found = read_checkpoint(tmp_path / 'old.pth')
    assert list(found['message_hub']['log_scalars']) == ['val/ood/auroc_least_confidence', 'train/loss']
    assert found['message_hub']['log_scalars']['val/ood/auroc_least_confidence'].data[0].tolist() == [0.5]
    assert found['message_hub']['runtime_info'] == {
        'best_score_ood/auroc_least_confidence': 91.0,
        'best_ckpt': f'best_ood_auroc_{OLD}_epoch_2.pth',  # the file has kept its name
    }
    assert found['param_schedulers'] == [dict(monitor='ood/fpr95_least_confidence', best=3.0)]
    (hook,) = found['resume']['hooks'].values()
    assert hook == dict(monitor='selective/aurc_least_confidence', wait_count=2.0)
