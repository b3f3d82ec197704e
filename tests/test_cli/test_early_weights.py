"""Missing pretrained weights end a training before torch is imported; whatever might work goes on."""

import os
import subprocess
import sys
from argparse import Namespace

import pytest
from huggingface_hub import constants

from hybridcls import hub_cache
from hybridcls.cli.early_weights import check_weights_early
from hybridcls.cli.find_config import find_config


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(config='finetune/full', resume=None, work_dir=None, cfg_options=None, **shared):
    shared = {f'shared_{name}': value for name, value in shared.items()}
    config = find_config('train', config)
    check_weights_early(
        'train', Namespace(config=config, resume=resume, work_dir=work_dir, cfg_options=cfg_options, **shared)
    )


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (dict(model='resnet18'), 'resnet18'),
        (dict(model='resnet18.tv_in1k'), r'resnet18\.tv_in1k'),
        (dict(config='finetune/hybrid', vit='vit_tiny_patch16_224'), 'convnextv2_tiny'),
        (dict(config='finetune/supcon_adaface', model='resnet18'), 'resnet18'),
        (dict(config='hybrid/ce_convnext_swin', cfg_options=dict(pretrained=True)), 'convnextv2_base'),
        (dict(config='digits/ce_hybrid', cfg_options={'model.backbone.vit.pretrained': True}), 'swinv2_tiny'),
    ],
)
def test_weights_that_cannot_be_had_are_told(options, named):
    with pytest.raises(FileNotFoundError, match=f'^train: the pretrained weights of {named}.* HF_HUB_OFFLINE is set'):
        check(**options)


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(model='resnet18', checkpoint='w.pth'),
        dict(model='resnet18', cfg_options=dict(pretrained=False)),
        dict(model='resnet18', cfg_options=dict(load_from='w.pth')),
        dict(model='resnet18', resume='auto'),
        dict(model='hf-hub:timm/resnet18.a1_in1k'),
        dict(model='no_such_model'),
        dict(model='legacy_senet154'),  # weights with an address of their own
        dict(model='resnet18', cfg_options={'model.backbone.cnn.pretrained_cfg_overlay': dict(file='w.pth')}),
        dict(model='resnet18', cfg_options={'model.backbone.cnn.type': 'mmpretrain.ResNet'}),
        dict(config='digits/ce_hybrid'),
        dict(config='finetune/supcon_adaface', model='resnet18', work_dir='.'),  # it may have done its first phase
    ],
)
def test_what_might_work_is_let_through(options):
    check(**options)


@pytest.mark.parametrize('tag', ['.a1_in1k', '.tv_in1k', ''])
def test_a_model_in_the_cache_is_let_through(offline, tag):
    (offline / 'cache' / f'models--timm--resnet18{tag}').mkdir(parents=True)
    check(model='resnet18')
    with pytest.raises(FileNotFoundError):
        check(model='resnet34')


def test_a_config_that_cannot_be_read_is_left_to_its_reader(offline):
    (offline / 'bad.py').write_text('model = 1 / 0')
    check(config='bad.py', model='resnet18')


def test_a_hub_that_answers_is_enough(monkeypatch):
    class Session:
        def head(self, address, timeout):
            return None

    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(hub_cache, 'get_session', Session)
    check(model='resnet18')


def test_the_command_ends_before_the_slow_imports(offline):
    program = (
        'import sys; from hybridcls.cli.main import main\n'
        f'sys.argv = ["hybridcls", "train", "finetune/full", "--data", {str(offline)!r}, "--model", "resnet18"]\n'
        'try:\n    main()\nexcept SystemExit as end:\n'
        '    print(end.code, [m in sys.modules for m in ("torch", "timm")])'
    )
    environment = {**os.environ, 'HF_HUB_OFFLINE': '1', 'HF_HOME': str(offline)}
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == '2 [False, False]\n'
    assert done.stderr.count('error: train: the pretrained weights of resnet18') == 1
