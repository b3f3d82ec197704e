"""Token merging on timm's plain transformers."""

import copy
import io
import threading
from inspect import signature

import pytest
import timm
import torch
from at_night import at_night
from fidelity_checks import assert_faithful

from hybridcls.apis.fidelity.adapter_cases import MERGINGS, plain_transformer
from hybridcls.apis.fidelity.fixed_inputs import photographs
from hybridcls.apis.fidelity.stored_numbers import stored_numbers
from hybridcls.models.adapters import add_token_merging, merged_tokens, remove_token_merging
from hybridcls.models.adapters.merging_blocks import Merging
from hybridcls.models.backbones import HybridBackbone, TimmStream

# name -> prefix tokens: the families of the issue, each with what is special about it.
FAMILIES = {
    'vit_tiny_patch16_224': 1,  # class token
    'deit_tiny_distilled_patch16_224': 2,  # class and distillation token
    'deit3_small_patch16_224': 1,  # LayerScale
    'vit_small_patch14_reg4_dinov2': 5,  # class token, registers, LayerScale
    'vit_base_patch16_siglip_224': 0,  # no class token, pooled by attention
    'vit_medium_patch16_gap_240': 0,  # no class token, pooled by a mean
    'vit_base_patch16_clip_224': 1,  # norm before the blocks
    'test_vit3': 1,  # key norm, mean over the patches beside a class token
    'eva02_tiny_patch14_224': 1,  # rotary positions, q_proj, k_proj, v_proj apart, SwiGLU
    'vit_base_patch16_rope_mixed_224': 1,  # rotary positions of each block
    'vit_small_patch16_dinov3': 5,  # rotary positions, registers
    'beit_base_patch16_224': 1,  # relative position bias
    'eva02_base_patch14_224': 1,  # q, k, v in one layer with a bias apart, norm in the MLP
}


def family(name, **args):
    """A small model of a family, with random weights that let every part matter."""
    patch = 14 if '14' in name else 16
    model = timm.create_model(name, embed_dim=24, depth=3, num_heads=2, num_classes=5, img_size=6 * patch, **args)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for param in model.parameters():
            param.copy_(torch.randn(param.shape, generator=generator) * (0.2 if param.dim() > 1 else 0.3))
    return model.eval(), torch.randn(3, 3, 6 * patch, 6 * patch, generator=generator)


@pytest.mark.parametrize('name', FAMILIES)
@torch.no_grad()
def test_a_ratio_of_zero_and_taking_it_off_change_no_bit(name):
    model, images = family(name)
    assert model.num_prefix_tokens == FAMILIES[name]
    expected = model(images), model.forward_features(images)
    names, kinds = list(model.state_dict()), [type(part) for part in model.modules()]
    off = add_token_merging(model, 0)
    assert torch.equal(model(images), expected[0])
    on = add_token_merging(model, dict(r=4))
    assert list(model.state_dict()) == names
    merged = model(images)
    assert merged.shape == expected[0].shape
    assert not torch.equal(merged, expected[0])
    assert model.forward_features(images).shape == expected[1].shape
    on.undo()
    assert torch.equal(model(images), expected[0])
    off.undo()
    assert torch.equal(model.forward_features(images), expected[1])
    assert [type(part) for part in model.modules()] == kinds
    assert not hasattr(model, 'token_merging')


@pytest.mark.parametrize('name', FAMILIES)
@torch.no_grad()
def test_the_blocks_compute_what_timm_computes_until_something_is_merged(name):
    """What a ratio of 0 does not show, since it leaves the way to timm: our own attention and branches."""
    model, images = family(name)
    add_token_merging(model, 0.1)
    tokens, keywords = model._embed(images)
    for block, words in zip(model.blocks, keywords, strict=True):
        assert torch.equal(
            block(tokens, merging=Merging(0, model.num_prefix_tokens, True), **words), block(tokens, **words)
        )


