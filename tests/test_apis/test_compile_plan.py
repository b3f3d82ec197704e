"""Compiling is decided by the images that are left, proved on the batch that both answer, and undone where it fails."""

import numpy as np
import pytest
import torch
from trained_checkpoints import CNN, LINEAR, VIT, config_of, write_checkpoint

from hybridcls.apis import compile_plan, inferencer
from hybridcls.apis.compile_times import note_seconds
from hybridcls.apis.inference_settings import InferenceSettings
from hybridcls.apis.inferencer import HybridInferencer

AFTER = InferenceSettings('bfloat16', compile='eager')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp('plan') / 'epoch_1.pth', config_of(CNN, LINEAR))[0]


@pytest.fixture(scope='module')
def images():
    return list(np.random.default_rng(0).integers(0, 256, (27, 64, 64, 3), dtype=np.uint8))


@pytest.fixture(scope='module')
def expected(checkpoint, images):
    return np.stack([one.scores for one in HybridInferencer(checkpoint, 'cpu')(images, workers=0)])


@pytest.fixture
def fast(checkpoint, monkeypatch):
    """A fast inferencer that compiles by dynamo's plainest backend, and what it says."""
    torch.compiler.reset()
    monkeypatch.setattr(inferencer, 'fast_settings', lambda device, flags: (AFTER, ''))
    monkeypatch.setattr(compile_plan, 'estimated_compile_seconds', lambda model: 0.0)
    said = []
    return HybridInferencer(checkpoint, 'cpu', fast=True, tell=said.append), said


def scores_of(answers):
    return np.stack([one.scores for one in answers])


def test_few_images_are_not_worth_it(fast, images, expected, monkeypatch):
    model, said = fast
    monkeypatch.setattr(compile_plan, 'estimated_compile_seconds', lambda model: 1e4)
    monkeypatch.setattr(compile_plan.CompilePlan, '_note_load', lambda *args: None)
    answers = model(images, workers=0)
    np.testing.assert_array_equal(scores_of(answers), expected)
    assert [text for text in said if 'not compiled (eager)' in text and 'about 10000 s' in text]
    assert answers.inference['compiled'] is False


def test_images_that_cannot_be_read_are_not_left(fast, images):
    model, said = fast
    answers = model([images[0], b'no image', images[1]], workers=0, batch_size=4, on_unreadable='skip')
    assert len(list(answers)) == 2
    assert 'no images are left' in said[-1]


def test_many_are_and_a_smaller_last_batch_compiles_nothing_again(fast, images, expected, monkeypatch):
    model, _said = fast
    sizes = []
    monkeypatch.setattr(compile_plan.CompilePlan, '_go_back', lambda self, why: None)  # it is not faster here
    model.model.backbone.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    answers = model(images, workers=0, batch_size=4)
    found = scores_of(answers)
    assert sizes == [4, 4, 4, 4, 4, 4, 4, 4]  # 27 images and the third batch twice; the last one is filled up
    np.testing.assert_array_equal(found[:12], expected[:12])
    assert 0 < np.abs(found[12:] - expected[12:]).max() < 0.02  # bfloat16
    facts = answers.inference
    assert (facts['settings'], facts['graphs'], facts['graph_breaks']) == ('compiled+bf16', 1, 0)
    assert 0 < facts['largest_change'] < compile_plan.TOLERANCE
    assert facts['compared_images'] == 4
    before = compile_plan.compiler_counts().graphs
    scores_of(model(images[:7], workers=0, batch_size=4))  # a second call finds it compiled
    assert compile_plan.compiler_counts().graphs == before


def test_what_it_took_before_decides(checkpoint, images, monkeypatch, tmp_path):
    monkeypatch.setattr(inferencer, 'fast_settings', lambda device, flags: (InferenceSettings(compile=True), ''))
    monkeypatch.setattr(compile_plan, 'estimated_compile_seconds', lambda model: 1e5)
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path))
    model = HybridInferencer(checkpoint, 'cpu', fast=True, tell=[].append)
    expected = []
    for _ in range(2):
        answers = model(images, workers=0, batch_size=4)
        list(answers)
        expected.append(answers.inference['estimated_compile_seconds'])
        note_seconds(answers.plan._key, 2000.0)  # stands for a compilation of before
    assert expected[0] >= 1e5
    assert 1200 <= expected[1] <= 12001  # on a busy machine up to ten times as long


def test_it_goes_back_where_it_is_not_faster(fast, images, expected, monkeypatch):
    model, said = fast
    monkeypatch.setattr(compile_plan.CompilePlan, '_timed', _as_slow_as_said(model))
    answers = model(images, workers=0, batch_size=4)
    found = scores_of(answers)
    assert said[-1] == 'fast: not compiled (eager): compiled 500.0 ms an image, without 250.0 ms.'
    np.testing.assert_array_equal(found[-7:], expected[-7:])
    assert model.network.settings == InferenceSettings()


def _as_slow_as_said(model):
    def timed(self, packed):
        return model.network.predict(packed), 2.0 if model.network.settings.compile else 1.0

    return timed


def test_it_goes_back_where_answers_move(fast, images, expected, monkeypatch):
    model, said = fast
    monkeypatch.setattr(compile_plan, 'TOLERANCE', 1e-9)
    np.testing.assert_array_equal(scores_of(model(images, workers=0, batch_size=4)), expected)
    assert 'of 4 images that were answered by both a probability moves by' in said[-1]


