"""The config of the chosen settings is a child of the training's, and a prediction takes it."""

import numpy as np
from mmengine.config import Config
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

from hybridcls.apis.benchmark.fast_config import fast_config
from hybridcls.apis.inference_settings import InferenceSettings
from hybridcls.apis.inferencer import HybridInferencer

SETTINGS = InferenceSettings('bfloat16', True, 'eager')


def test_it_inherits_from_the_config_in_the_work_dir_and_predicts(tmp_path):
    cfg = config_of(CNN, LINEAR)
    path, _ = write_checkpoint(tmp_path / 'work' / 'epoch_1.pth', cfg)
    (tmp_path / 'work' / 'other.py').write_text('model = dict()')
    (tmp_path / 'work' / 'trained.py').write_text(Config(cfg).pretty_text)
    plain = HybridInferencer(path, 'cpu')
    out = tmp_path / 'elsewhere' / 'fast.py'
    out.parent.mkdir()
    out.write_text(fast_config(path, plain.config, SETTINGS, str(out), 'Measured.'))
    assert "_base_ = ['../work/trained.py']" in out.read_text()
    model = HybridInferencer(path, 'cpu', out)
    assert model.wanted_settings == SETTINGS
    assert model.network.settings == SETTINGS.uncompiled
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = HybridInferencer(path, 'cpu', amp=True).predict(image).scores  # bfloat16 as a test has it
    np.testing.assert_allclose(model.predict(image).scores, expected, atol=2e-3)
    assert np.abs(model.predict(image).scores - plain.predict(image).scores).max() > 0


def test_without_such_a_config_it_is_whole(tmp_path):
    cfg = config_of(CNN, LINEAR, batch_size=None)
    cfg['test_dataloader']['batch_size'] = None  # as a file has what a training fills in
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', cfg)
    out = tmp_path / 'fast.py'
    out.write_text(fast_config(path, HybridInferencer(path, 'cpu').config, SETTINGS, str(out), 'Measured.'))
    model = HybridInferencer(path, 'cpu', out)
    assert model.wanted_settings == SETTINGS
    assert model.batch_size == 32  # as of a test
