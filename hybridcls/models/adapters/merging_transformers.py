"""timm's plain vision transformers with token merging; their outputs have all tokens again."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

import torch
from timm.models import beit, checkpoint, deit, eva, vision_transformer
from torch import Tensor, nn

from hybridcls.checks import check_choice
from hybridcls.compat.timm import feature_indices
from hybridcls.functional.tokens.token_matching import unmerge_tokens

from .merging_blocks import Merging
from .merging_schedule import MergingSchedule

__all__ = ['MERGING_TRANSFORMERS', 'MergedTokens', 'MergingSettings', 'MergingTransformer']


class MergingSettings(NamedTuple):
    """Settings of token merging: the schedule, proportional attention, and the order of tokens after unmerging."""

    schedule: MergingSchedule
    proportional: bool
    unmerged_order: str = 'official'


class MergedTokens(NamedTuple):
    """The tokens after a block, and the merged token that contains each original one.

    Args:
        tokens (Tensor): ``(B, M, C)``, the prefix tokens first.
        size (Tensor, optional): ``(B, M)``, of how many tokens of the start each is the mean; None: one each.
        merged_index (Tensor, optional): ``(B, N)`` int64 in [0, M): the token that holds each token of the start,
            prefix tokens included; None: itself.
    """

    tokens: Tensor
    size: Optional[Tensor] = None
    merged_index: Optional[Tensor] = None

    @property
    def positions(self) -> Optional[Tensor]:
        """The old name, in version 0.1, of ``merged_index``."""
        return self.merged_index

    def unmerged(self, tokens: Optional[Tensor] = None) -> Tensor:
        """Return these tokens (or others in their place) at the original positions: ``(B, N, C)``."""
        tokens = self.tokens if tokens is None else tokens
        return tokens if self.merged_index is None else unmerge_tokens(tokens, self.merged_index)


class MergingTransformer:
    """Base of the merging transformers, which passes the token sizes through the blocks.

    Nothing is kept on the module from one forward pass to the next. Features leave unmerged: every patch has the value
    of the token that it is in, so that a mean over them (or a maximum, or a pooling by attention) is the size-weighted
    one, and maps have their grid.
    """

    token_merging: MergingSettings
    blocks: Any
    norm: Any
    patch_embed: Any
    num_prefix_tokens: int
    grad_checkpointing: bool
    _embed: Any  # images -> the tokens of the start, and the keywords of each block

    def merged_tokens(self, x: Tensor) -> Iterator[MergedTokens]:
        """Yield the tokens after each block, before the last norm.

        Args:
            x (Tensor): Images ``(B, 3, H, W)``, normalised as the model wants them.

        Returns:
            Iterator[MergedTokens]: One a block.
        """
        schedule, proportional, unmerged_order = self.token_merging
        x, keywords = self._embed(x)
        size = merged_index = representative = None
        for number, block in enumerate(self.blocks):
            r = schedule.tokens(number, x.shape[1] - self.num_prefix_tokens)
            if r == 0 and size is None:
                run: Any = block
                inputs: tuple = (x,)
            else:
                run = _run_block
                state = (size, merged_index, representative)
                inputs = (block, x, r, self.num_prefix_tokens, proportional, unmerged_order, *state)
            if self.grad_checkpointing and not torch.jit.is_scripting():
                out = checkpoint(run, *inputs, **keywords[number])
            else:
                out = run(*inputs, **keywords[number])
            x, size, merged_index, representative = (out, None, None, None) if run is block else out
            yield MergedTokens(x, size, merged_index)

    def forward_features(self, x: Tensor, **masks: Any) -> Tensor:
        """Return all tokens after the last norm, unmerged: ``(B, prefix + N, C)``, as timm does."""
        if not self.token_merging.schedule.merges:
            return super().forward_features(x, **masks)  # type: ignore[misc]
        _refuse(masks)
        for merged in self.merged_tokens(x):
            last = merged
        return last.unmerged(self.norm(last.tokens))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Any = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
        output_dict: bool = False,
        **masks: Any,
    ) -> Any:
        """Return the tokens after several blocks, unmerged; arguments and formats are timm's."""
        options = dict(masks, output_dict=True) if output_dict else masks
        if not self.token_merging.schedule.merges:
            return super().forward_intermediates(  # type: ignore[misc]
                x, indices, return_prefix_tokens, norm, stop_early, output_fmt, intermediates_only, **options
            )
        _refuse(masks)
        check_choice(type(self).__name__, 'output_fmt', output_fmt, ('NCHW', 'NLC'))
        taken, last_taken = feature_indices(len(self.blocks), indices)
        prefix, maps = [], []
        for number, merged in enumerate(self.merged_tokens(x)):
            if number in taken:
                tokens = merged.unmerged(self.norm(merged.tokens) if norm else None)
                prefix.append(tokens[:, : self.num_prefix_tokens])
                maps.append(tokens[:, self.num_prefix_tokens :])
            if stop_early and number == last_taken:
                break
        if output_fmt == 'NCHW':
            grid = self.patch_embed.dynamic_feat_size(tuple(x.shape[-2:]))
            maps = [tokens.transpose(1, 2).unflatten(2, grid).contiguous() for tokens in maps]
        final = None if intermediates_only else merged.unmerged(self.norm(merged.tokens))
        with_prefix = return_prefix_tokens and self.num_prefix_tokens > 0
        if output_dict:
            named = dict(image_intermediates=maps)
            if with_prefix:
                named['image_intermediates_prefix'] = prefix
            return named if intermediates_only else dict(named, image_features=final)
        found = list(zip(maps, prefix, strict=True)) if with_prefix else maps
        return found if intermediates_only else (final, found)


