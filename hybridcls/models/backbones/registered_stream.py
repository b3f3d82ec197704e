"""One stream of a hybrid backbone: any backbone of the registry (mmpretrain's, or your own)."""

from collections.abc import Sequence
from typing import Any, Optional, Union

from torch import Tensor

from hybridcls.registry import MODELS

from ..building.shape_probe import channels_of, probe_output
from ..data_preprocessors.image_range import IMAGENET_MEAN, IMAGENET_STD
from .stream import OnMap, Stream


class RegisteredStream(Stream):
    """A registered backbone as a stream: its last output, as a map, tokens or a vector.

    The backbone returns a tensor, or tuples of which the last counts: (B, C, h, w), (B, N, C) or (B, C). Maps of shape
    (B, h, w, C) are recognised by its ``output_fmt = 'NHWC'``, or by what a larger image changes.

    Args:
        backbone (dict): Config of the backbone, with ``type``.
        output (str): ``'map'``, ``'tokens'`` or ``'vector'`` (the mean over the positions). Defaults to ``'map'``.
        img_size (int | Sequence[int], optional): Image size (h, w) at which the channels are found out. Defaults to
            None, which means 224.
        mean (Sequence[float], optional): Mean of RGB in [0, 1] that the backbone was trained with. Defaults to None,
            ImageNet's (of grey images its mean over RGB).
        std (Sequence[float], optional): Standard deviation, the same.

    Attributes: those of :class:`Stream`; channels are found when the stream is built.

    Shape:
        - x: float ``(B, 3, H, W)``, RGB in [0, 1]; normalised here.
        - returns: ``(B, C, h, w)``, ``(B, N, C)`` or ``(B, C)``.

    Raises:
        ValueError: If the backbone gives no feature of the expected form.
        TypeError: If it gives no tensor.
    """

    def __init__(
        self,
        backbone: dict,
        output: str = 'map',
        img_size: Union[int, Sequence[int], None] = None,
        mean: Optional[Sequence[float]] = None,
        std: Optional[Sequence[float]] = None,
    ) -> None:
        super().__init__(output)
        self.model = MODELS.build(backbone)
        self._normalize_by(mean, std, IMAGENET_MEAN, IMAGENET_STD)
        self.img_size = None  # only the backbone knows what it takes
        height, width = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size or (224, 224))
        self._probed_size = (int(height), int(width))
        self.out_channels = self._find_channels(*self._probed_size)

    def _find_channels(self, height: int, width: int) -> int:
        self._channels_last = self._gives_channels_last(height, width)
        return channels_of(probe_output(self, height, width, len(self.mean)))

    def _gives_channels_last(self, height: int, width: int) -> bool:
        """Return whether maps are (B, h, w, C): the backbone declares it, or C does not change with the image size."""
        declared = getattr(self.model, 'output_fmt', None)
        if declared is not None:
            return declared == 'NHWC'
        small = self._last(probe_output(self.model, height, width, len(self.mean))).shape
        try:
            large = self._last(probe_output(self.model, 2 * height, 2 * width, len(self.mean))).shape
        except Exception:  # a backbone for one size only, which nothing can be seen of
            return False
        return [a != b for a, b in zip(small, large, strict=True)] == [False, True, True, False]

    def _last(self, feature: Any) -> Tensor:
        """Return the last of the backbone's outputs."""
        while isinstance(feature, (tuple, list)) and feature:
            feature = feature[-1]
        if not isinstance(feature, Tensor):
            keys = f' with the keys {", ".join(map(str, feature))}' if isinstance(feature, dict) else ''
            raise TypeError(
                f'RegisteredStream: expected a tensor or a tuple of tensors from {type(self.model).__name__}, got '
                f'{type(feature).__name__}{keys}. Let its forward return the feature itself: (B, C, h, w), (B, N, C) '
                'or (B, C).'
            )
        return feature

    def init_weights(self) -> None:
        """Initialize the backbone by its own config (``init_cfg``, pretrained weights included)."""
        if hasattr(self.model, 'init_weights'):
            self.model.init_weights()

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return (depth, number of depths) of a parameter, if the backbone defines depths; see :class:`TimmStream`."""
        if not hasattr(self.model, 'get_layer_depth'):
            raise ValueError(
                f'RegisteredStream: {type(self.model).__name__} does not tell in which order its '
                'parameters come (it has no get_layer_depth), so layer-wise learning rates cannot be '
                'used with it. Set optim_wrapper.paramwise_cfg.layer_decay_rate=1, or give it '
                'get_layer_depth(param_name, prefix) -> (depth, number of depths).'
            )
        return self.model.get_layer_depth(param_name, prefix=f'{prefix}model.')

    def forward(self, x: Tensor, on_map: OnMap = None) -> Tensor:
        """Normalize the images and return the backbone's last feature; ``on_map`` is applied to a map."""
        feature = self._last(self.model(self.normalized(x)))
        if self._channels_last and feature.dim() == 4:
            feature = feature.permute(0, 3, 1, 2)
        if on_map is not None:
            feature = on_map(self._map(feature))
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
        raise self._is_no(self.output, feature)

    def _map(self, feature: Tensor) -> Tensor:
        if feature.dim() != 4:
            raise self._is_no('map', feature)
        return feature

    def _is_no(self, output: str, feature: Tensor) -> ValueError:
        return ValueError(
            f'RegisteredStream: {type(self.model).__name__} gives a feature of shape '
            f"{tuple(feature.shape)}, which is no {output}. Set output='vector' for this stream, or "
            'let the backbone give its map or tokens (out_type in mmpretrain).'
        )
