"""Find adapters without gradient, in layers that the model never calls."""

from torch import nn

from ..building.shape_probe import probe_output
from . import lora_layers

__all__ = ['check_adapters_act']


def check_adapters_act(caller: str, model: nn.Module, image: tuple[int, int, int]) -> None:
    """Run the model on an image's shape, and raise a ValueError that names adapted layers it never calls.

    Args:
        caller (str): Name used as the error prefix.
        model (nn.Module): A model with adapted layers at any depth.
        image (tuple[int, int, int]): Channels, height and width of an image that it takes.
    """
    adapted, called = lora_layers(model), set[str]()
    if not adapted:
        return
    handles = [
        layer.register_forward_pre_hook(lambda module, inputs, name=name: called.add(name))
        for name, layer in adapted.items()
    ]
    try:
        probe_output(model, image[1], image[2], channels=image[0])
    finally:
        for handle in handles:
            handle.remove()
    without_gradient = [name for name in adapted if name not in called]
    if without_gradient:
        raise ValueError(
            f'{caller}: {len(without_gradient)} adapted layers are never called by the model, which uses their weights '
            f'directly, so their adapters would learn nothing: {", ".join(without_gradient[:6])}. Leave them out of '
            'targets.'
        )