class MergingVisionTransformer(MergingTransformer, vision_transformer.VisionTransformer):  # type: ignore[misc]
    """timm's VisionTransformer (ViT, DeiT, CLIP, SigLIP, DINOv2), merging tokens."""

    def _embed(self, x: Tensor) -> tuple[Tensor, list[dict[str, Any]]]:
        x = self.norm_pre(self.patch_drop(self._pos_embed(self.patch_embed(x))))
        return x, [{}] * len(self.blocks)


class MergingVisionTransformerDistilled(MergingTransformer, deit.VisionTransformerDistilled):  # type: ignore[misc]
    """timm's DeiT with a distillation token, merging tokens."""

    _embed = MergingVisionTransformer._embed


class MergingEva(MergingTransformer, eva.Eva):  # type: ignore[misc]
    """timm's Eva (EVA, EVA-02, DINOv3, Perception Encoder), merging tokens."""

    def _embed(self, x: Tensor) -> tuple[Tensor, list[dict[str, Any]]]:
        rope: Any
        x, rope = self._pos_embed(self.patch_embed(x))
        per_block = self.rope_mixed and rope is not None
        return self.norm_pre(x), [dict(rope=rope[block] if per_block else rope) for block in range(len(self.blocks))]


class MergingBeit(MergingTransformer, beit.Beit):
    """timm's BEiT, merging tokens."""

    def _embed(self, x: Tensor) -> tuple[Tensor, list[dict[str, Any]]]:
        x = self.patch_embed(x)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        x = self.pos_drop(x if self.pos_embed is None else x + self.pos_embed)
        bias = None if self.rel_pos_bias is None else self.rel_pos_bias()
        return x, [dict(shared_rel_pos_bias=bias)] * len(self.blocks)


def _run_block(
    block: nn.Module,
    x: Tensor,
    r: int,
    prefix: int,
    proportional: bool,
    unmerged_order: str,
    size: Optional[Tensor],
    merged_index: Optional[Tensor],
    representative: Optional[Tensor],
    **keywords: Any,
) -> tuple[Optional[Tensor], ...]:
    """Run one block with a separate state, so that activation checkpointing can repeat it from the same start."""
    merging = Merging(r, prefix, proportional, unmerged_order, size, merged_index, representative)
    x = block(x, merging=merging, **keywords)
    return x, merging.size, merging.merged_index, merging.representative


def _refuse(masks: dict[str, Any]) -> None:
    given = [name for name, value in masks.items() if value is not None and value is not False]
    if given:
        raise ValueError(
            f'TokenMerging: {", ".join(given)} does not work with merged tokens, since a mask speaks of '
            'the tokens of the start. Take token merging off for this call.'
        )


MERGING_TRANSFORMERS: dict[type[nn.Module], type[nn.Module]] = {
    vision_transformer.VisionTransformer: MergingVisionTransformer,
    deit.VisionTransformerDistilled: MergingVisionTransformerDistilled,
    eva.Eva: MergingEva,
    beit.Beit: MergingBeit,
}
