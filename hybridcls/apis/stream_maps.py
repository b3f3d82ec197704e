"""Class activation maps of each stream, from its last layer with a spatial layout."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

from hybridcls.functional.class_activation import grad_cam
from hybridcls.models.adapters import add_token_merging
from hybridcls.models.classifiers.hybrid_classifier import HybridClassifier

from .inferencer import HybridInferencer

__all__ = ['ActivationMaps', 'MappedLayer', 'activation_maps', 'mapped_layers']


class MappedLayer(NamedTuple):
    """A layer whose features are mapped.

    Args:
        name (str): Of the layer in the model.
        module (nn.Module): It.
        of_input (bool): Whether it is what goes into the layer; else what comes out of it.
        prefix (int): Tokens without a place (class, registers), at the front.
        channels_last (bool): Of maps: ``(B, h, w, C)``.
    """

    name: str
    module: nn.Module
    of_input: bool
    prefix: int
    channels_last: bool

    def __str__(self) -> str:
        return f'what goes into {self.name}' if self.of_input else self.name


class ActivationMaps(NamedTuple):
    """The class activation maps of B images.

    Args:
        maps (dict[str, Tensor]): By stream ``(B, h, w)``, in [0, 1], on the CPU; 0 everywhere where nothing speaks for
            the class.
        labels (Tensor): The class that they are of, the predicted one, int64 ``(B,)``.
    """

    maps: dict[str, Tensor]
    labels: Tensor


def mapped_layers(
    model: HybridInferencer, images: Tensor, chosen: Optional[Mapping[str, str]] = None
) -> dict[str, MappedLayer]:
    """Find the layer to map in each stream.

    - Of a plain vision transformer (blocks with attention): the tokens that go into its last block; after that, only
      the class token may count. Before a TokenLearner inside it, the last block that sees all patches.
    - Of any other network: the last map ``(B, C, h, w)`` (or ``(B, h, w, C)``), or tokens, of more than one place: what
      is pooled, CBAM included.

    Args:
        model (HybridInferencer): With classes.
        images (Tensor): ``(B, 3, H, W)``, as the model is called with; the first is tried.
        chosen (Mapping[str, str], optional): By stream (``backbone`` of a model without streams) the name of a layer
            whose output is taken instead, within the stream or the model. Defaults to None.

    Raises:
        ValueError: If there is no such layer, or the features have one place alone.
    """
    network: Any = model.model
    if not isinstance(network, HybridClassifier):
        raise ValueError(f'overlays: expected one model, got {type(network).__name__}. Take a single checkpoint.')
    parts = _parts(network)
    unknown = [name for name in chosen or {} if name not in parts]
    if unknown:
        raise ValueError(f'overlays: expected layers of the streams {", ".join(parts)}, got one of {unknown[0]!r}.')
    with model.uncompiled():
        seen = _outputs(network, images[:1])
    found = {}
    for stream, roots in parts.items():
        if chosen and stream in chosen:
            found[stream] = _named_layer(network, stream, chosen[stream], roots)
        else:
            found[stream] = _last_block(network, roots) or _last_map(network, stream, roots, seen)
    return found


def _parts(network: Any) -> dict[str, list[str]]:
    """Return the names of the modules of each stream."""
    if not hasattr(network.backbone, 'stream_parts'):
        return dict(backbone=['backbone'])
    return {
        stream: [f'backbone.{name}' for name in names if name != 'token_learner']
        for stream, names in network.backbone.stream_parts().items()
    }


def _facts(network: Any, name: str) -> tuple[int, bool]:
    """Return the number of prefix tokens in a layer's output, and whether its maps are channels-last."""
    prefix, last = 0, False
    module: Any = network
    for part in name.split('.'):
        module = getattr(module, part)
        prefix = getattr(module, 'num_prefix_tokens', getattr(module, 'num_extra_tokens', prefix))
        last = getattr(module, 'output_fmt', 'NHWC' if last else 'NCHW') == 'NHWC'
    return int(prefix), last


def _named_layer(network: Any, stream: str, name: str, roots: Sequence[str]) -> MappedLayer:
    modules = dict(network.named_modules())
    for full in (name, *(f'{root}.{name}' for root in roots), *(f'{root}.model.{name}' for root in roots)):
        if full in modules and any(full == root or full.startswith(f'{root}.') for root in roots):
            return MappedLayer(full, modules[full], False, *_facts(network, full))
    inside = [
        inner
        for root in (f'{roots[0]}.model', roots[0])
        if root in modules
        for inner, _ in modules[root].named_children()
    ]
    raise ValueError(
        f'overlays: expected a layer of {stream}, such as {", ".join(inside[:5])}, got {name!r}, which it lacks.'
    )


def _last_block(network: Any, roots: Sequence[str]) -> Optional[MappedLayer]:
    """Return the input of the last block of a plain transformer; None for other models, hierarchical ones included."""
    found = []
    for name, module in network.get_submodule(roots[0]).named_modules(prefix=roots[0]):
        for key in ('blocks', 'layers'):
            blocks: Any = getattr(module, key, None)
            is_list = isinstance(blocks, (nn.Sequential, nn.ModuleList)) and len(blocks) > 0
            if is_list and all(hasattr(block, 'attn') for block in blocks):
                found.append((module, f'{name}.{key}', blocks))
    if len(found) != 1:
        return None
    ((module, name, blocks),) = found
    last = getattr(network.backbone, 'merging_blocks', {}).get(module, len(blocks)) - 1
    full = f'{name}.{last}'
    return MappedLayer(full, blocks[last], True, *_facts(network, full))