@pytest.mark.parametrize(('name', 'matters'), [('vit_medium_patch16_gap_240', True), ('vit_tiny_patch16_224', False)])
@torch.no_grad()
def test_the_order_of_what_is_left_matters_without_a_class_token(name, matters):
    model, images = family(name)
    add_token_merging(model, dict(r=4))
    official = model(images)
    add_token_merging(model, dict(r=4), unmerged_order='position')
    assert (model(images) - official).abs().max() > 1e-3 if matters else torch.equal(model(images), official)
    with pytest.raises(ValueError, match=r"TokenMerging: expected unmerged_order to be one of .*, got 'place'"):
        add_token_merging(model, dict(r=4), unmerged_order='place')


@pytest.mark.parametrize('name', FAMILIES)
@torch.no_grad()
def test_equal_tokens_merge_without_a_trace(name):
    """Where all merged tokens are alike, with sizes that weigh, nothing can change: not the prefix, not the pooling.

    Positions are taken away, so that the patches of a grey image are equal.
    """
    model, images = family(name)
    if model.pos_embed is not None:
        model.pos_embed.zero_()
    if getattr(model, 'rope', None) is not None:
        model.rope = None
    for part in model.modules():
        if getattr(part, 'relative_position_bias_table', None) is not None:
            part.relative_position_bias_table[:-3] = 0.7  # between patches; the class token keeps its own
    images = torch.ones_like(images) * 0.3
    expected = model(images)
    merging = add_token_merging(model, 0.5)
    assert merged_tokens(model, images)[-1].tokens.shape[1] == FAMILIES[name] + 5  # of 36 patches
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)
    merging.undo()
    add_token_merging(model, 0.5, proportional_attention=False)
    if FAMILIES[name]:  # else all tokens are equal, and it does not matter how often each is attended to
        assert not torch.allclose(model(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', FAMILIES)
@torch.no_grad()
def test_sizes_and_positions_belong_together(name):
    model, images = family(name)
    add_token_merging(model, [0.5, 0.0, 0.4])
    prefix = FAMILIES[name]
    states = merged_tokens(model, images)
    assert [state.tokens.shape[1] - prefix for state in states] == [18, 18, 11]
    for state in states:
        assert torch.equal(state.merged_index[:, :prefix], torch.arange(prefix).expand(3, -1))
        assert state.merged_index[:, prefix:].min() >= prefix
        for image in range(3):
            counted = state.merged_index[image].bincount(minlength=state.tokens.shape[1])
            assert torch.equal(counted.float(), state.size[image])
    last = states[-1].unmerged()
    assert torch.equal(last[1, prefix + 7], states[-1].tokens[1, states[-1].merged_index[1, prefix + 7]])


@pytest.mark.parametrize('case', MERGINGS)
@torch.no_grad()
def test_equals_the_official_code(case):
    assert_faithful(case)
    if 'without' not in case:  # it is merging that is compared
        plain = plain_transformer(case)(torch.from_numpy(photographs(2, 40))).numpy()
        assert all(abs(plain - logits).max() > 1e-3 for logits in stored_numbers(case).values())


@pytest.mark.parametrize('name', ['vit_small_patch14_reg4_dinov2', 'eva02_tiny_patch14_224', 'beit_base_patch16_224'])
def test_checkpointing_changes_neither_values_nor_gradients(name):
    results = []
    for checkpointing in (False, True):
        model, images = family(name)
        add_token_merging(model, dict(r=5))
        model.set_grad_checkpointing(checkpointing)
        model.train()
        images.requires_grad_()
        out = model(images)
        out.square().sum().backward()
        results.append([out.detach(), images.grad, *(param.grad for param in model.parameters())])
    assert all(grad is not None for grad in results[0])
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['deit_tiny_distilled_patch16_224', 'eva02_tiny_patch14_224', 'beit_base_patch16_224'])
@torch.no_grad()
def test_intermediates_have_their_grid(name):
    model, images = family(name)
    plain = model.forward_intermediates(images, indices=[0, 2], return_prefix_tokens=True, norm=True)
    add_token_merging(model, [0.0, 0.0, 0.5])
    final, found = model.forward_intermediates(images, indices=[0, 2], return_prefix_tokens=True, norm=True)
    for (grid, prefix), (grid_before, prefix_before) in zip(found, plain[1], strict=True):
        assert grid.shape == grid_before.shape == (3, 24, 6, 6)
        assert prefix.shape == prefix_before.shape
    assert torch.equal(found[0][0], plain[1][0][0])  # nothing is merged in the first block
    torch.testing.assert_close(final, model.forward_features(images))
    assert torch.equal(found[1][0].flatten(2).transpose(1, 2), final[:, model.num_prefix_tokens :])
    early = model.forward_intermediates(images, 1, stop_early=True, intermediates_only=True, output_fmt='NLC')
    assert early[0].shape == (3, 36, 24)


@torch.no_grad()
def test_intermediates_as_a_dict():
    model, images = family('vit_tiny_patch16_224')
    plain = model.forward_intermediates(images, output_dict=True, return_prefix_tokens=True)
    add_token_merging(model, 0.2)
    merged = model.forward_intermediates(images, output_dict=True, return_prefix_tokens=True)
    assert {key: len(value) for key, value in merged.items()} == {key: len(value) for key, value in plain.items()}
    assert set(plain) == {'image_intermediates', 'image_intermediates_prefix', 'image_features'}


@torch.no_grad()
def test_a_mask_is_refused():
    model, images = family('vit_tiny_patch16_224')
    add_token_merging(model, 0.2)
    masks = [dict(attn_mask=torch.ones(37, 37))]
    if 'is_causal' in signature(model.forward).parameters:  # timm from 1.0.26 on
        masks.append(dict(is_causal=True))
    for words in masks:
        with pytest.raises(ValueError, match='does not work with merged tokens'):
            model(images, **words)
        with pytest.raises(ValueError, match='does not work with merged tokens'):
            model.forward_intermediates(images, **words)


@torch.no_grad()
def test_patches_may_be_dropped_first():
    for name in ('vit_tiny_patch16_224', 'eva02_tiny_patch14_224', 'vit_base_patch16_rope_mixed_224'):
        model, images = family(name, patch_drop_rate=0.5)
        add_token_merging(model, 0.5)
        assert model.train().forward_features(images).shape == (3, 1 + 18, 24)


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'beit_base_patch16_224', 'eva02_tiny_patch14_224'])
@torch.no_grad()
def test_bfloat16_stays_near_float32(name):
    model, images = family(name)
    add_token_merging(model, dict(r=4))
    expected = model(images)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert (model(images) - expected).norm() < 0.1 * expected.norm()
    assert (model.bfloat16()(images.bfloat16()) - expected).norm() < 0.15 * expected.norm()


