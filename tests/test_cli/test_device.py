"""`--device` acts, or is a sentence."""

import os
import subprocess
import sys
from argparse import ArgumentParser

import pytest
import torch
from mmengine.device import get_device, utils

from hybridcls.cli import device


@pytest.fixture(autouse=True)
def unchanged(monkeypatch):
    monkeypatch.setattr(utils, 'DEVICE', utils.DEVICE)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', os.environ.get('CUDA_VISIBLE_DEVICES', '0'))


@pytest.fixture
def two_gpus(monkeypatch):
    """torch as on a machine with two GPUs; returns the numbers that were chosen."""
    chosen = []
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'set_device', chosen.append)
    monkeypatch.setattr(utils, 'DEVICE', 'cuda')
    return chosen


def test_cpu_on_a_machine_with_gpus(two_gpus):
    device.hide_gpus('cpu')
    device.use_device('cpu')
    assert os.environ['CUDA_VISIBLE_DEVICES'] == '-1'
    assert get_device() == 'cpu'


@pytest.mark.parametrize(('visible', 'expected'), [(None, '1'), ('2,3', '3'), ('GPU-a, GPU-b', 'GPU-b'), ('', '1')])
def test_a_gpu_has_another_name_outside(monkeypatch, visible, expected):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    if visible is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    assert device.visible_gpu(1) == expected


@pytest.mark.parametrize(('name', 'chosen'), [('auto', []), ('cuda', []), ('cuda:0', [0]), ('cuda:1', [1])])
def test_a_gpu(two_gpus, name, chosen):
    visible = os.environ['CUDA_VISIBLE_DEVICES']
    device.hide_gpus(name)
    device.use_device(name)
    assert (two_gpus, get_device(), os.environ['CUDA_VISIBLE_DEVICES']) == (chosen, 'cuda', visible)


def test_what_is_not_there_is_a_sentence(two_gpus, monkeypatch):
    with pytest.raises(ValueError, match=r'got cuda:2.*There are: cpu, cuda:0, cuda:1'):
        device.use_device('cuda:2')
    monkeypatch.setattr('mmengine.device.is_mps_available', lambda: False)
    with pytest.raises(ValueError, match='got mps, which only Macs have'):
        device.use_device('mps')
    with pytest.raises(ValueError, match='expected cuda under --launcher pytorch'):
        device.use_device('cuda:1', 'pytorch')
    device.use_device('cuda', 'pytorch')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    with pytest.raises(ValueError, match=r'got cuda.*There are: cpu\.'):
        device.use_device('cuda')


def test_mps_where_it_is(monkeypatch):
    monkeypatch.setattr('mmengine.device.is_mps_available', lambda: True)
    device.use_device('mps')
    assert get_device() == 'mps'


@pytest.mark.parametrize('text', ['gpu', 'cuda:', 'cuda:x', 'cpu:0', '0'])
def test_other_words_are_refused(text, capsys):
    parser = ArgumentParser()
    device.add_device_option(parser)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(['--device', text])
    assert ended.value.code == 2
    assert f'expected auto, cpu, cuda, cuda:N or mps, got {text!r}' in capsys.readouterr().err


@pytest.mark.gpu
def test_a_command_on_the_cpu_sees_no_gpu(tmp_path):
    code = (
        'from argparse import Namespace\nfrom hybridcls.cli.training_options import apply_process_options\n'
        "apply_process_options(Namespace(local_rank=0, device='cpu', trust_checkpoint=False, launcher=None))\n"
        'import torch\nfrom mmengine.device import get_device\nprint(torch.cuda.is_available(), get_device())\n'
    )
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    assert done.stdout.split()[-2:] == ['False', 'cpu'], done.stderr
