"""Options on the command line become those of a training."""

import argparse
import os
import subprocess
import sys

import pytest
from mmengine.device import utils

from hybridcls import checkpoint_reading
from hybridcls.cli import training_options as options
from hybridcls.engine import TrainOptions


def read(*arguments):
    parser = argparse.ArgumentParser()
    options.add_training_options(parser)
    options.add_process_options(parser)
    return parser.parse_args(arguments)


def test_without_options_a_training_is_the_default():
    assert options.training_options(read()) == TrainOptions()


@pytest.mark.parametrize(
    ('argument', 'changed'),
    [
        ('--amp', dict(amp=True)),
        ('--no-validate', dict(validate=False)),
        ('--auto-scale-lr', dict(auto_scale_lr=True)),
        ('--no-pin-memory', dict(pin_memory=False)),
        ('--no-persistent-workers', dict(persistent_workers=False)),
        ('--launcher=slurm', dict(launcher='slurm')),
        ('--compile', dict(compile=True)),
    ],
)
def test_each_option_changes_one_field(argument, changed):
    assert options.training_options(read(argument)) == TrainOptions(**changed)


def test_resume_is_passed_on():
    assert options.training_options(read(), 'auto') == TrainOptions(resume='auto')


@pytest.mark.parametrize('spelling', ['--local_rank', '--local-rank'])
def test_the_process_gets_its_rank(spelling, monkeypatch):
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    options.apply_process_options(read(spelling, '3'))
    assert os.environ['LOCAL_RANK'] == '3'


def test_the_rank_of_the_launcher_stays(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '1')
    options.apply_process_options(read())
    assert os.environ['LOCAL_RANK'] == '1'


def test_the_process_gets_its_device_and_its_trust(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
    monkeypatch.setattr(utils, 'DEVICE', 'cuda')
    monkeypatch.setattr(checkpoint_reading, '_trusted', False)
    options.apply_process_options(read('--device', 'cpu', '--trust-checkpoint'))
    assert (utils.DEVICE, os.environ['CUDA_VISIBLE_DEVICES']) == ('cpu', '-1')
    assert checkpoint_reading.checkpoints_are_trusted()


@pytest.mark.nightly
def test_what_is_imported_is_not_looked_at_again_when_garbage_is_collected():
    program = (
        'import gc\nfrom argparse import Namespace\nfrom hybridcls.cli.training_options import apply_process_options\n'
        "apply_process_options(Namespace(local_rank=0, device='cpu', trust_checkpoint=False, launcher=None))\n"
        'frozen = gc.get_freeze_count()\n'
        "apply_process_options(Namespace(local_rank=0, device='cpu', trust_checkpoint=False, launcher=None))\n"
        'print(frozen > 100_000, gc.get_freeze_count() == frozen, gc.isenabled())'
    )
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-3:] == ['True', 'True', 'True']
