"""tools/train.py and tools/test.py in subprocesses, as a user starts them."""

import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
import yaml

from hybridcls.engine.runner.global_instances import isolated_globals

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """
num_classes = 10
model = dict(
    type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=-1), neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', in_channels=120, loss=dict(type='CrossEntropyLoss')),
    data_preprocessor=dict(mean=[127.], std=[64.]))
pipeline = [dict(type='ToySquares'), dict(type='PackInputs')]
train_dataloader = dict(batch_size=16, num_workers=0, dataset=dict(type='ToyIndices', pipeline=pipeline),
                        sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(batch_size=16, num_workers=0, dataset=dict(type='ToyIndices', pipeline=pipeline),
                      sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='Accuracy')
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best='auto'),
                     visualization=dict(type='VisualizationHook', enable=False))
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
custom_imports = dict(imports=['toy_images'], allow_failed_imports=False)
"""

MATRIX = """
_base_ = 'lenet.py'
test_evaluator = [dict(type='Accuracy'), dict(type='ConfusionMatrix'), dict(type='SingleLabelMetric', average=None),
                  dict(type='DumpResults', out_file_path='dumped.pkl')]
"""

PLUGIN = """
import numpy as np
from mmengine.dataset import BaseDataset
from hybridcls.registry import DATASETS, TRANSFORMS

@DATASETS.register_module()
class ToyIndices(BaseDataset):
    METAINFO = dict(classes=[str(n) for n in range(10)])
    def load_data_list(self):
        return [dict(gt_label=n % 10, img_path=f'{n}.png', sample_idx=n) for n in range(20)]

@DATASETS.register_module()
class ToyUnlabelled(ToyIndices):
    def load_data_list(self):
        return [dict(img_path=f'{n % 2}/{n // 2}.png', sample_idx=n) for n in range(20)]

@TRANSFORMS.register_module()
class ToySquares:
    def __call__(self, results):
        results['img'] = np.full((32, 32, 1), 25 * results.get('gt_label', 1), np.uint8)
        results['img_shape'] = results['ori_shape'] = (32, 32)
        return results
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with a config and its plugin, which tools find because they are started in it."""
    folder = tmp_path_factory.mktemp('user')
    (folder / 'lenet.py').write_text(CONFIG)
    (folder / 'toy_images.py').write_text(PLUGIN)
    (folder / 'matrix.py').write_text(MATRIX)
    (folder / 'unlabelled.py').write_text(
        "_base_ = 'lenet.py'\ntest_dataloader = dict(dataset=dict(type='ToyUnlabelled'))\n"
    )
    return folder


def start(folder, tool, *arguments, **environment):
    command = [sys.executable, str(ROOT / 'tools' / tool), *map(str, arguments)]
    if tool.endswith('.sh'):
        command[0] = 'bash'
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable, **environment}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


