"""Add token merging to a built model, and remove it."""

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

from hybridcls.checks import check_choice
from hybridcls.compat.timm import check_known_source
from hybridcls.functional.tokens.token_matching import UNMERGED_ORDERS

from .merging_schedule import MergingRatio, MergingSchedule

if TYPE_CHECKING:
    from .merging_transformers import MergedTokens, MergingSettings

__all__ = ['TokenMerging', 'TokenMergingHandle', 'add_token_merging', 'merged_tokens', 'remove_token_merging']

_WHAT_WORKS = (
    "It works on timm's plain transformers, where every token attends to every other: vit_*, deit_*, "
    'deit3_*, eva02_*, beit_* and the DINOv2, CLIP and SigLIP variants of vit_*.'
)


class _Classes(NamedTuple):
    """timm's classes and their merging counterparts, in both directions."""

    transformers: dict[type[nn.Module], type[nn.Module]]
    blocks: dict[type[nn.Module], type[nn.Module]]
    attentions: dict[type[nn.Module], type[nn.Module]]
    merging: dict[type[nn.Module], type[nn.Module]]
    plain: dict[type[nn.Module], type[nn.Module]]


@cache
def _classes() -> _Classes:
    """Import the merging classes on first use, as they depend on timm's internals."""
    from .merging_blocks import MERGING_ATTENTIONS, MERGING_BLOCKS
    from .merging_transformers import MERGING_TRANSFORMERS

    merging = {**MERGING_TRANSFORMERS, **MERGING_BLOCKS, **MERGING_ATTENTIONS}
    plain = {ours: timms for timms, ours in merging.items()}
    return _Classes(MERGING_TRANSFORMERS, MERGING_BLOCKS, MERGING_ATTENTIONS, merging, plain)


class TokenMergingHandle:
    """The handle of :func:`add_token_merging`, which prints the merging settings and can undo them.

    Args:
        transformers (dict[str, MergingTransformer]): The transformers that merge now, by their names in the model.
        before (dict[str, MergingSettings | None]): What each of them was set to before; None: plain.

    Attributes:
        names (tuple[str, ...]): Their names.
    """

    def __init__(self, transformers: dict[str, Any], before: 'dict[str, Optional[MergingSettings]]') -> None:
        self._transformers = transformers
        self._before = before
        self._settings = {name: transformer.token_merging for name, transformer in transformers.items()}
        self._is_undone = False
        self.names = tuple(transformers)

    def undo(self) -> None:
        """Restore the transformers as they were before; a second call does nothing."""
        if self._is_undone:
            return
        self._is_undone = True
        for name, transformer in self._transformers.items():
            settings = self._before[name]
            if settings is None:
                _make_plain(transformer)
            else:
                _make_merging(transformer, settings)

    def __str__(self) -> str:
        lines = []
        for name, transformer in self._transformers.items():
            schedule, proportional, _ = self._settings[name]
            patches = transformer.patch_embed.num_patches
            counts = [patches]
            for block in range(len(transformer.blocks)):
                counts.append(counts[-1] - schedule.tokens(block, counts[-1]))
            kind = _classes().plain.get(type(transformer), type(transformer)).__name__  # plain once undone
            lines.append(
                f'token merging ({schedule}) in {name or "the model"} ({kind}, {len(counts) - 1} blocks): '
                f'{patches} patch tokens become {counts[-1]}, {sum(counts[1:]) / len(counts[1:]):.1f} a block '
                f'on average, {"" if proportional else "no "}proportional attention'
            )
        return '\n'.join(lines)


TokenMerging = TokenMergingHandle  # its name in 0.1


