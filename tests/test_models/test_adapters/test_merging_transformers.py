"""A transformer that merges keeps timm's forms, and gives every patch the value of the token that it is in."""

import pytest
import timm
import torch

from hybridcls.models.adapters import add_token_merging
from hybridcls.models.adapters.merging_transformers import MERGING_TRANSFORMERS, MergedTokens


@pytest.fixture(scope='module')
def pair():
    torch.manual_seed(0)
    plain = timm.create_model('deit_tiny_distilled_patch16_224', img_size=64, embed_dim=24, depth=3, num_heads=2).eval()
    merging = timm.create_model(
        'deit_tiny_distilled_patch16_224', img_size=64, embed_dim=24, depth=3, num_heads=2
    ).eval()
    merging.load_state_dict(plain.state_dict())
    add_token_merging(merging, dict(r=4))
    return plain, merging, torch.randn(2, 3, 64, 64)


def test_each_class_is_timms():
    for theirs, ours in MERGING_TRANSFORMERS.items():
        assert issubclass(ours, theirs)
        assert theirs.__module__.startswith('timm.')


def test_unmerged_tokens_are_looked_up():
    tokens = torch.arange(6.0).reshape(1, 3, 2)
    positions = torch.tensor([[0, 2, 2, 1]])
    assert torch.equal(MergedTokens(tokens, merged_index=positions).unmerged(), tokens[:, [0, 2, 2, 1]])
    assert MergedTokens(tokens).unmerged() is tokens


@torch.no_grad()
def test_each_block_merges_four_and_sizes_add_up(pair):
    _, merging, images = pair
    walked = list(merging.merged_tokens(images))
    assert [merged.tokens.shape[1] for merged in walked] == [2 + 12, 2 + 8, 2 + 4]
    for merged in walked:
        assert torch.equal(merged.size.sum(1), torch.tensor([18.0, 18.0]))
        counts = torch.stack([row.bincount(minlength=merged.tokens.shape[1]) for row in merged.merged_index])
        assert torch.equal(counts.float(), merged.size)
        assert torch.equal(merged.merged_index[:, :2], torch.tensor([[0, 1]] * 2))  # the prefix merges with nothing


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(indices=[0, 2], norm=True),
        dict(indices=1, stop_early=True, intermediates_only=True),
        dict(return_prefix_tokens=True, output_fmt='NLC'),
        dict(output_dict=True, return_prefix_tokens=True),
    ],
)
@torch.no_grad()
def test_intermediates_have_timms_forms(pair, options):
    plain, merging, images = pair

    def shapes(found):
        if isinstance(found, dict):
            return {key: shapes(value) for key, value in found.items()}
        return found.shape if isinstance(found, torch.Tensor) else [shapes(one) for one in found]

    assert shapes(merging.forward_intermediates(images, **options)) == shapes(
        plain.forward_intermediates(images, **options)
    )


@torch.no_grad()
def test_the_last_intermediate_is_the_last_walked(pair):
    _, merging, images = pair
    *_, last = merging.merged_tokens(images)
    final, maps = merging.forward_intermediates(images)
    torch.testing.assert_close(final, last.unmerged(merging.norm(last.tokens)))
    torch.testing.assert_close(maps[-1].flatten(2).transpose(1, 2), last.unmerged()[:, 2:])
    torch.testing.assert_close(merging.forward_features(images), final)


def test_masks_are_refused(pair):
    _, merging, images = pair
    with pytest.raises(ValueError, match='attn_mask does not work with merged tokens'):
        merging.forward_features(images, attn_mask=torch.ones(18, 18))
