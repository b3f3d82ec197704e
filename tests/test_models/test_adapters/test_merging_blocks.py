"""The bookkeeping of merged tokens, and blocks that are timm's own until something is merged."""

import pytest
import timm
import torch
from timm.models.vision_transformer import Attention, Block

from hybridcls.models.adapters.merging_blocks import MERGING_ATTENTIONS, MERGING_BLOCKS, Merging


def merging_block():
    torch.manual_seed(0)
    block = Block(dim=8, num_heads=2).eval()
    block.__class__, block.attn.__class__ = MERGING_BLOCKS[Block], MERGING_ATTENTIONS[Attention]
    return block


def test_two_steps_and_back():
    merging = Merging(r=1, prefix=1, proportional=True)
    tokens = torch.tensor([[[9.0], [1.0], [2.0], [5.0], [6.0]]])  # a class token and four patches
    metric = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.5, 1.0]]])
    merging.metric = metric
    once = merging.merge(tokens)
    assert sorted(once[0, :, 0].tolist()) == [1.5, 5.0, 6.0, 9.0]
    assert sorted(merging.size.flatten().tolist()) == [1, 1, 1, 2]
    merging.metric = torch.ones(1, 4, 2)
    twice = merging.merge(once)
    assert twice.shape == (1, 3, 1)
    assert merging.size.sum() == 5
    assert twice[0, 0, 0] == 9  # the prefix stays
    # Sizes weigh: the mean over all patches of the start is kept.
    torch.testing.assert_close(merging.undo(twice)[0, 1:].mean(), tokens[0, 1:].mean())
    assert (merging.size, merging.positions) == (None, None)


def test_nothing_to_merge_returns_the_tokens_themselves():
    tokens = torch.rand(1, 4, 2)
    merging = Merging(r=0, prefix=1, proportional=True)
    assert merging.merge(tokens) is tokens
    assert merging.undo(tokens) is tokens


def test_a_block_without_the_keyword_is_timms():
    block = merging_block()
    plain = Block(dim=8, num_heads=2).eval()
    plain.load_state_dict(block.state_dict())
    x = torch.rand(2, 5, 8)
    assert torch.equal(block(x), plain(x))
    # With it and nothing merged the values are the same.
    torch.testing.assert_close(block(x, merging=Merging(r=0, prefix=1, proportional=True)), plain(x))


@pytest.mark.parametrize('proportional', [True, False])
def test_attention_to_a_token_of_two_patches_is_that_to_two_equal_tokens(proportional):
    block = merging_block()
    x = torch.rand(1, 4, 8)
    doubled = torch.cat([x, x[:, 3:]], 1)
    merging = Merging(r=0, prefix=1, proportional=proportional, size=torch.tensor([[1.0, 1.0, 1.0, 2.0]]))
    out, expected = block(x, merging=merging), block(doubled)[:, :4]
    assert torch.allclose(out, expected, atol=1e-6) == proportional


def test_every_kind_of_attention_is_in_a_block_that_merges():
    for name in ('test_vit', 'eva02_tiny_patch14_224', 'beit_base_patch16_224'):
        model = timm.create_model(name, depth=1) if name != 'test_vit' else timm.create_model(name)
        assert type(model.blocks[0]) in MERGING_BLOCKS
        assert type(model.blocks[0].attn) in MERGING_ATTENTIONS
