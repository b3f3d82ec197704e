"""timm's plain transformer blocks and attentions, with token merging between attention and MLP.

Each class is timm's own with one keyword more, ``merging``; called without it, it is timm's own. So an existing block
becomes one of these by its class alone: parameters, hooks and names stay what they are.
"""

from dataclasses import dataclass
from typing import Any, Optional

import torch
import torch.nn.functional as F
from timm.layers import Attention, AttentionRope, apply_rot_embed_cat
from timm.models import beit, eva, vision_transformer
from torch import Tensor, nn

from hybridcls.functional.tokens.token_matching import (
    match_tokens,
    merge_tokens,
    merged_index_after,
    proportional_bias,
    unmerge_tokens,
)

__all__ = ['MERGING_ATTENTIONS', 'MERGING_BLOCKS', 'Merging']


@dataclass
class Merging:
    """The state of token merging in one forward pass: the merges so far, and the number of tokens to merge next.

    Args:
        r (int): Tokens to merge in this block.
        prefix (int): Tokens at the start that are never merged.
        proportional (bool): Whether attention sees a token as often as it has patches.
        unmerged_order (str): See :func:`match_tokens`.
        size (Tensor, optional): ``(B, N)``, patches a token. None: one each, nothing has been merged yet.
        merged_index (Tensor, optional): ``(B, N0)``, the index of the token that each token of the start is in now.
        representative (Tensor, optional): ``(B, N)``, the token of the start that stands for each token where positions
            matter: the one that the others have joined.
        metric (Tensor, optional): ``(B, N, D)``, the mean of the keys over the heads, left by this block's attention.
    """

    r: int
    prefix: int
    proportional: bool
    unmerged_order: str = 'official'
    size: Optional[Tensor] = None
    merged_index: Optional[Tensor] = None
    representative: Optional[Tensor] = None
    metric: Optional[Tensor] = None

    def merge(self, tokens: Tensor) -> Tensor:
        """Merge the most similar tokens by the metric."""
        if not self.r:
            return tokens
        plan = match_tokens(self.metric, self.r, self.prefix, self.unmerged_order)  # type: ignore[arg-type]
        self.metric = None
        tokens, self.size = merge_tokens(tokens, plan, self.size)
        moved = merged_index_after(plan)
        self.merged_index = moved if self.merged_index is None else moved.gather(1, self.merged_index)
        self.representative = plan.kept if self.representative is None else self.representative.gather(1, plan.kept)
        return tokens

    def undo(self, tokens: Tensor) -> Tensor:
        """Unmerge: give every original token its value, and clear the state."""
        if self.merged_index is not None:
            tokens = unmerge_tokens(tokens, self.merged_index)
        self.size = self.merged_index = self.representative = None
        return tokens


class _MergingAttention:
    """Attention over tokens of different sizes, which stores the mean of its keys."""

    def forward(self, x: Tensor, *args: Any, merging: Optional[Merging] = None, **kwargs: Any) -> Tensor:
        """Attend as timm does; with ``merging``, each token is weighted by its number of patches."""
        if merging is None:
            return super().forward(x, *args, **kwargs)  # type: ignore[misc]
        return _attend(self, x, merging, **kwargs)


def _attend(
    attn: Any, x: Tensor, merging: Merging, rope: Optional[Tensor] = None, shared_rel_pos_bias: Optional[Tensor] = None
) -> Tensor:
    """Compute any of timm's four attentions; parts that one of them lacks are skipped.

    No ``attn_mask``: the transformer above refuses masks.
    """
    gate = attn.gate(x).sigmoid() if getattr(attn, 'gate', None) is not None else None
    queries, keys, values = _queries_keys_values(attn, x)
    if hasattr(attn, 'q_norm'):
        queries, keys = attn.q_norm(queries), attn.k_norm(keys)
    if merging.r:
        merging.metric = keys.detach().mean(dim=1)
    if rope is not None:
        rope = _rope_at(rope, merging.representative, attn.num_prefix_tokens)
        queries, keys = (_rotate(rows, rope, attn).type_as(values) for rows in (queries, keys))
    groups = getattr(attn, 'num_kv_groups', 1)
    if groups > 1:
        keys, values = (rows.repeat_interleave(groups, dim=1) for rows in (keys, values))
    bias = _relative_bias(attn, shared_rel_pos_bias, merging.representative)
    if merging.proportional and merging.size is not None:
        log_size = proportional_bias(merging.size, queries.dtype)
        bias = log_size if bias is None else bias + log_size
    dropout = attn.attn_drop.p if attn.training else 0.0
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, dropout_p=dropout)
    out = out.transpose(1, 2).flatten(2)
    if hasattr(attn, 'norm'):
        out = attn.norm(out)
    if gate is not None:
        out = out * gate
    return attn.proj_drop(attn.proj(out))