@torch.no_grad()
def test_threads_do_not_meet():
    model, images = family('eva02_tiny_patch14_224')
    add_token_merging(model, dict(r=6))
    batches = [images, images.flip(0), images[:1], images.repeat(2, 1, 1, 1)]
    expected = [model(batch) for batch in batches]
    found = [None] * len(batches)

    def work(number):
        with torch.no_grad():
            for _ in range(5):
                found[number] = model(batches[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_copies_and_pickles_merge_and_can_stop():
    model, images = family('deit3_small_patch16_224')
    plain = model(images)
    merging = add_token_merging(model, dict(r=4))
    expected = model(images)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for twin in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert torch.equal(twin(images), expected)
        remove_token_merging(twin)
        assert torch.equal(twin(images), plain)
    merging.undo()
    remove_token_merging(model)  # nothing left to take off


@pytest.mark.slow
@pytest.mark.parametrize(
    'name', at_night(['eva02_tiny_patch14_224', 'beit_base_patch16_224'], 'eva02_tiny_patch14_224')
)
@torch.no_grad()
def test_exports_with_any_number_of_images(name):
    model, images = family(name)
    add_token_merging(model, dict(r=4))
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim('images', min=1, max=512)},))
    for batch in (images, images[:1], images.repeat(3, 1, 1, 1)):
        torch.testing.assert_close(program.module()(batch), model(batch))


