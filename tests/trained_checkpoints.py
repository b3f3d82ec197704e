"""Checkpoints as trainings write them, with random weights, and what a test of the Runner predicts with them."""

import pickle

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from hybridcls.engine import TrainOptions, build_runner, prepare_testing
from hybridcls.engine.config.loading import load_config
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.evaluation import DumpResults
from hybridcls.registry import MODELS
from hybridcls.structures import PREPROCESSING_VERSION

CLASSES = ('one', 'three', 'two', 'zero')
CNN = dict(type='HybridBackbone', cnn=dict(model_name='test_resnet', output='vector'), img_size=64)
VIT = dict(type='HybridBackbone', vit=dict(model_name='test_vit'), img_size=64)
LINEAR = dict(type='LinearHead', num_classes=4)
PIPELINE = [dict(type='LoadImage'), dict(type='CenterCropToSize', img_size=64), dict(type='PackInputs')]


def config_of(backbone, head, root='nowhere', **more):
    """A config as it is dumped: complete, and of literals."""
    return dict(
        default_scope='hybridcls',
        model=dict(type='HybridClassifier', backbone=backbone, neck=None, head=head),
        test_dataloader=dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='ImageFolder', data_root=str(root), pipeline=PIPELINE, test_mode=True),
        ),
        test_cfg=dict(),
        test_evaluator=[],
        **more,
    )


def write_checkpoint(path, cfg, classes=CLASSES, seed=0, **meta):
    """Write a checkpoint of random weights; return its path and the model."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('hybridcls'):
        model = MODELS.build(cfg['model'])
    for name, param in model.named_parameters():
        if 'lora_B' in name:  # they begin at 0, where adapters do nothing
            torch.nn.init.normal_(param, std=0.1)
    known = dict(dataset_meta=dict(classes=list(classes)), preprocessing_version=PREPROCESSING_VERSION)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(meta=dict(cfg=Config(cfg).pretty_text, **known, **meta), state_dict=model.state_dict()), path)
    return str(path), model


def scores_of_a_test(cfg, checkpoint, folder):
    """What mmengine's loop predicts: paths and scores in its order."""
    file = folder / 'config.py'
    file.write_text(Config(cfg).pretty_text)
    out = folder / 'predictions.pkl'
    with isolated_globals():
        prepared = prepare_testing(load_config(file), checkpoint, TrainOptions(), str(folder / 'test'))
        runner = build_runner(prepared)
        runner.test_evaluator.metrics.append(DumpResults(out_file_path=str(out)))
        runner.test()
    samples = pickle.loads(out.read_bytes())
    return [sample['img_path'] for sample in samples], np.stack([sample['pred_score'].numpy() for sample in samples])