def test_it_goes_back_where_compiling_fails(checkpoint, images, expected, monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError('no idea')

    from torch._dynamo import register_backend

    register_backend(broken, 'broken_here')
    settings = InferenceSettings('bfloat16', compile='broken_here')
    monkeypatch.setattr(inferencer, 'fast_settings', lambda device, flags: (settings, ''))
    monkeypatch.setattr(compile_plan, 'estimated_compile_seconds', lambda model: 0.0)
    monkeypatch.setattr('hybridcls.apis.prepared_network.check_compiler', lambda device, backend: None)
    torch.compiler.reset()
    said = []
    model = HybridInferencer(checkpoint, 'cpu', fast=True, tell=said.append)
    np.testing.assert_array_equal(scores_of(model(images, workers=0, batch_size=4)), expected)
    assert said[-1] == "fast: not compiled (eager): torch.compile's backend fails."


@pytest.mark.parametrize('off', ['no compiler', 'switched off'])
def test_what_is_missing_is_told_instead_of_compiling(checkpoint, images, expected, monkeypatch, off):
    where = 'hybridcls.models.backbones.compiled_streams'
    monkeypatch.setattr(f'{where}.missing_for_inductor', lambda device_type: 'a C++ compiler (`apt-get install g++`)')
    monkeypatch.setattr(
        inferencer, 'fast_settings', lambda device, flags: (InferenceSettings('bfloat16', False, True), '')
    )
    monkeypatch.setattr(compile_plan, 'estimated_compile_seconds', lambda model: 0.0)
    said = []
    model = HybridInferencer(checkpoint, 'cpu', fast=True, tell=said.append)
    with torch._dynamo.config.patch(disable=off == 'switched off'):
        np.testing.assert_array_equal(scores_of(model(images, workers=0, batch_size=4)), expected)
    why = (
        'needs a C++ compiler (`apt-get install g++`)' if off == 'no compiler' else 'is switched off by TORCH_COMPILE_'
    )
    assert len(said) == 1
    assert said[0].startswith(f'fast: not compiled (eager): torch.compile {why}')


def test_a_stream_of_unknown_length_compiles_after_as_much_time(fast, images, monkeypatch):
    model, said = fast
    monkeypatch.setattr(compile_plan, 'estimated_compile_seconds', lambda model: 4.5)
    monkeypatch.setattr(compile_plan.CompilePlan, '_note_load', lambda *args: None)
    monkeypatch.setattr(compile_plan.CompilePlan, '_timed', _as_slow_as_said(model))
    done = []
    answers = model(iter(images), workers=0, batch_size=4)
    for batch in answers.batches():
        done.append(len(batch))
        if any('fast: compiling' in text for text in said):
            break
    assert len(done) == 5  # of 1 s each


def test_the_calibration_of_another_precision_is_named(fast):
    model, _ = fast

    class Found:
        class calibration:
            precision = 'float32'

    model.calibration = Found
    plan = model.plan(4, 100)
    assert 'was made in float32' in plan._caution
    assert 'guarantee nothing' in plan._caution


def test_machines_without_bfloat16_stay_as_they_are(checkpoint, monkeypatch):
    monkeypatch.setattr(inferencer, 'cpu_flags', lambda: ('avx2',))
    said = []
    model = HybridInferencer(checkpoint, 'cpu', fast=True, tell=said.append)
    assert said == ['fast: no change, still eager: this CPU has neither avx512_bf16 nor amx_bf16.']
    assert model.plan(4, 10**6) is None
    assert compile_plan.fast_settings(torch.device('cpu'), ('amx_bf16',))[0].name == 'compiled+bf16'
    assert compile_plan.fast_settings(torch.device('mps'), ())[0] is None


@pytest.mark.parametrize(('flags', 'wanted'), [(('avx512_bf16',), 'tome=0.3+compiled+bf16'), ((), 'tome=0.3')])
def test_what_the_config_says_stays(tmp_path, monkeypatch, flags, wanted):
    monkeypatch.setattr(inferencer, 'cpu_flags', lambda: flags)
    path, _ = write_checkpoint(tmp_path / 'a.pth', config_of(VIT, LINEAR, inference=dict(token_merging_ratio=0.3)))
    model = HybridInferencer(path, 'cpu', fast=True, tell=[].append)
    assert (model.network.settings.name, model.wanted_settings.name) == ('tome=0.3', wanted)


def test_layers_are_what_the_estimate_counts(checkpoint):
    model = HybridInferencer(checkpoint, 'cpu').model
    once = compile_plan.estimated_compile_seconds(model) - 10
    layers = sum(not list(one.children()) for one in model.backbone.cnn.modules())
    assert once == pytest.approx(0.1 * layers)


def test_tokens_merge_by_the_key_and_not_without(tmp_path):
    cfg = config_of(VIT, LINEAR)
    path, _ = write_checkpoint(tmp_path / 'a.pth', cfg)
    model = HybridInferencer(path, 'cpu')
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    plain = model.predict(image).scores
    model.network.use(InferenceSettings(token_merging_ratio=0.3))
    assert np.abs(model.predict(image).scores - plain).max() > 1e-6
    model.network.use(InferenceSettings(channels_last=True))
    np.testing.assert_allclose(model.predict(image).scores, plain, atol=1e-5)
    model.network.restore()
    np.testing.assert_array_equal(model.predict(image).scores, plain)
