"""A model and data that train in milliseconds, with randomness in both; imported by the configs of these tests."""

import os
import random
import signal

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from hybridcls.registry import DATASETS, HOOKS, METRICS, MODELS


@DATASETS.register_module(force=True)
class ToyPoints(BaseDataset):
    """Points around two means, with new noise each time they are read (by all three generators)."""

    METAINFO = dict(classes=('left', 'right', 'none'))

    def __init__(self, length=24, data_root='', **kwargs):
        self.length = length
        super().__init__(ann_file='', data_root=data_root, serialize_data=False, **kwargs)

    def load_data_list(self):
        return [dict(label=index % 2) for index in range(self.length)]

    def prepare_data(self, idx):
        label = self.data_list[idx]['label']
        blur = torch.randn(4) + random.random() + float(np.random.rand())  # noqa: NPY002
        return dict(inputs=blur * 0.3 + (2 * label - 1), labels=label, index=idx)


@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    """backbone, neck and head by those names."""

    def __init__(self, backbone=None, head=None, dropout=0.5, init_cfg=None, data_preprocessor=None):
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        width = (backbone or {}).get('width', 8)
        classes = (head or {}).get('num_classes', 3)
        self.backbone = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(dropout))
        self.neck = nn.Linear(width, 6)
        self.head = nn.Linear(6, classes)

    def init_weights(self):
        """Plain."""

    def forward(self, inputs, labels=None, index=None, mode='loss'):
        logits = self.head(self.neck(self.backbone(inputs)))
        if mode == 'loss':
            return dict(loss=nn.functional.cross_entropy(logits, labels))
        return [dict(right=float(a == b)) for a, b in zip(logits.argmax(1).tolist(), labels.tolist(), strict=True)]


@MODELS.register_module(force=True)
class ToyHead:
    """A head that classifies; only its arguments matter."""

    def __init__(self, num_classes=None, in_channels=None):
        self.num_classes = num_classes


@METRICS.register_module(force=True)
class ToyAccuracy(BaseMetric):
    """Share of right answers; draws random numbers too, as a metric may."""

    default_prefix = 'toy'

    def process(self, data_batch, data_samples):
        torch.rand(3)
        random.random()
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        return dict(top1=100 * sum(entry['right'] for entry in results) / len(results))


class Stopped(Exception):
    """The run was stopped from outside."""


@HOOKS.register_module(force=True)
class StopHook(Hook):
    """Stop a run when an epoch, or an iteration, is about to begin. (A shorter config would not do: its schedule,
    which is saved too, would end sooner.)"""

    def __init__(self, epoch=None, iteration=None):
        self.epoch, self.iteration = epoch, iteration

    def before_train_epoch(self, runner):
        if runner.epoch == self.epoch:
            raise Stopped

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            raise Stopped


@HOOKS.register_module(force=True)
class SignalHook(Hook):
    """Send this process, or its whole group, a signal: when an iteration begins, or within the validation after it."""

    priority = 'VERY_HIGH'

    def __init__(self, iteration, name='SIGTERM', validation=False, group=False, rank=0):
        self.iteration, self.validation, self.group, self.rank = iteration, validation, group, rank
        self.number = signal.Signals[name]

    def _send(self, runner):
        if runner.iter == self.iteration and get_rank() == self.rank:
            (os.killpg if self.group else os.kill)(os.getpgrp() if self.group else os.getpid(), self.number)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if not self.validation:
            self._send(runner)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if self.validation and batch_idx == 0:
            self._send(runner)
