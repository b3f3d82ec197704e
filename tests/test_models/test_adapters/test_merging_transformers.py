"""A transformer that merges: the walk through its blocks, and features with the shapes of before."""

import pytest
import timm
import torch

from hybridcls.models.adapters import add_token_merging
from hybridcls.models.adapters.merging_transformers import MERGING_TRANSFORMERS, MergedTokens, MergingTransformer

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def model():
    torch.manual_seed(0)
    return timm.create_model('test_vit', img_size=64, num_classes=0).eval()


def test_tokens_become_fewer_block_by_block_and_their_sizes_add_up():
    merging = model()
    add_token_merging(merging, dict(r=3))
    assert isinstance(merging, MergingTransformer)
    assert type(merging) in MERGING_TRANSFORMERS.values()
    walk = list(merging.merged_tokens(IMAGES))
    prefix = merging.num_prefix_tokens
    patches = [merged.tokens.shape[1] - prefix for merged in walk]
    assert patches[:4] == [13, 10, 7, 4]
    for merged in walk:
        assert (merged.size.sum(1) == 16 + prefix).all()
        assert merged.unmerged().shape[1] == 16 + prefix
        # Each token of the start has the value of the token that it is in.
        counts = torch.stack([row.bincount(minlength=merged.tokens.shape[1]) for row in merged.positions])
        torch.testing.assert_close(counts.float(), merged.size.squeeze(-1).float())


def test_features_keep_their_shape_and_are_the_unmerged_last_tokens():
    merging = model()
    add_token_merging(merging, dict(r=3))
    features = merging.forward_features(IMAGES)
    assert features.shape == model().forward_features(IMAGES).shape
    *_, last = merging.merged_tokens(IMAGES)
    torch.testing.assert_close(features, last.unmerged(merging.norm(last.tokens)))


def test_tokens_that_were_not_merged_are_their_own_unmerged():
    tokens = torch.rand(1, 3, 2)
    assert MergedTokens(tokens).unmerged() is tokens
    positions = torch.tensor([[0, 1, 1, 2]])
    assert torch.equal(MergedTokens(tokens, None, positions).unmerged(), tokens[:, [0, 1, 1, 2]])


def test_masks_are_refused_only_where_something_merges():
    merging = model()
    handle = add_token_merging(merging, dict(r=2))
    with pytest.raises(Exception, match='mask'):
        merging.forward_features(IMAGES, attn_mask=torch.ones(17, 17))
    handle.undo()
    assert torch.equal(merging(IMAGES), model()(IMAGES))
