"""An ablation from the command: trained side by side, interrupted, gone on with, judged."""

import json
import shutil
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.nightly

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


def test_a_broken_config_ends_in_a_sentence(tmp_path):
    (tmp_path / 'mine.py').write_text(CONFIG)
    done = ablate(tmp_path, '--levers', 'cbm', '--seeds', '1')
    assert done.returncode == 2
    assert "Did you mean 'cbam'" in done.stderr


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