@torch.no_grad()
def _outputs(network: Any, image: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Return the name and the output shape of each layer, in the order in which they finish."""
    seen: list[tuple[str, tuple[int, ...]]] = []
    handles = [
        module.register_forward_hook(
            lambda layer, inputs, output, name=name: (
                seen.append((name, tuple(output.shape))) if isinstance(output, Tensor) else None
            )
        )
        for name, module in network.backbone.named_modules(prefix='backbone')
    ]
    try:
        network(image, mode='tensor')
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _last_map(
    network: Any, stream: str, roots: Sequence[str], seen: Sequence[tuple[str, tuple[int, ...]]]
) -> MappedLayer:
    for name, shape in reversed(seen):
        if any(name.startswith(f'{root}.') or name == root for root in roots):
            prefix, last = _facts(network, name)
            places = shape[1:3] if last else shape[2:]
            if (len(shape) == 4 and places[0] * places[1] > 1) or (len(shape) == 3 and shape[1] - prefix > 1):
                return MappedLayer(name, network.get_submodule(name), False, prefix, last and len(shape) == 4)
    raise ValueError(
        f'overlays: the features of {stream} have a single position for images of this size, so there is no map. Use '
        'larger images.'
    )


def activation_maps(model: HybridInferencer, images: Tensor, layers: Mapping[str, MappedLayer]) -> ActivationMaps:
    """Compute the maps of all streams in one forward and one backward pass, which stops at the layers.

    No weight gets a gradient, and nothing is copied. Token merging is switched off for it: patches keep their places.

    Args:
        model (HybridInferencer): In eval mode.
        images (Tensor): ``(B, 3, H, W)``, as the model is called with.
        layers (Mapping[str, MappedLayer]): Of :func:`mapped_layers`.
    """
    network: Any = model.model
    height, width = images.shape[-2:]
    with (
        model.uncompiled(), _unmerged(network), _cut_at(layers) as kept, torch.enable_grad(),
        model.precision(),
    ):  # fmt: skip
        logits = network(images, mode='tensor').float()
        labels = logits.argmax(1)
        gradients = torch.autograd.grad(
            logits.gather(1, labels.unsqueeze(1)).sum(), list(kept.values()), allow_unused=True
        )
    maps = {}
    for (stream, values), gradient in zip(kept.items(), gradients, strict=True):
        layer = layers[stream]
        shaped = [
            _as_map(one, layer, height, width).detach().float()
            for one in (values, torch.zeros_like(values) if gradient is None else gradient)
        ]
        found = grad_cam(*shaped)
        maps[stream] = (found / found.amax(dim=(1, 2), keepdim=True).clamp_min(1e-20)).cpu()
    return ActivationMaps(maps, labels.cpu())


@contextmanager
def _unmerged(network: Any) -> Iterator[None]:
    """Run the block without token merging and without activation checkpointing, which would run layers twice."""
    merges = any(getattr(module, 'token_merging', None) is not None for module in network.modules())
    handle = add_token_merging(network, 0.0) if merges else None
    saving = [module for module in network.modules() if getattr(module, 'grad_checkpointing', False)]
    for module in saving:
        module.grad_checkpointing = False
    try:
        yield
    finally:
        for module in saving:
            module.grad_checkpointing = True
        if handle is not None:
            handle.undo()


@contextmanager
def _cut_at(layers: Mapping[str, MappedLayer]) -> Iterator[dict[str, Tensor]]:
    """Detach the features of the layers in the block, and yield them by stream as leaves of the graph."""
    kept: dict[str, Tensor] = {}

    def leaf(stream: str, value: Tensor) -> Tensor:
        kept[stream] = value.detach().requires_grad_()
        return kept[stream].clone()  # what follows may work in place

    def on_output(stream: str) -> Callable:
        return lambda module, inputs, output: leaf(stream, output)

    def on_input(stream: str) -> Callable:
        return lambda module, inputs: (leaf(stream, inputs[0]), *inputs[1:])

    handles = [
        layer.module.register_forward_pre_hook(on_input(stream))
        if layer.of_input
        else layer.module.register_forward_hook(on_output(stream))
        for stream, layer in layers.items()
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _as_map(values: Tensor, layer: MappedLayer, height: int, width: int) -> Tensor:
    """Return features as ``(B, C, h, w)``; patch tokens are placed on their grid."""
    if values.dim() == 4:
        return values.permute(0, 3, 1, 2) if layer.channels_last else values
    if values.dim() != 3:
        raise ValueError(f'overlays: expected a map or tokens from {layer.name}, got shape {tuple(values.shape)}.')
    tokens = values[:, layer.prefix :]
    count = tokens.shape[1]
    rows = min(
        (rows for rows in range(1, count + 1) if count % rows == 0),
        key=lambda rows: abs(rows * width / (count / rows * height) - 1),
    )
    return tokens.transpose(1, 2).unflatten(2, (rows, count // rows))
