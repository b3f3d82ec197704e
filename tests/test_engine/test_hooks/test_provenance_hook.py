"""Checkpoints tell how they were trained."""

import sys

import pytest
import torch

import hybridcls.__main__
from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training, run_training
from hybridcls.engine.runner.global_instances import isolated_globals

OPTIONS = {
    'model.backbone': dict(_delete_=True, type='HybridBackbone', cnn=dict(model_name='test_resnet')),
    'model.neck': None,
    'train_dataloader.dataset.images_per_class': 4,
    'param_scheduler': [],
}


def trained(file, work_dir, resume=None, **options):
    cfg = load_config(file, {**OPTIONS, **options})
    with isolated_globals():
        run_training(build_runner(prepare_training(cfg, TrainOptions(resume=resume), str(work_dir))))
    last = (work_dir / 'last_checkpoint').read_text().strip()
    return torch.load(last, weights_only=False)['meta']['training']


def test_a_training_is_recorded_and_a_resumed_one_adds_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['/usr/bin/hybridcls', 'train', 'my config.py'])
    found = trained('hybridcls::digits/few_images.py', tmp_path / 'w', max_epochs=1)
    assert found['command'] == "hybridcls train 'my config.py'"
    assert found['versions']['torch'] == torch.__version__
    assert found['processes'] == 1
    assert found['device'].startswith(('cpu (', 'cuda', 'NVIDIA'))
    assert found['attempts'] == 1
    assert found['config'].endswith('digits/few_images.py')
    written = {key: (value, who) for key, value, who in found['written']}
    assert written['max_epochs'] == ('1', '--cfg-options')
    assert 'optim_wrapper.type' not in written  # of the shipped file, which options alone differ from
    monkeypatch.setattr(sys, 'argv', [hybridcls.__main__.__file__, 'train'])  # python -m hybridcls train
    assert trained('hybridcls::digits/few_images.py', tmp_path / 'm', max_epochs=1)['command'] == 'hybridcls train'
    monkeypatch.setattr(sys, 'argv', ['pytest'])
    again = trained('hybridcls::digits/few_images.py', tmp_path / 'w', 'auto', max_epochs=2)
    assert again['attempts'] == 2
    assert again['seconds'] > found['seconds']
    assert again['command'] is None


def test_what_a_config_sets_over_its_bases_is_recorded(tmp_path):
    own = tmp_path / 'own.py'
    own.write_text("_base_ = 'hybridcls::digits/few_images.py'\nmax_epochs = 1\n")
    found = trained(own, tmp_path / 'w')
    written = {key: (value, who) for key, value, who in found['written']}
    assert written['max_epochs'] == ('1', str(own))
    assert not {key for key in written if key.startswith('val_')}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