def start_here(folder, monkeypatch, name, *arguments):
    """Run a tool in this process, which saves the seconds of its imports; return its exit status."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
    specification = importlib.util.spec_from_file_location(f'tool_{name[:-3]}', ROOT / 'tools' / name)
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    with isolated_globals():
        try:
            tool.main()
        except SystemExit as end:
            return end.code
    raise AssertionError('a tool ends with an exit status')


@pytest.fixture(scope='module')
def trained(folder):
    """The checkpoint that tools/train.py wrote."""
    result = start(folder, 'train.py', 'lenet.py', '--cfg-options', 'randomness.seed=1')
    assert result.returncode == 0, result.stderr[-3000:]
    return folder / 'work_dirs' / 'lenet' / 'epoch_1.pth'


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_help_and_wrong_paths_are_fast(folder, tool):
    began = os.times()
    assert start(folder, tool, '--help').returncode == 0
    result = start(folder, tool, 'lenett.py', *(['x.pth'] if tool == 'test.py' else []))
    assert os.times().children_user - began.children_user < 3, 'heavy imports: each took seconds'  # two processes
    assert result.returncode == 2
    assert "config='lenett.py' does not exist" in result.stderr
    assert "Did you mean 'lenet.py'?" in result.stderr
    assert 'Traceback' not in result.stderr


def test_training_writes_to_the_work_dir(folder, trained):
    assert trained.is_file()
    assert (trained.parent / 'lenet.py').is_file()


def test_resume(folder, trained):
    output = processes.run_tool(
        'train.py',
        'lenet.py',
        '--resume',
        '--amp',
        '--no-validate',
        '--cfg-options',
        'train_cfg.max_epochs=2',
        'default_hooks.checkpoint.save_best=None',
        folder=folder,
    )
    assert 'goes on at epoch 2' in output
    assert (trained.parent / 'epoch_2.pth').is_file()


def test_test_writes_metrics_and_predictions(folder, trained, monkeypatch):
    arguments = ['lenet.py', trained, '--out', 'metrics.json', '--out-item', 'metrics', '--tta']
    processes.run_tool('test.py', *arguments, folder=folder)
    assert 'accuracy/top1' in json.loads((folder / 'metrics.json').read_text())
    arguments = ['lenet.py', trained, '--out', 'predictions.pkl', '--work-dir', 'tested', '--amp']
    assert start_here(folder, monkeypatch, 'test.py', *arguments) == 0
    predictions = pickle.loads((folder / 'predictions.pkl').read_bytes())
    assert len(predictions) == 20
    assert predictions[0]['pred_score'].shape == (10,)
    assert (folder / 'tested').is_dir()


def test_tta_tests_the_weights_of_the_checkpoint_beside_an_ema_hook(folder, trained, monkeypatch):
    (folder / 'averaged.py').write_text("_base_ = 'lenet.py'\ncustom_hooks = [dict(type='EMAHook')]\n")
    found = []
    for config in ('lenet.py', 'averaged.py'):
        arguments = [config, trained, '--out', 'views.pkl', '--tta', '--work-dir', 'views']
        assert start_here(folder, monkeypatch, 'test.py', *arguments) == 0
        found.append([sample['pred_score'] for sample in pickle.loads((folder / 'views.pkl').read_bytes())])
    assert all(map(torch.equal, *found))


def test_metrics_without_a_number_are_lists_in_the_file(folder, trained, monkeypatch, capsys):
    for name, read in (('m.json', json.loads), ('m.yml', yaml.safe_load)):
        arguments = ['matrix.py', trained, '--out', name, '--out-item', 'metrics']
        assert start_here(folder, monkeypatch, 'test.py', *arguments) == 0
        written = read((folder / name).read_text())
        assert np.array(written['confusion_matrix/result']).sum() == 20
        assert len(written['single-label/recall_classwise']) == 10
    arguments = ['matrix.py', trained, '--out', 'm.txt', '--out-item', 'metrics']
    assert start_here(folder, monkeypatch, 'test.py', *arguments) == 2
    assert '.json or .yml' in capsys.readouterr().err


def test_images_without_labels(folder, trained, monkeypatch, capsys):
    """One sentence from the metric; and the predictions alone, as it advises."""
    assert start_here(folder, monkeypatch, 'test.py', 'unlabelled.py', trained, '--out', 'u.pkl') == 2
    printed = capsys.readouterr().err
    assert 'error: Accuracy: expected a gt_label for 0/0.png' in printed
    assert 'Traceback' not in printed
    arguments = ['unlabelled.py', trained, '--out', 'u.pkl', '--show-dir', 'u', '--cfg-options', 'test_evaluator=[]']
    assert start_here(folder, monkeypatch, 'test.py', *arguments) == 0
    predictions = pickle.loads((folder / 'u.pkl').read_bytes())
    assert [sample['img_path'] for sample in predictions][:3] == ['0/0.png', '1/0.png', '0/1.png']
    assert len(list((folder / 'u').rglob('*.png'))) == 20


def test_checkpoint_of_a_chain_is_tested_with_its_own_config(folder, trained, monkeypatch, capsys):
    (folder / 'chain.py').write_text("phases = [dict(name='one', config='lenet.py')]\n")
    assert start_here(folder, monkeypatch, 'test.py', 'chain.py', trained) == 2
    said = capsys.readouterr().err
    assert f'got the chain chain.py. Write hybridcls test {trained}: the checkpoint contains the config' in said


def test_show_dir_writes_predictions(folder, trained, monkeypatch):
    arguments = ['lenet.py', trained, '--show-dir', 'shown', '--interval', '10']
    assert start_here(folder, monkeypatch, 'test.py', *arguments) == 0
    assert len(list((folder / 'shown').rglob('*.png'))) == 2
    assert start_here(folder, monkeypatch, 'test.py', *arguments[:3], 'views', '--interval', '19', '--tta') == 0
    assert sorted(path.name for path in (folder / 'views').rglob('*.png')) == ['0.png_0.png', '19.png_0.png']


def test_checkpoint_of_another_model_is_one_line(folder, trained, monkeypatch, capsys):
    assert start_here(folder, monkeypatch, 'test.py', 'lenet.py', trained, '--cfg-options', 'num_classes=3') == 2
    printed = capsys.readouterr().err
    assert 'does not fit this model: 2 have another shape (first: head.fc.weight' in printed
    assert 'Traceback' not in printed


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (['--cfg-options', 'model.head.type=LinearClsHed'], "Did you mean 'LinearClsHead'"),
        (
            ['--cfg-options', 'model.head.in_channles=3'],
            "model.head.in_channles: LinearClsHead: unknown key 'in_channles'. Did you mean 'in_channels'?",
        ),
        (['--cfg-options', 'train_dataloader.collate_fn.type=default_colate'], "Did you mean 'default_collate'"),
        (
            ['--cfg-options', 'model.head.type=mmdet.FCOSHead'],
            "Its package 'mmdet' is not inst",
        ),
        (
            ['--cfg-options', 'custom_imports.imports=no_plugin'],
            "custom_imports.imports='no_plugin' cannot be imported",
        ),
        (['--work-dir', 'lenet.py'], "The work dir 'lenet.py' cannot be used"),
        (['--resume', 'none.pth'], "The checkpoint 'none.pth' does not exist"),
        (['--launcher', 'slurm'], 'SLURM_NTASKS is not set'),
        (['--auto-scale-lr'], 'add auto_scale_lr = dict(base_batch_size=...)'),
    ],
)
def test_user_errors_are_one_line(folder, options, sentence, monkeypatch, capsys):
    assert start_here(folder, monkeypatch, 'train.py', 'lenet.py', '--work-dir', 'mistakes', *options) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert 'Traceback' not in printed


def test_traceback_option(folder):
    result = start(folder, 'train.py', 'none.py', '--traceback')
    assert result.returncode == 2
    assert 'Traceback' in result.stderr


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_equal_one(folder, trained, monkeypatch):
    result = start(folder, 'dist_test.sh', 'matrix.py', trained, 2, '--out', 'two.json', '--out-item', 'metrics')
    assert result.returncode == 0, result.stderr[-3000:]
    of_two = pickle.loads((folder / 'dumped.pkl').read_bytes())
    start_here(folder, monkeypatch, 'test.py', 'matrix.py', trained, '--out', 'one.json', '--out-item', 'metrics')
    assert json.loads((folder / 'two.json').read_text()) == json.loads((folder / 'one.json').read_text())
    of_one = pickle.loads((folder / 'dumped.pkl').read_bytes())
    assert [sample['img_path'] for sample in of_two] == [f'{number}.png' for number in range(20)]
    for one, two in zip(of_one, of_two, strict=True):
        assert one.keys() == two.keys()
        torch.testing.assert_close(one['pred_score'], two['pred_score'])
        assert two['pred_score'].untyped_storage().nbytes() == 40
