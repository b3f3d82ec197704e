"""`hybridcls ablate`: what is wrong is said before a training begins."""

import pytest
import torch
from command_runs import run_command


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--levers', 'gc', '--cfg-options', 'seed=3'], 'expected no seed among the options, got 3'),
        (['--levers', 'gc', '--cfg-options', 'randomness.seed=3'], 'expected no randomness.seed among the options'),
        (['--levers', 'gc', '--seeds', '0'], 'expected --seeds to be at least 1, got 0'),
        (['--levers', 'gc,cbm'], "Did you mean 'cbam'"),
        (['--levers', 'gc', '--jobs', '0'], 'expected --jobs to be at least 1, got 0'),
    ],
)
def test_a_mistake_is_a_sentence(options, said, tmp_path, capfd):
    folder = tmp_path / 'w'
    assert run_command('ablate', 'digits/few_images', *options, '--work-dir', folder, '--device', 'cpu') == 2
    assert said in capfd.readouterr().err
    assert not list(folder.rglob('*.py'))


def test_a_gpu_that_is_not_there_is_a_sentence(tmp_path, capfd):
    gpu = f'cuda:{torch.cuda.device_count()}'
    assert run_command('ablate', 'digits/few_images', '--levers', 'gc', '--work-dir', tmp_path, '--device', gpu) == 2
    assert f'--device: expected a device of this machine, got {gpu}' in capfd.readouterr().err
