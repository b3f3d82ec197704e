"""One stream of a hybrid backbone: any backbone of the registry (mmpretrain's, or your own)."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from torch import Tensor, nn

from hybridcls.checks import check_choice
from hybridcls.registry import MODELS

from ..modules.image_range import IMAGENET_MEAN, IMAGENET_STD, is_for_unit_range
from ..modules.shape_probe import channels_of, probe_output
from .timm_stream import OUTPUTS


class RegisteredStream(nn.Module):
    """A registered backbone as a stream: its last output, as a map, tokens or a vector.

    Args:
        backbone (dict): Config of the backbone, with ``type``.
        output (str): ``'map'``, ``'tokens'`` or ``'vector'`` (the mean over the positions). Defaults to ``'map'``.
        img_size (int | Sequence[int], optional): Image size (h, w) at which the channels are found out. Defaults to
            None, which means 224.
        mean (Sequence[float]): Mean of RGB in [0, 1] that the backbone was trained with. Defaults to ImageNet's.
        std (Sequence[float]): Standard deviation, likewise.

    Attributes:
        model (nn.Module): The backbone.
        out_channels (int): C of the output, found when the stream is built.

    Shape:
        - x: float ``(B, 3, H, W)``, RGB in [0, 1]; normalised here.
        - returns: ``(B, C, h, w)``, ``(B, N, C)`` or ``(B, C)``.

    Raises:
        ValueError: If the backbone gives no feature of the wanted form.
    """

    model: Any
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: dict,
        output: str = 'map',
        img_size: Union[int, Sequence[int], None] = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        check_choice('RegisteredStream', 'output', output, OUTPUTS)
        self.output = output
        self.model = MODELS.build(backbone)
        self.register_buffer('mean', torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer('std', torch.tensor(std)[:, None, None], persistent=False)
        self.img_size: Optional[tuple[int, int]] = None  # only the backbone knows what it takes
        height, width = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size or (224, 224))
        self.out_channels = self._find_channels(int(height), int(width))

    @property
    def takes_unit_range(self) -> bool:
        """Whether images must be RGB in [0, 1], since they are normalized here."""
        return is_for_unit_range(self.mean, self.std)

    def _find_channels(self, height: int, width: int) -> int:
        try:
            return channels_of(probe_output(self, height, width))
        except NotImplementedError:  # an operation without a meta form: look at a black image instead
            training = self.training
            self.eval()
            with torch.no_grad():
                feature = self(torch.zeros(1, 3, height, width))
            self.train(training)
            return channels_of(feature)

    def init_weights(self) -> None:
        """Initialise the backbone as its own config says (``init_cfg``, pretrained weights included)."""
        if hasattr(self.model, 'init_weights'):
            self.model.init_weights()

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return (depth, number of depths) of a parameter, if the backbone tells; see :class:`TimmStream`."""
        if not hasattr(self.model, 'get_layer_depth'):
            raise ValueError(
                f'RegisteredStream: {type(self.model).__name__} does not tell in which order its '
                'parameters come (it has no get_layer_depth), so layer-wise learning rates cannot be '
                'used with it.'
            )
        return self.model.get_layer_depth(param_name, prefix=f'{prefix}model.')

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the images and return the last feature of the backbone."""
        feature: Any = self.model((x - self.mean) / self.std)
        while isinstance(feature, (tuple, list)):
            feature = feature[-1]
        if self.output == 'vector':
            return (
                feature.flatten(2).mean(-1)
                if feature.dim() == 4
                else (feature.mean(1) if feature.dim() == 3 else feature)
            )
        if self.output == 'map' and feature.dim() == 4:
            return feature
        if self.output == 'tokens' and feature.dim() in (3, 4):
            return feature.flatten(2).transpose(1, 2) if feature.dim() == 4 else feature
        raise ValueError(
            f'RegisteredStream: {type(self.model).__name__} gives a feature of shape '
            f"{tuple(feature.shape)}, which is no {self.output}. Set output='vector' for this stream, or "
            'let the backbone give its map or tokens (out_type in mmpretrain).'
        )
