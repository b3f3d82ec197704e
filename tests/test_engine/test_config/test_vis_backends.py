"""Visualization backends whose packages are missing."""

import pytest
from mmengine.config import Config
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend

from hybridcls.engine.config.layers import ConfigError
from hybridcls.engine.config.vis_backends import check_vis_backends


class OwnBoard(TensorboardVisBackend):
    pass


def check(*backends, installed=(), monkeypatch):
    find = lambda name: object() if name in installed else None  # noqa: E731
    monkeypatch.setattr('hybridcls.engine.config.vis_backends.find_spec', find)
    check_vis_backends(Config(dict(visualizer=dict(type='UniversalVisualizer', vis_backends=list(backends)))))


@pytest.mark.parametrize(
    ('kind', 'text'),
    [
        ('WandbVisBackend', 'WandbVisBackend needs wandb, which is not installed. Type: pip install wandb;'),
        ('mmengine.TensorboardVisBackend', 'TensorboardVisBackend needs tensorboard'),
        (OwnBoard, 'TensorboardVisBackend needs tensorboard'),
        ('DVCLiveVisBackend', 'needs dvclive and pygit2, .* pip install dvclive pygit2;'),
    ],
)
def test_a_package_that_is_not_installed_is_named(monkeypatch, kind, text):
    with pytest.raises(ConfigError, match=text):
        check(dict(type='LocalVisBackend'), dict(type=kind), monkeypatch=monkeypatch)


def test_what_is_installed_or_unknown_passes(monkeypatch):
    check(dict(type='WandbVisBackend'), dict(type=LocalVisBackend), installed=['wandb'], monkeypatch=monkeypatch)
    check(dict(type='LocalVisBackend'), dict(type='NobodyKnowsIt'), monkeypatch=monkeypatch)
    for visualizer in (None, dict(type='UniversalVisualizer')):
        check_vis_backends(Config(dict(visualizer=visualizer)))
