"""Blocks that merge, beside timm's own and beside attention over repeated tokens."""

import copy

import pytest
import timm
import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block

from hybridcls.models.adapters.merging_blocks import MERGING_ATTENTIONS, MERGING_BLOCKS, Merging


def merging_block(**args):
    torch.manual_seed(0)
    block = Block(8, 2, qkv_bias=True, **args).double().eval()
    twin = copy.deepcopy(block)
    twin.__class__, twin.attn.__class__ = MERGING_BLOCKS[Block], MERGING_ATTENTIONS[Attention]
    return block, twin


@pytest.mark.parametrize('table', [MERGING_BLOCKS, MERGING_ATTENTIONS])
def test_each_class_is_timms_with_a_keyword_more(table):
    for theirs, ours in table.items():
        assert theirs in ours.__mro__
        assert theirs.__module__.startswith('timm.')


@pytest.mark.parametrize('args', [{}, dict(qk_norm=True), dict(init_values=0.1)])
@torch.no_grad()
def test_without_a_merge_it_is_timms(args):
    block, twin = merging_block(**args)
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    assert torch.equal(twin(x), block(x))
    torch.testing.assert_close(twin(x, merging=Merging(0, 1, True)), block(x))


@torch.no_grad()
def test_a_token_of_size_n_is_attended_to_as_n_equal_ones():
    """Proportional attention: log n on a logit is the same as the token n times."""
    block, twin = merging_block()
    x = torch.randn(1, 4, 8, dtype=torch.float64)
    size = torch.tensor([[1.0, 3.0, 1.0, 2.0]], dtype=torch.float64)
    repeated = x.repeat_interleave(size[0].long(), dim=1)
    first = torch.tensor([0, 1, 4, 5])  # where each of the four begins
    out = twin(x, merging=Merging(0, 1, True, size=size))
    torch.testing.assert_close(out, block(repeated)[:, first])
    assert not torch.allclose(twin(x, merging=Merging(0, 1, False, size=size)), out)


@torch.no_grad()
def test_equal_tokens_merge_and_come_apart_again():
    _, twin = merging_block()
    x = torch.randn(1, 5, 8, dtype=torch.float64)
    x[0, 4] = x[0, 3]
    state = Merging(1, 1, True)
    out = twin(x, merging=state)
    assert out.shape == (1, 4, 8)
    assert sorted(state.size[0].tolist()) == [1, 1, 1, 2]
    assert state.merged_index[0, 3] == state.merged_index[0, 4]
    assert state.metric is None
    whole = state.undo(out)
    assert whole.shape == x.shape
    assert torch.equal(whole[0, 3], whole[0, 4])
    assert state.size is state.merged_index is state.representative is None


def test_the_blocks_of_timms_models_are_known():
    for name in ('vit_tiny_patch16_224', 'eva02_tiny_patch14_224', 'beit_base_patch16_224'):
        with torch.device('meta'):
            model = timm.create_model(name, depth=1)
        assert type(model.blocks[0]) in MERGING_BLOCKS
        assert type(model.blocks[0].attn) in MERGING_ATTENTIONS
