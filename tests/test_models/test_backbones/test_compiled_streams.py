"""Compiled streams: one graph each, the same numbers, few compilations, names and checkpoints as they were."""

import copy

import pytest
import torch

from hybridcls.compat.torch_compiler import COMPILES_THAWED_WEIGHTS, compiler_counts, is_compiled
from hybridcls.models import HybridBackbone
from hybridcls.models.adapters.token_merging import add_token_merging
from hybridcls.models.backbones import compiled_streams
from hybridcls.models.backbones.compiled_streams import check_compiler, compile_streams

CNN = dict(model_name='test_convnext', depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
VIT = dict(model_name='test_vit', depth=3, embed_dim=32, num_heads=2)
SWIN = dict(model_name='swinv2_tiny_window8_256', window_size=4, embed_dim=8, depths=(1, 1), num_heads=(1, 2))


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()


def run(model, images):
    """Features and gradients."""
    torch.manual_seed(1)  # drop path
    features = model(images)
    sum((feature * torch.linspace(0, 1, feature.numel()).view_as(feature)).sum() for feature in features).backward()
    gradients = [None if param.grad is None else param.grad.clone() for param in model.parameters()]
    model.zero_grad()
    return features, gradients


@pytest.mark.parametrize(
    ('settings', 'backend'),
    [
        pytest.param(
            dict(cnn=CNN, vit=VIT, use_cbam=True, token_learner_tokens=dict(num_tokens=2, after_block=2),
                 token_merging_ratio=0.2, lora_rank=1), 'eager', id='cbam, lora, token merging, token learner'),
        pytest.param(
            dict(cnn=dict(model_name='test_resnet'), vit=SWIN, token_learner_tokens=2, norm_eval=True), 'eager',
            id='windows', marks=pytest.mark.nightly),
        pytest.param(dict(vit=dict(VIT, depth=1), with_cp=True), 'aot_eager', id='activation checkpointing'),
        pytest.param(dict(cnn=dict(model_name='test_resnet', out_indices=(1, 2)), use_cbam=True), 'eager', id='maps'),
        pytest.param(
            dict(cnn=CNN, vit=dict(SWIN, drop_path_rate=0.0)), 'inductor', id='inductor', marks=pytest.mark.nightly),
    ],
)  # fmt: skip
def test_a_stream_is_one_graph_with_the_same_numbers(settings, backend):
    if 'lora_rank' in settings:
        pytest.importorskip('peft', reason="needs PEFT: pip install 'hybridcls[lora]'")
    torch.manual_seed(0)
    model = HybridBackbone(img_size=32, **settings).train()
    images, names = torch.rand(3, 3, 32, 32), list(model.state_dict())
    features, gradients = run(model, images)
    before = compiler_counts()
    compiled = compile_streams(model, backend=backend, fullgraph=True)  # a break is an error that names the line
    assert compiled == list(model.stream_names)
    found, found_gradients = run(model, images)
    exact = dict(rtol=0, atol=0) if backend != 'inductor' else dict(rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, features, **exact)
    for own, expected in zip(found_gradients, gradients, strict=True):
        torch.testing.assert_close(own, expected, **exact)
    after = compiler_counts()
    assert after.breaks == before.breaks
    assert after.graphs - before.graphs == len(compiled)
    assert list(model.state_dict()) == names


def test_what_is_compiled_again_and_what_is_not():
    """Other sizes of batches, evaluation, frozen weights and other merging, each once, in whatever order."""
    model = HybridBackbone(vit=VIT, img_size=32)
    compile_streams(model, backend='eager')
    graphs = []

    def after(size, gradient=True):
        start = compiler_counts().graphs
        with torch.set_grad_enabled(gradient):
            model(torch.rand(size, 3, 32, 32))
        graphs.append(compiler_counts().graphs - start)

    for _ in range(3):  # epochs: the last batch is smaller, and so is that of the validation, where tokens merge
        for size in (4, 4, 3):
            after(size)
        model.eval()
        merging = add_token_merging(model, 0.2)
        for size in (6, 5):
            after(size, gradient=False)
        merging.undo()
        model.train()
    assert graphs == [1, 0, 1, 1, 0] + [0] * 10
    if not COMPILES_THAWED_WEIGHTS:
        return  # a training refuses it
    graphs.clear()
    for param in list(model.parameters())[:-2]:  # HeadFirstHook
        param.requires_grad_(False)
    after(4)
    after(2)
    assert graphs == [1, 0]


def test_images_of_several_sizes(capsys, monkeypatch):
    """A CNN's graph takes any size; a transformer whose positions are resampled needs one each, up to the limit."""
    if not COMPILES_THAWED_WEIGHTS:  # no training compiles there
        with pytest.raises(ValueError, match='a torch whose compile takes recompile_limit'):
            compile_streams(HybridBackbone(cnn=dict(model_name='test_resnet')), recompile_limit=3)
        return
    said = []
    monkeypatch.setattr(compiled_streams, 'print_log', lambda text, *where: said.append(text))
    torch.manual_seed(0)
    vit = dict(VIT, depth=1, dynamic_img_size=True, drop_path_rate=0.0)
    for name, stream in (('cnn', dict(model_name='test_resnet')), ('vit', vit)):  # each has a limit of its own
        model, graphs = HybridBackbone(img_size=32, **{name: stream}).eval(), []
        sizes = ((2, 32), (2, 64), (3, 64), (2, 96), (4, 128), (2, 32))
        batches = [torch.rand(count, 3, size, size) for count, size in sizes]
        plain = [run(model, images) for images in batches]
        compile_streams(model, backend='eager', recompile_limit=3)
        for images, (features, gradients) in zip(batches, plain, strict=True):
            before = compiler_counts().graphs
            found = run(model, images)
            graphs.append(compiler_counts().graphs - before)
            torch.testing.assert_close(found, (features, gradients), rtol=0, atol=0)
        assert (sum(graphs), graphs[-2:]) == (3, [0, 0])
        assert len(said) == (name == 'vit')
    assert 'a stream has met more than 3 kinds of batches, the last: tensor' in said[0]
    assert 'dynamo hit' not in capsys.readouterr().err


def test_a_copy_is_not_compiled_and_checkpoints_fit_both_ways():
    model = HybridBackbone(vit=VIT, img_size=32)
    state = copy.deepcopy(model.state_dict())
    compile_streams(model, backend='eager')
    model.load_state_dict(state)
    twin = copy.deepcopy(model)
    assert is_compiled(model.vit)
    assert not is_compiled(twin.vit)
    twin.load_state_dict(model.state_dict())


def test_a_registered_backbone_and_a_model_without_one():
    model = torch.nn.Module()
    model.backbone = torch.nn.Linear(2, 2)
    assert compile_streams(model, backend='eager') == ['backbone']
    assert is_compiled(model.backbone)
    with pytest.raises(ValueError, match='expected a model with streams or a backbone, got Linear'):
        compile_streams(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"got 'mod'\. Did you mean 'mode'"):
        compile_streams(model, mod='max-autotune')


def test_a_backend_that_draws_other_numbers_the_second_time_is_refused():
    """torch's eager backend recomputes activations with another stochastic depth: gradients of something else."""
    with pytest.raises(ValueError, match=r"backend='eager' .* activation checkpointing .* Take 'aot_eager'"):
        compile_streams(HybridBackbone(vit=VIT, img_size=32, with_cp=True), backend='eager')


def test_a_compiler_that_is_missing_is_one_sentence(monkeypatch):
    monkeypatch.setattr(compiled_streams, 'missing_for_inductor', lambda device_type: 'a C++ compiler (`apt-get ...`)')
    with pytest.raises(ImportError, match=r'torch\.compile needs a C\+\+ compiler .*\. Without it, do not compile'):
        check_compiler('cpu')
    check_compiler('cpu', 'eager')
    check_compiler('cpu', lambda graph, inputs: graph)
