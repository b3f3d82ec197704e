"""Settings are put on a model in place, a compiled one meets one size of batch, and all of it comes off again."""

import numpy as np
import pytest
import torch
from exportable_models import HEADS, LEVERS, write_case
from mmpretrain.structures import DataSample
from trained_checkpoints import CNN, LINEAR, VIT, config_of, write_checkpoint

from hybridcls.apis.inference_settings import InferenceSettings
from hybridcls.apis.inferencer import HybridInferencer
from hybridcls.compat.torch_compiler import compiler_counts, is_compiled, missing_for_inductor
from hybridcls.models.backbones.compiled_streams import compiled_parts

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
    larger = [dict(inputs=torch.full((3, 96, 64), value, dtype=torch.uint8)) for value in (9, 200)]
    of_larger = [
        one.pred_score for one in model.network.predict([{**one, 'data_samples': DataSample()} for one in larger])
    ]
    before = compiler_counts().graphs
    model.network.use(COMPILED, 4)
    assert is_compiled(model.model.backbone.cnn)
    for size in (4, 3, 1, 6):  # full, filled up, more than was compiled for
        found = np.stack([one.scores for one in model(images[:size], workers=0, batch_size=size)])
        np.testing.assert_allclose(found, expected[:size], atol=1e-5)
    found = model.network.predict([{**one, 'data_samples': DataSample()} for one in larger])
    torch.testing.assert_close([one.pred_score for one in found], of_larger)
    assert compiler_counts().graphs == before + 1
    model.network.restore()
    assert not is_compiled(model.model.backbone.cnn)
    assert list(model.model.state_dict()) == names
    np.testing.assert_array_equal(np.stack([one.scores for one in model(images, workers=0)]), expected)


def test_weights_are_constants_of_what_is_compiled(tmp_path, monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr('hybridcls.apis.prepared_network.compile_streams', lambda model, **options: None)
    monkeypatch.setattr('hybridcls.apis.prepared_network.check_compiler', lambda device, backend: None)
    model = HybridInferencer(write_checkpoint(tmp_path / 'a.pth', config_of(CNN, LINEAR))[0], 'cpu')
    seen = []
    model.model.backbone.register_forward_pre_hook(lambda module, args: seen.append(config.freezing))
    image = np.zeros((64, 64, 3), np.uint8)
    for settings in ('eager', 'compiled+bf16', 'bf16'):
        model.network.use(InferenceSettings.of_name(settings), 1)
        model.predict(image)
    assert seen == [False, True, False]
    assert not config.freezing


@pytest.mark.parametrize('backbone', [CNN, dict(VIT, lora_rank=2)], ids=['plain', 'lora'])
@pytest.mark.parametrize('backend', ['stub', pytest.param('inductor', marks=pytest.mark.nightly)])
def test_compiled_code_does_not_answer_with_weights_of_before(tmp_path, monkeypatch, backend, backbone):
    """Constants are packed when code is compiled; other weights in the same model have to be packed again."""
    if backend == 'inductor' and missing_for_inductor('cpu'):
        pytest.skip(missing_for_inductor('cpu'))
    if backend == 'stub':
        monkeypatch.setattr('hybridcls.apis.prepared_network.compile_streams', lambda model, **options: None)
        monkeypatch.setattr('hybridcls.apis.prepared_network.check_compiler', lambda device, backend: None)
    resets, reset = [], torch.compiler.reset
    monkeypatch.setattr('torch.compiler.reset', lambda: (resets.append(1), reset()))
    if 'lora_rank' in backbone:
        pytest.importorskip('peft', reason="needs PEFT: pip install 'hybridcls[lora]'")
    model = HybridInferencer(write_checkpoint(tmp_path / 'a.pth', config_of(backbone, LINEAR))[0], 'cpu')
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    changed = 'lora_B' if 'lora_rank' in backbone else ''
    other = {name: 1.5 * value for name, value in model.model.state_dict().items() if changed in name}
    counts = []

    def check():
        found = model.predict(image).scores
        counts.append(len(resets))
        model.network.restore()
        np.testing.assert_allclose(found, model.predict(image).scores, atol=1e-6)
        model.network.use(InferenceSettings(compile=True), 1)

    model.network.use(InferenceSettings(compile=True), 1)
    check()
    check()  # compiled before, and nothing was written
    if changed:
        model.network.restore()
        model.model.load_state_dict(other, strict=False)
        model.network.use(InferenceSettings(compile=True), 1)
    else:
        model.model.load_state_dict(other)
    check()
    check()
    assert counts == [0, 0, 1, 1]


def _fields(samples):
    """All numbers of predictions, by name."""
    found = {}
    for name in samples[0].all_keys():
        values = [sample.get(name) for sample in samples]
        if isinstance(values[0], torch.Tensor) and values[0].is_floating_point():
            found[name] = torch.stack(values).float()
    return found


_KINDS = {**HEADS, **LEVERS}
_IN_GATE = ('MultiHead', 'TokenLearner v1.1', 'EnsembleClassifier')


@pytest.mark.parametrize(
    'name', [pytest.param(one, marks=() if one in _IN_GATE else pytest.mark.nightly) for one in _KINDS]
)
def test_every_kind_answers_as_without_in_one_graph_a_stream(tmp_path, name):
    case = _KINDS[name]
    if case.extra:
        pytest.importorskip(case.extra)
    if 'random dropout' in case.result:
        pytest.skip('its answers are random')
    torch.compiler.reset()
    path = write_case(tmp_path, case)
    model = HybridInferencer(path, 'cpu')
    images = torch.randint(0, 256, (7, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def answers():
        parts = [images[:4], images[4:]]  # the second one is filled up
        packed = [[dict(inputs=image, data_samples=DataSample()) for image in part] for part in parts]
        return _fields([sample for part in packed for sample in model.network.predict(part)])

    expected = answers()
    before = compiler_counts()
    model.network.use(COMPILED, 4)
    found = answers()
    assert {'pred_score', 'embedding'} & expected.keys()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    after = compiler_counts()
    alike = 'members' in case.model  # of one architecture, whose weights are inputs by this backend
    assert after.graphs - before.graphs == (1 if alike else len(compiled_parts(model.model)))
    assert after.breaks == before.breaks


@pytest.mark.nightly
def test_members_of_one_architecture_keep_their_own_weights(tmp_path):
    if missing_for_inductor('cpu'):
        pytest.skip(missing_for_inductor('cpu'))
    torch.compiler.reset()
    model = HybridInferencer(write_case(tmp_path, LEVERS['EnsembleClassifier']), 'cpu')
    images = list(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))
    expected = np.stack([one.scores for one in model(images, workers=0)])
    before = compiler_counts().graphs
    model.network.use(InferenceSettings(compile=True), 2)
    found = np.stack([one.scores for one in model(images, workers=0, batch_size=2)])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert compiler_counts().graphs - before == 2  # the weights of a member are constants of its graph


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
