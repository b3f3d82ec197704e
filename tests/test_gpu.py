"""Trainings and answers on a GPU: ``pytest -m gpu`` on a machine with one, where nothing else is tested.

A case of each runs on a CPU at night, so that on a GPU a failure is the GPU's.
"""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from command_runs import run_command
from safetensors.torch import save_file
from toy_runs import train

import hybridcls

ON_GPU, ON_CPU = dict(marks=pytest.mark.gpu), dict(marks=pytest.mark.nightly)
LEVERS = {
    'img_size': 32,
    'model.backbone.use_cbam': True,
    'model.backbone.token_learner_tokens': 4,
    'optim_wrapper.type': 'ComposedOptimWrapper',
    'optim_wrapper.stages': dict(sam=dict(type='SAM'), lookahead=dict(type='Lookahead', k=3)),
    'randomness': dict(seed=1, deterministic=True),
}


def digits(name, work_dir, device, resume=None, **options):
    """Train a config of the digits, and return the weights."""
    found = train(f'configs/digits/{name}.py', work_dir, resume, **{**LEVERS, **options}).model
    assert next(found.parameters()).device.type == device
    return {name: value.cpu() for name, value in found.state_dict().items()}


@pytest.fixture(autouse=True)
def _leave_kernels_as_they_were():
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


@pytest.mark.parametrize(
    ('config', 'amp', 'device'),
    [
        *(
            pytest.param(config, amp, 'cuda', **ON_GPU)
            for config in ('supcon_hybrid', 'adaface_hybrid')
            for amp in (None, 'bfloat16', 'float16')
        ),
        pytest.param('adaface_hybrid', 'bfloat16', 'cpu', **ON_CPU),
    ],
)
def test_a_training_resumed_in_the_middle_ends_in_the_same_bits(tmp_path, monkeypatch, config, amp, device):
    monkeypatch.chdir(Path(hybridcls.__file__).parents[1])
    options = {'max_epochs': 2, 'optim_wrapper.amp': amp, 'default_hooks.checkpoint.max_keep_ckpts': 2}
    straight = digits(config, tmp_path / 'straight', device, **options)
    shutil.copytree(tmp_path / 'straight', tmp_path / 'again')
    for path in (tmp_path / 'again').rglob('*epoch_2.pth'):
        path.unlink()
    resumed = digits(config, tmp_path / 'again', device, str(tmp_path / 'again' / 'epoch_1.pth'), **options)
    assert [name for name, value in straight.items() if not torch.equal(value, resumed[name])] == []


@pytest.mark.parametrize('device', [pytest.param('cuda', **ON_GPU), pytest.param('cpu', **ON_CPU)])
def test_a_folder_to_answers(digit_folder, tmp_path, monkeypatch, capfd, device):
    def run(*arguments):
        code = run_command(*arguments, '--device', device)
        said = capfd.readouterr()
        assert code == 0, f'hybridcls {arguments[0]} ended with {code}:\n{said.out[-3000:]}\n{said.err[-6000:]}'

    monkeypatch.chdir(tmp_path)
    save_file(timm.create_model('test_vit').state_dict(), tmp_path / 'vit.safetensors')
    options = ['--data', digit_folder, '--model', 'test_vit', '--checkpoint', tmp_path / 'vit.safetensors']
    # TF32 would change scores by its ten bits, and by more where a calibration sharpens them.
    options += ['--img-size', 64, '--epochs', 2, '--work-dir', tmp_path / 'w', '--cfg-options', 'env_cfg.tf32=False']
    run('train', 'finetune/full', *options)
    run('test', tmp_path / 'w')
    run('predict', tmp_path / 'w', digit_folder / 'val')
    model = hybridcls.load(tmp_path / 'w', device)
    assert model.device.type == device
    answers, on_cpu = (list(one(digit_folder / 'val')) for one in (model, hybridcls.load(tmp_path / 'w', 'cpu')))
    assert [answer.path for answer in answers] == [answer.path for answer in on_cpu]
    scores, of_cpu = (np.stack([answer.scores for answer in found]) for found in (answers, on_cpu))
    np.testing.assert_allclose(scores, of_cpu, atol=1e-4)


def test_what_asks_for_a_gpu_is_marked():
    """Else it never runs: without ``-m gpu`` no test sees one, and with it no other test is run."""
    files = sorted(Path(__file__).parent.rglob('test_*.py'))
    assert [path.name for path in files if re.search(r'skipif\(\s*not torch\.cuda', path.read_text('utf8'))] == []
