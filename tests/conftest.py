"""Fixtures of all tests: a folder of real images, and toy configs with the plugin they import."""

import gc
import importlib
import logging
import os
import sys
from pathlib import Path

import cv2
import pytest
from quick_trainings import leave_out
from sklearn.datasets import load_digits

TOYS = Path(__file__).parent / 'test_engine'  # where toy_plugin.py lies

TOY = """
default_scope = 'hybridcls'
custom_imports = dict(imports=['toy_plugin'], allow_failed_imports=False)
model = dict(type='ToyModel', backbone=dict(width=8), head=dict(type='ToyHead', num_classes=3))
train_dataloader = dict(
    batch_size=8, num_workers=0, dataset=dict(type='ToyPoints'), sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=8, num_workers=0, dataset=dict(type='ToyPoints', test_mode=True),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='ToyAccuracy')
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=3, by_epoch=True)]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2, save_best='toy/top1', rule='greater'))
randomness = dict(seed=3)
log_level = 'WARNING'
visualizer = dict(type='Visualizer', name='visualizer', vis_backends=[dict(type='LocalVisBackend')])
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='gloo'))
"""


def pytest_configure(config):
    """Hide GPUs from all tests but those of ``-m gpu``: the others compare with numbers of a CPU."""
    if 'gpu' not in config.option.markexpr.replace('not gpu', ''):
        os.environ['CUDA_VISIBLE_DEVICES'] = '-1'


def pytest_runtest_setup(item):
    """Skip a test of a GPU where there is none."""
    if item.get_closest_marker('gpu'):
        import torch

        if not torch.cuda.is_available():
            pytest.skip('no CUDA device')


@pytest.fixture(scope='module', autouse=True)
def _quick_collections():
    """Leave what is imported out of garbage collections: the half second of each is that of every dataset."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='module', autouse=True)
def _no_logs_of_other_files():
    """Loggers live as long as the process: one would write on into the folder of a test that is over."""
    yield
    if 'mmengine.logging' in sys.modules:
        from hybridcls.compat.mmengine import instances_of

        loggers = instances_of(sys.modules['mmengine.logging'].MMLogger)
        for name, logger in list(loggers.items()):
            for handler in [one for one in logger.handlers if isinstance(one, logging.FileHandler)]:
                handler.close()
                logger.removeHandler(handler)
                loggers.pop(name, None)


@pytest.fixture(scope='session', autouse=True)
def _quick_trainings():
    """Those of quick_trainings.py, unless a test asks for whole ones."""
    with pytest.MonkeyPatch.context() as patch:
        leave_out(patch)
        yield patch


@pytest.fixture
def whole_trainings(_quick_trainings):
    """Leave nothing out."""
    from hybridcls.compat.mmengine import config_text

    config_text._laid_out.cache_clear()
    _quick_trainings.undo()
    yield
    leave_out(_quick_trainings)


@pytest.fixture
def toy_plugin(monkeypatch):
    """The plugin, importable here and in processes started from here."""
    monkeypatch.syspath_prepend(str(TOYS))
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(TOYS), os.environ.get('PYTHONPATH', '')]))
    return importlib.import_module('toy_plugin')


@pytest.fixture
def toy_configs(tmp_path, toy_plugin):
    """A folder with ``toy.py``, ``second.py`` (another head) and the chain of both, ``chain.py``."""
    folder = tmp_path / 'configs'
    folder.mkdir()
    (folder / 'toy.py').write_text(TOY)
    (folder / 'second.py').write_text(
        "_base_ = 'toy.py'\nmodel = dict(head=dict(num_classes=2))\ntrain_cfg = dict(max_epochs=2)\n"
    )
    (folder / 'chain.py').write_text(
        "phases = [dict(name='one', config='toy.py'), dict(name='two', config='second.py', load='best')]\n"
    )
    return folder


@pytest.fixture(scope='session')
def digit_folder(tmp_path_factory):
    """``train/<class>/*.png`` and ``val/<class>/*.png``: 12 and 4 scans of the digits 0 to 3, 64 x 64 pixels."""
    root = tmp_path_factory.mktemp('digit_folder')
    data = load_digits()
    for digit in range(4):
        scans = data.images[data.target == digit][:16]
        for number, scan in enumerate(scans):
            folder = root / ('train' if number < 12 else 'val') / ['zero', 'one', 'two', 'three'][digit]
            folder.mkdir(parents=True, exist_ok=True)
            image = cv2.resize((scan * 15.9).astype('uint8'), (64, 64), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / f'{number}.png'), image)
    return root


@pytest.fixture
def told_renames(monkeypatch):
    """What users are told of old spellings, from an empty memory on: text, logger and level of each line."""
    lines = []

    def note(text, logger=None, level=logging.INFO):
        if 'since version' in text:
            lines.append((text, logger, level))

    monkeypatch.setattr('hybridcls.renames._warned', set())
    monkeypatch.setattr('mmengine.logging.print_log', note)
    return lines
