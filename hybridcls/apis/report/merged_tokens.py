"""Show which patches of an image token merging joins, and what that saves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from hybridcls.models.adapters import add_token_merging, merged_tokens
from hybridcls.visualization.prediction_image import to_rgb_image
from hybridcls.visualization.token_groups import draw_token_groups

from ..counted_flops import counted_flops
from ..image_inputs import Item
from ..inferencer import HybridInferencer

__all__ = ['MergedImage', 'MergingReadings', 'read_merging']

_IMAGES = 6
_EDGE = 192  # pixels of a drawing


class MergedImage(NamedTuple):
    """An image as the model sees it, and drawings of its merged tokens.

    Args:
        item (Item): The image.
        seen (np.ndarray): uint8 (H, W, 3), RGB.
        drawings (list[np.ndarray]): Its tokens after the blocks of ``MergingReadings.drawn``, of the same form.
    """

    item: Item
    seen: np.ndarray
    drawings: list[np.ndarray]


class MergingReadings(NamedTuple):
    """The effect of token merging on a transformer, measured on some images.

    Args:
        name (str): Its name in the model.
        ratio (str): How much it merges.
        in_training (bool): It merged in the training alone; answers come from all tokens.
        tokens (list[int]): Before the first block, then after each, those that never merge included.
        drawn (list[int]): After which blocks tokens are drawn, from 1.
        images (list[MergedImage]): Some images.
        gflops (float), gflops_whole (float): Of the model for an image, with and without merging.
    """

    name: str
    ratio: str
    in_training: bool
    tokens: list[int]
    drawn: list[int]
    images: list[MergedImage]
    gflops: float
    gflops_whole: float


def read_merging(model: HybridInferencer, items: Sequence[Item], seed: int = 0) -> Optional[MergingReadings]:
    """Merge the tokens of up to 6 images, drawn by the seed, and record the result.

    Args:
        model (HybridInferencer): The first of its transformers that merges is read.
        items (Sequence[Item]): Images that can be read.
        seed (int): Of the draw. Defaults to 0.

    Returns:
        MergingReadings: None of a model that merges no tokens, and was not trained so.
    """
    network: Any = model.model
    of_training = _of_training(model.config)
    try:
        names = _whole(network, lambda handle: handle.names)
    except ValueError:  # no transformer that could
        return None
    merges = any(_merges(network.get_submodule(name)) for name in names)
    if not merges and of_training is None:
        return None
    chosen = [items[place] for place in sorted(np.random.default_rng(seed).permutation(len(items))[:_IMAGES].tolist())]
    samples = [sample for read, _ in model.preprocess(chosen) for _, sample in read]
    one = model.batch_of(samples[:1])['inputs']
    gflops_whole = _whole(network, lambda _: _gflops(network, one))
    merging = None if merges else add_token_merging(network, **(of_training or {}))
    try:
        name = next(name for name in names if _merges(network.get_submodule(name)))
        transformer = network.get_submodule(name)
        with _inputs_of(transformer.patch_embed) as seen, torch.no_grad():
            network(model.batch_of(samples)['inputs'], mode='tensor')
        states = merged_tokens(transformer, seen[0])
        if states[-1].merged_index is None:
            return None
        blocks = len(states)
        drawn = sorted({max(1, blocks // 2), blocks})
        grid = transformer.patch_embed.dynamic_feat_size(tuple(seen[0].shape[-2:]))
        prefix = transformer.num_prefix_tokens
        images = []
        for row, (item, sample) in enumerate(zip(chosen, samples, strict=True)):
            image = _shown(sample['inputs'], grid)
            groups = [states[block - 1].merged_index for block in drawn]
            every = torch.arange(prefix + grid[0] * grid[1])
            drawings = [
                draw_token_groups(image, (every if of is None else of[row].cpu())[prefix:].reshape(grid))
                for of in groups
            ]
            images.append(MergedImage(item, _pixels(image), [_pixels(one) for one in drawings]))
        tokens = [prefix + grid[0] * grid[1], *(int(state.tokens.shape[1]) for state in states)]
        ratio = repr(transformer.token_merging.schedule)
        return MergingReadings(
            name, ratio, merging is not None, tokens, drawn, images, _gflops(network, one), gflops_whole
        )
    finally:
        if merging is not None:
            merging.undo()


def _whole(network: Any, read: Callable[[Any], Any]) -> Any:
    """Call a function on a model with token merging that merges nothing."""
    handle = add_token_merging(network, 0)
    try:
        return read(handle)
    finally:
        handle.undo()


def _merges(transformer: Any) -> bool:
    settings = getattr(transformer, 'token_merging', None)
    return settings is not None and settings.schedule.merges


def _of_training(cfg: Mapping[str, Any]) -> Optional[dict[str, Any]]:
    """Return the token merging settings of the training, from its TokenMergingHook."""
    for hook in cfg.get('custom_hooks') or ():
        if isinstance(hook, Mapping) and hook.get('token_merging_ratio') and 'train' in hook.get('when', ()):
            return dict(
                ratio=hook['token_merging_ratio'], proportional_attention=hook.get('proportional_attention', True)
            )
    return None


def _gflops(network: Any, image: Tensor) -> float:
    return counted_flops(lambda: network(image, mode='tensor')) / 1e9


@contextmanager
def _inputs_of(module: torch.nn.Module) -> Iterator[list[Tensor]]:
    kept: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    try:
        yield kept
    finally:
        handle.remove()


def _shown(packed: Any, grid: tuple[int, int]) -> Tensor:
    """Return the image resized to a multiple of the grid, float (3, H, W) in [0, 1], RGB."""
    seen = packed if isinstance(packed, Tensor) else packed[0]
    pixels = torch.from_numpy(to_rgb_image(seen, is_bgr=True)).permute(2, 0, 1).float() / 255
    patch = max(1, round(_EDGE / max(grid)))
    size = (patch * grid[0], patch * grid[1])
    return torch.nn.functional.interpolate(pixels[None], size, mode='nearest')[0]


def _pixels(image: Tensor) -> np.ndarray:
    return (255 * image).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