@pytest.mark.slow
def test_compiles_in_one_graph():
    model, images = family('vit_small_patch14_reg4_dinov2')
    add_token_merging(model, dict(r=4))
    torch.testing.assert_close(torch.compile(model, backend='eager', fullgraph=True)(images), model(images))


def test_hooks_on_blocks_and_attentions_see_tensors():
    model, images = family('vit_tiny_patch16_224')
    add_token_merging(model, dict(r=4))
    seen = []
    for module in (model.blocks[1], model.blocks[1].attn):
        module.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].shape[1], output.shape[1])))
    model(images)
    assert seen == [(33, 33), (33, 29)]


@pytest.mark.parametrize(
    ('name', 'says'),
    [
        ('test_efficientnet', r'EfficientNet.*vit_\*, deit_\*'),
        ('swinv2_cr_tiny_ns_224', 'attends within windows'),
        ('swin_tiny_patch4_window7_224', r'windows of fixed numbers.*It works on'),
        ('vit_small_patch16_18x2_224', 'ParallelThingsBlock'),
        ('vit_dpwee_patch16_reg1_gap_256', 'no known place'),
    ],
)
def test_what_cannot_merge_says_what_can(name, says):
    if not timm.is_model(name):
        pytest.skip(f'timm {timm.__version__} has no {name}')
    with torch.device('meta'):
        model = timm.create_model(name)
    with pytest.raises(ValueError, match=says):
        add_token_merging(model, 0.1)
    assert not any(hasattr(part, 'token_merging') for part in model.modules())


def test_only_a_merging_transformer_shows_its_tokens():
    with pytest.raises(TypeError, match='add_token_merging'):
        merged_tokens(family('vit_tiny_patch16_224')[0], torch.zeros(1, 3, 96, 96))


def test_it_says_what_it_did():
    stream = TimmStream('test_vit', img_size=64)
    text = str(add_token_merging(stream, dict(r=2)))
    assert text == (
        "token merging ({'r': 2}) in model (VisionTransformer, 6 blocks): 16 patch tokens become 4, "
        '9.0 a block on average, proportional attention'
    )


@pytest.mark.parametrize('output', ['vector', 'tokens', 'map'])
@torch.no_grad()
def test_in_a_stream_shapes_stay(output):
    images = torch.rand(2, 3, 64, 64)
    plain, merging = (
        HybridBackbone(vit=dict(model_name='test_vit', output=output), img_size=64, token_merging_ratio=ratio).eval()
        for ratio in (0.0, 0.3)
    )
    merging.load_state_dict(plain.state_dict())
    assert merging(images)[0].shape == plain(images)[0].shape
    assert not torch.equal(merging(images)[0], plain(images)[0])


def test_a_backbone_without_a_transformer_that_merges():
    with pytest.raises(ValueError, match=r'token_merging_ratio=0.1 .* SwinTransformerV2 .* windows'):
        HybridBackbone(vit=dict(model_name='swinv2_tiny_window8_256'), img_size=256, token_merging_ratio=0.1)
    with pytest.raises(ValueError, match='vit is not given'):
        HybridBackbone(cnn=dict(model_name='test_resnet'), token_merging_ratio=0.1)
    with pytest.raises(ValueError, match=r'expected token_merging_ratio in \[0, 0.5\], got 0.6'):
        HybridBackbone(vit=dict(model_name='test_vit'), img_size=64, token_merging_ratio=0.6)


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('form', ['v1', 'v1.1'])
def test_token_learner_sees_every_patch_of_a_merged_token(form, with_cp):
    backbone = HybridBackbone(
        vit=dict(model_name='test_vit', drop_path_rate=0.0),
        img_size=64,
        token_merging_ratio=0.25,
        with_cp=with_cp,
        token_learner_tokens=dict(num_tokens=3, after_block=2, form=form),
    )
    images, lengths = torch.rand(2, 3, 64, 64), []
    backbone.token_learner.register_forward_hook(lambda module, inputs, output: lengths.append(inputs[0].shape[1]))
    for block in backbone.vit.model.blocks:
        block.mlp.register_forward_hook(lambda module, inputs, output: lengths.append(inputs[0].shape[1]))
    out = backbone(images)[0]
    assert lengths == [13, 10, 16, 4, 4, 4, 4]  # MLPs of two blocks, TokenLearner, the other MLPs
    out.sum().backward()
    assert all(param.grad is not None for param in backbone.parameters())
    twin = copy.deepcopy(backbone)
    torch.testing.assert_close(twin(images)[0], out)
    lengths.clear()
    merging = add_token_merging(backbone, 0.5)  # as TokenMergingHook does
    backbone(images)
    assert lengths == [9, 5, 16, 4, 4, 4, 4]
    merging.undo()
    torch.testing.assert_close(backbone(images)[0], out)


