"""Settings are put on a model in place, a compiled one meets one size of batch, and all of it comes off again."""

import numpy as np
import pytest
import torch
from trained_checkpoints import CNN, LINEAR, VIT, config_of, write_checkpoint

from hybridcls.apis.inference_settings import InferenceSettings
from hybridcls.apis.inferencer import HybridInferencer
from hybridcls.compat.torch_compiler import compiler_counts, is_compiled, missing_for_inductor

LORA = dict(CNN, lora_rank=2)
COMPILED = InferenceSettings(compile='eager')


@pytest.mark.parametrize('backbone', [CNN, LORA])
def test_compiled_answers_are_the_same_and_other_sizes_run_without(tmp_path, backbone):
    torch.compiler.reset()
    path, _ = write_checkpoint(tmp_path / 'a.pth', config_of(backbone, LINEAR))
    model = HybridInferencer(path, 'cpu')
    images = list(np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8))
    expected = np.stack([one.scores for one in model(images, workers=0)])
    names = list(model.model.state_dict())
    before = compiler_counts().graphs
    model.network.use(COMPILED, 4)
    assert is_compiled(model.model.backbone.cnn)
    for size in (4, 3, 1, 6):  # full, filled up, more than was compiled for
        found = np.stack([one.scores for one in model(images[:size], workers=0, batch_size=size)])
        np.testing.assert_allclose(found, expected[:size], atol=1e-5)
    assert compiler_counts().graphs == before + 1
    model.network.restore()
    assert not is_compiled(model.model.backbone.cnn)
    assert list(model.model.state_dict()) == names
    np.testing.assert_array_equal(np.stack([one.scores for one in model(images, workers=0)]), expected)


@pytest.mark.nightly
@pytest.mark.parametrize('name', ['compiled', 'compiled+bf16', 'compiled+channels_last+bf16', 'tome=0.1+compiled+bf16'])
def test_inductor_answers_within_what_rounds(tmp_path, name):
    if missing_for_inductor('cpu'):
        pytest.skip(missing_for_inductor('cpu'))
    torch.compiler.reset()
    path, _ = write_checkpoint(tmp_path / 'a.pth', config_of(VIT, LINEAR))
    model = HybridInferencer(path, 'cpu')
    images = list(np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8))
    settings = InferenceSettings.of_name(name)
    model.network.use(settings.uncompiled)
    expected = np.stack([one.scores for one in model(images, workers=0, batch_size=4)])
    before = compiler_counts()
    model.network.use(settings, 4)
    found = np.stack([one.scores for one in model(images, workers=0, batch_size=4)])
    np.testing.assert_allclose(found, expected, atol=1e-5 if settings.dtype is None else 0.02)
    assert compiler_counts().breaks == before.breaks
