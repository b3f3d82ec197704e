"""Trainings and answers on a GPU: ``pytest -m gpu`` on a machine with one, where nothing else is tested."""

import shutil

import numpy as np
import pytest
import timm
import torch
from command_runs import run_command
from safetensors.torch import save_file
from toy_runs import train

import hybridcls

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')]
DEVICE = 'cuda'
LEVERS = {
    'img_size': 32,
    'model.backbone.use_cbam': True,
    'model.backbone.token_learner_tokens': 4,
    'optim_wrapper.type': 'ComposedOptimWrapper',
    'optim_wrapper.stages': dict(sam=dict(type='SAM'), lookahead=dict(type='Lookahead', k=3)),
    'randomness': dict(seed=1, deterministic=True),
}


def digits(name, work_dir, resume=None, **options):
    """Train a config of the digits, and return the weights."""
    found = train(f'configs/digits/{name}.py', work_dir, resume, **{**LEVERS, **options}).model
    assert next(found.parameters()).device.type == DEVICE
    return {name: value.cpu() for name, value in found.state_dict().items()}


@pytest.fixture(autouse=True)
def _leave_kernels_as_they_were():
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


@pytest.mark.parametrize('amp', [None, 'bfloat16', 'float16'])
@pytest.mark.parametrize('config', ['supcon_hybrid', 'adaface_hybrid'])
def test_a_training_resumed_in_the_middle_ends_in_the_same_bits(tmp_path, monkeypatch, config, amp):
    monkeypatch.chdir(hybridcls.__path__[0] + '/..')
    options = {'max_epochs': 2, 'optim_wrapper.amp': amp, 'default_hooks.checkpoint.max_keep_ckpts': 2}
    straight = digits(config, tmp_path / 'straight', **options)
    shutil.copytree(tmp_path / 'straight', tmp_path / 'again')
    for path in (tmp_path / 'again').rglob('*epoch_2.pth'):
        path.unlink()
    resumed = digits(config, tmp_path / 'again', str(tmp_path / 'again' / 'epoch_1.pth'), **options)
    assert [name for name, value in straight.items() if not torch.equal(value, resumed[name])] == []


def test_a_folder_to_answers(digit_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(timm.create_model('test_vit').state_dict(), tmp_path / 'vit.safetensors')
    options = ['--data', digit_folder, '--model', 'test_vit', '--checkpoint', tmp_path / 'vit.safetensors']
    options += ['--img-size', 64, '--epochs', 2, '--device', DEVICE, '--work-dir', tmp_path / 'w']
    assert run_command('train', 'finetune/full', *options) == 0
    assert run_command('test', tmp_path / 'w', '--device', DEVICE) == 0
    assert run_command('predict', tmp_path / 'w', digit_folder / 'val', '--device', DEVICE) == 0
    answers = hybridcls.load(tmp_path / 'w', DEVICE)(digit_folder / 'val')
    on_cpu = hybridcls.load(tmp_path / 'w', 'cpu')(digit_folder / 'val')
    scores, of_cpu = (np.stack([answer.scores for answer in found]) for found in (answers, on_cpu))
    np.testing.assert_allclose(scores, of_cpu, atol=2e-3)  # TF32 has ten bits