@pytest.mark.parametrize('ratio', [0.2, dict(r=2)])
@torch.no_grad()
def test_summaries_never_merge_whoever_puts_merging_on(ratio):
    """K = 8 and a share of 0.2: one of eight summaries would merge in each later block (9, 8, 7 tokens)."""
    settings = dict(
        vit=dict(model_name='test_vit'), img_size=64, token_learner_tokens=dict(num_tokens=8, after_block=3)
    )
    from_the_start = HybridBackbone(**settings, token_merging_ratio=ratio)
    later = torch.nn.Sequential(HybridBackbone(**settings))  # as TokenMergingHook sees it, inside of a classifier
    add_token_merging(later, ratio)
    for model, backbone in ((from_the_start, from_the_start), (later, later[0]), (copy.deepcopy(later), None)):
        lengths, blocks = [], (backbone or model[0]).vit.model.blocks
        for block in blocks:
            block.mlp.register_forward_hook(
                lambda module, inputs, output, lengths=lengths: lengths.append(inputs[0].shape[1])
            )
        model(torch.rand(1, 3, 64, 64))
        merged_first = [14, 12, 10] if ratio == 0.2 else [15, 13, 11]
        assert lengths == [*merged_first, 9, 9, 9]
    alone = HybridBackbone(**settings).vit.model  # nothing around it that says where merging ends
    assert add_token_merging(alone, ratio, last_block=3)
    assert [alone.token_merging.schedule.tokens(block, 8) for block in (2, 3)] == [1 if ratio == 0.2 else 2, 0]


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'eva02_base_patch14_224', 'beit_base_patch16_224'])
def test_lora_acts_under_merging(name):
    patch = 14 if '14' in name else 16
    backbone = HybridBackbone(
        vit=dict(model_name=name, embed_dim=24, depth=2, num_heads=2, drop_path_rate=0.0),
        img_size=4 * patch,
        lora_rank=2,
        token_merging_ratio=0.25,
    )
    images = torch.rand(2, 3, 4 * patch, 4 * patch)
    assert merged_tokens(backbone.vit.model, images)[-1].tokens.shape[1] == 1 + 9
    backbone(images)[0].square().sum().backward()
    adapters = {name: param for name, param in backbone.named_parameters() if 'lora_B' in name}
    assert len(adapters) >= 8
    assert all(param.grad.abs().max() > 0 for param in adapters.values())


def test_a_second_undo_changes_nothing():
    model, x = timm.create_model('test_vit', img_size=64).eval(), torch.rand(1, 3, 64, 64)
    plain = model(x)
    first = add_token_merging(model, dict(r=2))
    said = str(first)
    first.undo()
    first.undo()
    assert torch.equal(model(x), plain)
    assert str(first) == said  # what was done, not what is
    second = add_token_merging(model, dict(r=3))
    merged = model(x)
    first.undo()  # of the one before: it leaves the second alone
    assert torch.equal(model(x), merged)
    third = add_token_merging(model, dict(r=1))
    remove_token_merging(model)
    third.undo()  # restores the second's
    assert torch.equal(model(x), merged)
    remove_token_merging(model)
    second.undo()
    assert torch.equal(model(x), plain)
