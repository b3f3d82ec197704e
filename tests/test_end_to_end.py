"""The main job: two phases from the shipped configs, on real images, in one process and in two."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_testing, run_chain
from hybridcls.engine.runner.global_instances import isolated_globals

ROOT = Path(__file__).resolve().parents[1]
# Only what makes the reference pair small enough for a test; all levers of the configs stay on.
SMALL = {
    'img_size': 64,
    'model.backbone.cnn.model_name': 'test_convnext',
    'model.backbone.vit.model_name': 'test_vit',
    'model.neck.fusion_dim': 32,
    'train_dataloader.batch_size': 8,
    'train_dataloader.num_workers': 0,
    'val_dataloader.num_workers': 0,
    'test_dataloader.num_workers': 0,
    'train_cfg.max_epochs': 2,
    'param_scheduler.0.end': 1,
    'param_scheduler.1.begin': 1,
}


@pytest.mark.slow
@pytest.mark.usefixtures('whole_trainings')
def test_two_phases_on_the_digits(tmp_path, capsys):
    options = {
        'cfg_options': {'img_size': 32},
        'phases.0.cfg_options': {'train_cfg.max_epochs': 3},
        'phases.1.cfg_options.train_cfg.max_epochs': 3,
    }
    chain = load_config(ROOT / 'configs' / 'digits' / 'two_phase.py', options)
    first, second = run_chain(chain, TrainOptions(), str(tmp_path))
    assert first.metrics['val/knn/top1'] > 93
    assert second.metrics['test/accuracy/top1'] > 92
    printed = capsys.readouterr().out
    assert re.search(r'2 adaface +[\d.]+ +accuracy/top1 9[\d.]+ \(test\)', printed)
    picture = tmp_path / '1_supcon' / 'learning_curves.png'
    assert str(picture) in printed
    assert picture.read_bytes()[1:4] == b'PNG'
    log = next((tmp_path / '2_adaface').glob('*/*.log')).read_text()
    assert re.search(
        r'Weights from .*1_supcon.*:\n +\d+ weights loaded \(backbone \d+, neck \d+\)\n +\d+ new.*\(head', log
    )

    again = run_chain(load_config(ROOT / 'configs' / 'digits' / 'two_phase.py', options), TrainOptions(), str(tmp_path))
    assert [record.metrics for record in again] == [first.metrics, second.metrics]
    assert capsys.readouterr().out.count('already finished') == 2


@pytest.mark.nightly  # other tests train chains, and the parts of this one, in two processes
@pytest.mark.dist
def test_the_reference_chain_trains_in_two_processes_and_is_tested_in_one(digit_folder, tmp_path):
    options = [f'cfg_options.{key}={value}' for key, value in {'data_root': digit_folder, **SMALL}.items()]
    environment = {**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '-1'}
    config = ROOT / 'configs' / 'hybrid' / 'two_phase_convnext_swin.py'
    result = subprocess.run(
        [
            'bash',
            str(ROOT / 'tools' / 'dist_train.sh'),
            str(config),
            '2',
            '--work-dir',
            str(tmp_path),
            '--cfg-options',
            *options,
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
    record = json.loads((tmp_path / '2_adaface' / 'phase.json').read_text())
    assert 'best' in record['checkpoints']

    config = ROOT / 'configs' / 'hybrid' / 'adaface_convnext_swin.py'
    cfg = load_config(config, {'data_root': str(digit_folder), **SMALL})
    with isolated_globals():
        checkpoint = str(tmp_path / '2_adaface' / record['checkpoints']['last'])
        metrics = build_runner(prepare_testing(cfg, checkpoint, TrainOptions(), str(tmp_path / 'test'))).test()
    assert metrics['accuracy/top1'] == pytest.approx(record['metrics']['test/accuracy/top1'])
