"""An ablation from the command: trained side by side, interrupted, gone on with, judged."""

import json
import shutil
import subprocess
import sys
import time

import pytest

from hybridcls.apis.ablation import Training, run_trainings
from hybridcls.apis.ablation.trainings import _note, _why, _with_fingerprint

CONFIG = """
_base_ = 'hybridcls::digits/few_images.py'
model = dict(backbone=dict(_delete_=True, type='HybridBackbone', cnn=dict(model_name='test_resnet')),
             neck=None)
train_dataloader = dict(dataset=dict(images_per_class=12))
"""
LEVERS = [
    'gc',
    "useless:log_level='INFO'",
    'harmful:optim_wrapper.optimizer.lr=1e-7',
    'broken:optim_wrapper.optimizer.weight_decay=1e30',
]
SEEDS = 3


def ablate(folder, *more):
    command = [sys.executable, '-m', 'hybridcls', 'ablate', 'mine.py', '--epochs', '6', '--device', 'cpu', *more]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)


@pytest.mark.nightly
def test_planted_levers_and_a_second_start(tmp_path):
    (tmp_path / 'mine.py').write_text(CONFIG)
    options = [word for lever in LEVERS for word in ('--levers', lever)]
    options += ['--seeds', str(SEEDS), '--vary', 'train_dataloader.dataset.images_seed', '--json']
    first = ablate(tmp_path, *options)
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout)
    arms = {one['arm']: one for one in result['arms']}
    assert [arms[name]['verdict'] for name in ('useless', 'harmful', 'broken', 'all')] == [
        'within the noise', 'harmful', 'harmful', 'harmful',
    ]  # fmt: skip
    assert arms['useless']['gains']['accuracy/top1']['sd'] == 0  # the same training, to the bit
    folder = tmp_path / 'work_dirs' / 'ablate_mine'
    assert {path.name for path in folder.glob('ablation.*')} == {'ablation.json', 'ablation.md', 'ablation.png'}
    assert not list(folder.rglob('*.pth'))
    (folder / 'gc' / 'seed1' / 'ablation_result.json').unlink()  # as if it was interrupted there
    again = ablate(tmp_path, *options)
    planned = (len(LEVERS) + 2) * SEEDS
    left = 1 + 2  # and the last seed of the two arms that had failed twice
    assert f'{planned - left} of {planned} trainings were done before' in again.stderr
    assert [one['gains'] for one in json.loads(again.stdout)['arms']] == [one['gains'] for one in result['arms']]


@pytest.mark.nightly
def test_a_killed_command_trains_no_more_and_is_gone_on_with_where_nothing_has_changed(tmp_path):
    (tmp_path / 'mine.py').write_text(CONFIG)
    options = ['--levers', 'gc', '--seeds', '1', '--jobs', '1', '--json', '--epochs', '30', '--device', 'cpu']
    command = [sys.executable, '-m', 'hybridcls', 'ablate', 'mine.py', *options]
    command += ['--cfg-options', 'default_hooks.checkpoint.interval=1']
    folder = tmp_path / 'work_dirs' / 'ablate_mine'

    def killed():
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while not list(folder.glob('base/seed0/epoch_*.pth')):
                assert process.poll() is None
                time.sleep(0.1)
            process.kill()
        time.sleep(2)
        there = sorted(folder.glob('base/seed0/*'))
        time.sleep(3)
        assert sorted(folder.glob('base/seed0/*')) == there  # its trainings have ended with it

    def results():
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    whole = results()
    for change in ('', 'lr = 3e-4'):
        shutil.rmtree(folder)
        (tmp_path / 'mine.py').write_text(CONFIG)
        killed()
        (tmp_path / 'mine.py').write_text(f'{CONFIG}\n{change}\n')
        again = results()
        log = (folder / 'base' / 'seed0' / 'training.log').read_text()
        assert ('--resume' in log) != bool(change), log[-2000:]
        assert (again['base'] == whole['base']) != bool(change)


@pytest.mark.nightly
def test_a_broken_config_ends_in_a_sentence(tmp_path):
    (tmp_path / 'mine.py').write_text(CONFIG)
    done = ablate(tmp_path, '--levers', 'cbm', '--seeds', '1')
    assert done.returncode == 2
    assert "Did you mean 'cbam'" in done.stderr


@pytest.mark.nightly
def test_a_chain(tmp_path):
    (tmp_path / 'mine.py').write_text("_base_ = 'hybridcls::digits/two_phase.py'\n")
    done = ablate(tmp_path, '--levers', 'gc,evidential', '--seeds', '2', '--json', '--cfg-options',
                  'phases.0.cfg_options.max_epochs=1')  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [one['arm'] for one in json.loads(done.stdout)['arms']] == ['gc', 'evidential', 'all']
    folder = tmp_path / 'work_dirs' / 'ablate_mine' / 'gc' / 'seed0'
    costs = {path.parent.name: json.loads(path.read_text()) for path in folder.rglob('step_cost.json')}
    assert sorted(costs) == ['1_supcon', '2_adaface']
    assert costs['2_adaface']['steps'] == 6 * costs['1_supcon']['steps']
    again = ablate(tmp_path, '--levers', 'gc,evidential', '--seeds', '2', '--json', '--cfg-options',
                   'phases.0.cfg_options.max_epochs=1')  # fmt: skip
    assert '8 of 8 trainings were done before' in again.stderr


def test_a_result_that_was_not_compared_with_chance_is_when_the_command_goes_on(tmp_path):
    """A command killed right after a training leaves the result as the training wrote it."""
    for seed, top1 in enumerate((10.0, 90.0)):
        one = _with_fingerprint(Training('base', seed, 'mine.py', {}, metrics={'accuracy/top1': top1}), 'text')
        (tmp_path / 'base' / f'seed{seed}').mkdir(parents=True)
        _note(one, tmp_path)
    trainings = [Training('base', seed, 'mine.py', {}) for seed in range(2)]
    told = []
    found = run_trainings(
        trainings, tmp_path, dict(base='text'), 1, 1,
        lambda metrics: 'chance' if metrics['accuracy/top1'] <= 10 else None, told.append,
    )  # fmt: skip
    assert [one.failed for one in found] == ['chance', '']
    assert told == ['2 of 2 trainings were done before.']


@pytest.mark.parametrize(
    ('code', 'words'),
    [
        (
            -9,
            'was killed (SIGKILL). That may be a lack of memory: try fewer --jobs. The same command goes on from here.',
        ),
        (-11, 'was killed (SIGSEGV). The same command goes on from here.'),
        (1, 'failed: ValueError: no. The whole log: '),
    ],
)
def test_a_training_that_ends_early_says_why(tmp_path, code, words):
    one = Training('gc', 3, 'mine.py', {})
    folder = tmp_path / one.folder_name
    folder.mkdir(parents=True)
    (folder / 'training.log').write_text('Epoch(train) [3][10/20]  loss: 0.1\nValueError: no.\n')
    assert f'the training of the arm gc with seed 3 {words}' in _why(one, tmp_path, code)