def _queries_keys_values(attn: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values, three ``(B, heads, N, D)``."""
    if attn.qkv is None:
        return tuple(
            layer(x).unflatten(-1, (heads, -1)).transpose(1, 2)
            for layer, heads in (
                (attn.q_proj, attn.num_heads),
                (attn.k_proj, getattr(attn, 'num_kv_heads', attn.num_heads)),
                (attn.v_proj, getattr(attn, 'num_kv_heads', attn.num_heads)),
            )
        )  # type: ignore[return-value]
    if getattr(attn, 'q_bias', None) is None:
        qkv = attn.qkv(x)
    else:
        bias = torch.cat((attn.q_bias, attn.k_bias, attn.v_bias))
        # As timm: only a separate bias lets a layer in the place of the linear one (LoRA) do something of its own.
        qkv = attn.qkv(x) + bias if attn.qkv_bias_separate else F.linear(x, attn.qkv.weight, bias)
    queries, keys, values = qkv.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    return queries, keys, values


def _rotate(rows: Tensor, rope: Tensor, attn: Any) -> Tensor:
    """Apply the rotary embedding to the patches' queries or keys, not to those of prefix tokens."""
    prefix = attn.num_prefix_tokens
    turned = apply_rot_embed_cat(rows[:, :, prefix:], rope, half=getattr(attn, 'rotate_half', False))
    return torch.cat([rows[:, :, :prefix], turned], dim=2)


def _rope_at(rope: Tensor, representative: Optional[Tensor], prefix: int) -> Tensor:
    """Return each token's rotary embedding: ``(N0, D)``, or with heads or images first, -> ``(B, 1|H, N, D)``."""
    if representative is None:
        return rope
    patches = representative[:, prefix:] - prefix
    if rope.dim() == 4:  # each image has its own, since patches were dropped
        return rope.gather(2, patches[:, None, :, None].expand(-1, rope.shape[1], -1, rope.shape[3]))
    if rope.dim() == 2:
        rope = rope[None]
    return rope.index_select(1, patches.flatten()).unflatten(1, patches.shape).transpose(0, 1)


def _relative_bias(attn: Any, shared: Optional[Tensor], representative: Optional[Tensor]) -> Optional[Tensor]:
    """Return the position bias between the tokens' representatives: ``(1|B, heads, N, N)``, or None without one."""
    own = attn._get_rel_pos_bias() if getattr(attn, 'relative_position_bias_table', None) is not None else None
    bias = shared if own is None else own if shared is None else own + shared
    if bias is None or representative is None:
        return bias
    heads, length = bias.shape[-3], bias.shape[-1]
    pairs = representative[:, :, None] * length + representative[:, None, :]  # (B, N, N)
    return bias.reshape(heads, -1).index_select(1, pairs.flatten()).unflatten(1, pairs.shape).transpose(0, 1)


class _MergingBlock:
    """A transformer block: attention, token merging, MLP."""

    drop_path1: Any
    drop_path2: Any
    _attention_branch: Any
    _mlp_branch: Any

    def forward(self, x: Tensor, *args: Any, merging: Optional[Merging] = None, **kwargs: Any) -> Tensor:
        """Compute as timm does; with ``merging``, merge tokens between attention and MLP."""
        if merging is None:
            return super().forward(x, *args, **kwargs)  # type: ignore[misc]
        x = x + self.drop_path1(self._attention_branch(x, merging=merging, **kwargs))
        x = merging.merge(x)
        return x + self.drop_path2(self._mlp_branch(x))


class _MergingVitBlock(_MergingBlock, vision_transformer.Block):
    def _attention_branch(self, x: Tensor, **kwargs: Any) -> Tensor:
        return self.ls1(self.attn(self.norm1(x), **kwargs))

    def _mlp_branch(self, x: Tensor) -> Tensor:
        return self.ls2(self.mlp(self.norm2(x)))


class _MergingResPostBlock(_MergingBlock, vision_transformer.ResPostBlock):
    def _attention_branch(self, x: Tensor, **kwargs: Any) -> Tensor:
        return self.norm1(self.attn(x, **kwargs))

    def _mlp_branch(self, x: Tensor) -> Tensor:
        return self.norm2(self.mlp(x))


class _MergingEvaBlock(_MergingBlock, eva.EvaBlock):
    def _attention_branch(self, x: Tensor, **kwargs: Any) -> Tensor:
        return _scaled(self.gamma_1, self.attn(self.norm1(x), **kwargs))

    def _mlp_branch(self, x: Tensor) -> Tensor:
        return _scaled(self.gamma_2, self.mlp(self.norm2(x)))


class _MergingEvaBlockPostNorm(_MergingBlock, eva.EvaBlockPostNorm):
    def _attention_branch(self, x: Tensor, **kwargs: Any) -> Tensor:
        return self.norm1(self.attn(x, **kwargs))

    def _mlp_branch(self, x: Tensor) -> Tensor:
        return self.norm2(self.mlp(x))


class _MergingBeitBlock(_MergingBlock, beit.Block):
    def _attention_branch(self, x: Tensor, **kwargs: Any) -> Tensor:
        return _scaled(self.gamma_1, self.attn(self.norm1(x), **kwargs))

    def _mlp_branch(self, x: Tensor) -> Tensor:
        return _scaled(self.gamma_2, self.mlp(self.norm2(x)))


def _scaled(gamma: Optional[Tensor], branch: Tensor) -> Tensor:
    return branch if gamma is None else gamma * branch


class _MergingVitAttention(_MergingAttention, Attention):
    pass


class _MergingAttentionRope(_MergingAttention, AttentionRope):
    pass


class _MergingEvaAttention(_MergingAttention, eva.EvaAttention):
    pass


class _MergingBeitAttention(_MergingAttention, beit.Attention):
    pass


MERGING_BLOCKS: dict[type[nn.Module], type[nn.Module]] = {
    vision_transformer.Block: _MergingVitBlock,
    vision_transformer.ResPostBlock: _MergingResPostBlock,
    eva.EvaBlock: _MergingEvaBlock,
    eva.EvaBlockPostNorm: _MergingEvaBlockPostNorm,
    beit.Block: _MergingBeitBlock,
}
MERGING_ATTENTIONS: dict[type[nn.Module], type[nn.Module]] = {
    Attention: _MergingVitAttention,
    AttentionRope: _MergingAttentionRope,
    eva.EvaAttention: _MergingEvaAttention,
    beit.Attention: _MergingBeitAttention,
}