def add_token_merging(
    model: nn.Module,
    ratio: MergingRatio,
    proportional_attention: bool = True,
    name: str = 'token_merging_ratio',
    last_block: Optional[int] = None,
    unmerged_order: str = 'official',
) -> TokenMergingHandle:
    """Make the plain transformers in a model merge similar tokens, in place.

    `Token Merging <https://arxiv.org/abs/2210.09461>`_ (Bolya et al., 2023): between attention and MLP of each block
    the most similar tokens become one, their size-weighted mean. No parameter is added, changed or renamed:
    checkpoints, optimizers, LoRA, deep copies (EMA) and DDP see the same model. Class token, distillation token and
    registers are never merged. With a ratio of 0 the output is the model's own to the last bit.

    The similarity is that of the mean of the keys over the heads: those after a key norm and before a rotation, since
    like patches in different places may merge. Two things the paper does not have: a merged token *stands at the
    place* of the token that the others joined, where rotary embeddings (EVA-02) or a relative position bias (BEiT) ask
    for one; and features leave the transformer *unmerged*, every patch with the value of its token, so that whatever
    pools them weighs sizes, and maps keep their grid.

    Args:
        model (nn.Module): A transformer of timm, or a model that has some anywhere in it.
        ratio (float | Sequence[float] | dict): See :class:`MergingSchedule`.
        proportional_attention (bool): Attend to a token as often as it has patches. The paper switches it off for
            models that are trained with merging from the start and for MAE. Defaults to True.
        name (str): The key that the user typed, for error messages.
        last_block (int, optional): Merge in that many blocks only. Defaults to None: what a module around a transformer
            says in its ``merging_blocks`` (HybridBackbone, where a TokenLearner follows a block: summaries are not to
            be merged), else all blocks.
        unmerged_order (str): In models without a class token or another prefix, the order of the tokens that are left:
            ``'official'``, or ``'position'``, as before 0.2
            (``hybridcls.functional.tokens.token_matching.match_tokens``). Defaults to ``'official'``.

    Returns:
        TokenMergingHandle: Prints what was done; its ``undo()`` restores what was there before.

    Raises:
        ValueError: If there is no transformer that can merge (windowed attention, for one), the ratio is impossible, or
            the order is none of the two, or the installed timm has a form of a block that was not read yet.

    Example:
        >>> import timm, torch
        >>> model = timm.create_model('test_vit', img_size=64).eval()
        >>> merging = add_token_merging(model, dict(r=2))
        >>> print(merging)
        token merging ({'r': 2}) in the model (VisionTransformer, 6 blocks): 16 patch tokens become 4, ...
        >>> model(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 1000])
        >>> merging.undo()
    """
    from .merging_transformers import MergingSettings

    check_choice('TokenMerging', 'unmerged_order', unmerged_order, UNMERGED_ORDERS)
    transformers = dict(_plain_transformers(model))
    if not transformers:
        raise ValueError(
            f'TokenMerging: {name}={ratio} finds no transformer that can merge tokens in '
            f'{type(model).__name__}{_why_not(model)}. {_WHAT_WORKS}'
        )
    limits = {} if last_block is not None else _merging_blocks(model)
    plans = {}
    for where, transformer in transformers.items():
        schedule = MergingSchedule(ratio, len(transformer.blocks), name)
        schedule.stop_after(limits.get(transformer, len(transformer.blocks)) if last_block is None else last_block)
        _check_parts(transformer)
        plans[where] = MergingSettings(schedule, proportional_attention, unmerged_order)
    before = {where: getattr(transformer, 'token_merging', None) for where, transformer in transformers.items()}
    for where, transformer in transformers.items():
        _make_merging(transformer, plans[where])
    return TokenMergingHandle(transformers, before)


def remove_token_merging(model: nn.Module) -> None:
    """Remove token merging from all transformers in a model, including copies without a handle."""
    for module in list(model.modules()):
        if _merges(module):
            _make_plain(module)


@torch.no_grad()
def merged_tokens(transformer: nn.Module, images: Tensor) -> 'list[MergedTokens]':
    """Return the tokens after each block, with their sizes and the patches in each, for inspection or drawing.

    Args:
        transformer (nn.Module): A timm transformer to which :func:`add_token_merging` was applied (in a HybridBackbone,
            ``backbone.vit.model``).
        images (Tensor): ``(B, 3, H, W)``, normalised as that transformer wants them.

    Raises:
        TypeError: If it merges no tokens.
    """
    if not _merges(transformer):
        raise TypeError(
            f'merged_tokens: {type(transformer).__name__} merges no tokens. Call add_token_merging on it '
            'first, and give the timm transformer itself, not a model around it.'
        )
    return list(transformer.merged_tokens(images))  # type: ignore[operator]


def _plain_transformers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if type(module) in _classes().transformers or _merges(module):
            yield name, module


def _merges(module: nn.Module) -> bool:
    return type(module) in _classes().transformers.values()


def _merging_blocks(model: nn.Module) -> dict[nn.Module, int]:
    """Return in how many of its blocks a transformer may merge, as limited by a module around it."""
    return {key: value for part in model.modules() for key, value in getattr(part, 'merging_blocks', {}).items()}


def _parts(transformer: Any) -> Iterator[nn.Module]:
    yield transformer
    for block in transformer.blocks:
        yield block
        yield block.attn


def _make_merging(transformer: Any, settings: 'MergingSettings') -> None:
    for part in _parts(transformer):
        part.__class__ = _classes().merging.get(type(part), type(part))
    transformer.token_merging = settings


def _make_plain(transformer: Any) -> None:
    for part in _parts(transformer):
        part.__class__ = _classes().plain.get(type(part), type(part))
    if hasattr(transformer, 'token_merging'):  # else it was made plain meanwhile
        del transformer.token_merging


def _check_parts(transformer: Any) -> None:
    """Raise unless attention and MLP of every block are sequential and of known types."""
    classes = _classes()
    kinds = {type(transformer)}
    for number, block in enumerate(transformer.blocks):
        for part, kind in ((block, 'block'), (getattr(block, 'attn', block), 'attention')):
            known = classes.blocks if kind == 'block' else classes.attentions
            if type(part) not in known and type(part) not in known.values():
                raise ValueError(
                    f'TokenMerging: blocks.{number} has the {kind} {type(part).__name__}, in which there '
                    f'is no known place between attention and MLP to merge at. Known are '
                    f'{", ".join(sorted({cls.__name__ for cls in known}))}.'
                )
            kinds.add(type(part))
    for cls in kinds:
        check_known_source('TokenMerging', classes.plain.get(cls, cls))


def _why_not(model: nn.Module) -> str:
    """Name transformers in the model that are not of the supported plain kind."""
    for name, module in model.named_modules():
        if hasattr(module, 'forward_features'):
            kind = type(module).__name__
            where = f' ({name})' if name else ''
            if any('Window' in type(part).__name__ for part in module.modules()):
                return (
                    f': {kind}{where} attends within windows of fixed numbers of tokens, which merged tokens do '
                    'not fill'
                )
            return f': {kind}{where} is none of them'
    return ''
