"""A stream of a hybrid backbone, and the requirements on a backbone of any package."""

from collections.abc import Callable, Sequence
from typing import Any, Optional, Union

import torch
from torch import Tensor, nn

from hybridcls.checks import check_choice, counted

from ..building.shape_probe import channels_of, probe_output
from ..data_preprocessors.image_range import for_channels, input_channels, is_for_unit_range

__all__ = ['OUTPUTS', 'OnMap', 'Stream']

OnMap = Optional[Callable[[Tensor], Tensor]]
"""What is applied to the last map ``(B, C, h, w)`` of a stream before it is pooled: CBAM; None: nothing."""
OUTPUTS = ('map', 'tokens', 'vector')


class Stream(nn.Module):
    """Base of the streams: a model behind the normalization that it was trained with.

    ``HybridBackbone`` makes its streams: a :class:`TimmStream` of a timm model, a :class:`RegisteredStream` of any
    registered backbone. The protocol of that backbone:

    - it is called with normalized images ``(B, 3, H, W)``, and returns a tensor, or tuples or lists whose last entry
      counts: a map ``(B, C, h, w)``, tokens ``(B, N, C)`` or a vector ``(B, C)``;
    - ``output_fmt = 'NHWC'``, if its maps are ``(B, h, w, C)``;
    - ``get_layer_depth(param_name, prefix)``, if it can tell the depth of a parameter, as (depth, number of depths);
    - ``init_weights()``, if it has weights to draw or load when a training begins;
    - ``img_size`` and ``with_cp`` are filled in, if its constructor takes them.

    Args:
        output (str): ``'map'``, ``'tokens'`` or ``'vector'``.

    Attributes:
        model (nn.Module): What sees the normalized images.
        mean, std (Tensor): The normalization of RGB in [0, 1], ``(3, 1, 1)``; not in checkpoints.
        takes_unit_range (bool): Images must be RGB in [0, 1], since they are normalized here (the mean is not 0).
        out_channels (int | tuple[int, ...]): C of the output; of several maps, of each.
        img_size (tuple[int, int] | None): The only size (h, w) the model takes; None if it takes any or is not known.
        memory_format (torch.memory_format | None): The layout that the model gets normalized images in; None leaves
            that of the images. Set by a training (``env_cfg.channels_last``).
    """

    model: Any  # models of other packages have more than nn.Module declares
    mean: Tensor
    std: Tensor
    takes_unit_range: bool
    _probed_size: tuple[int, int]  # (h, w) of the images that channels are found with
    out_channels: Union[int, tuple[int, ...]]
    img_size: Optional[tuple[int, int]]
    memory_format: Optional[torch.memory_format] = None

    def __init__(self, output: str) -> None:
        super().__init__()
        check_choice(type(self).__name__, 'output', output, OUTPUTS)
        self.output = output

    def _normalize_by(
        self,
        mean: Optional[Sequence[float]],
        std: Optional[Sequence[float]],
        default_mean: Sequence[float],
        default_std: Sequence[float],
    ) -> None:
        """Store mean and standard deviation for RGB in [0, 1]; the defaults also fit images of other channels."""
        channels = input_channels(self.model)
        for name, given, default in (('mean', mean, default_mean), ('std', std, default_std)):
            values = list(given) if given is not None else for_channels(default, channels)
            if len(values) != channels:
                raise ValueError(
                    f'{type(self).__name__}: expected as many values of {name} as {self._model_name()} has input '
                    f'channels ({channels}), got {name}={tuple(values)}.'
                )
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[:, None, None], persistent=False)
            if name == 'mean':
                self.takes_unit_range = is_for_unit_range(values)

    def map_channels(self) -> int:
        """The number of channels C of the last map, which :data:`OnMap` receives.

        Raises:
            ValueError: If the stream gives no map.
        """
        height, width = self._probed_size
        return channels_of(probe_output(_LastMap(self), height, width, len(self.mean)))

    def _model_name(self) -> str:
        return type(self.model).__name__

    def normalized(self, x: Tensor) -> Tensor:
        """Normalize images, RGB in [0, 1], as the model was trained with them; grey ones count as RGB.

        Raises:
            ValueError: If the images have other channels than the model takes.
        """
        channels = len(self.mean)
        if x.shape[1] not in (1, channels):
            kind = 'grayscale' if channels == 1 else 'unchanged'
            raise ValueError(
                f'{type(self).__name__}: expected images of {counted(channels, "channel")} for {self._model_name()} '
                f'(in_chans), got {x.shape[1]}. Set in_chans={x.shape[1]} for this stream, or let the pipelines load '
                f"such images: LoadImage with color_type='{kind}'."
            )
        x = (x - self.mean) / self.std
        return x if self.memory_format is None else x.contiguous(memory_format=self.memory_format)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return (depth, number of depths) of a parameter, for layer-wise learning rates.

        Args:
            param_name (str): Full name of the parameter.
            prefix (str): What stands before this stream's own names. Defaults to none.

        Returns:
            tuple[int, int]: 0 is the stem; the last depth is that of what follows the stream, a head.

        Raises:
            ValueError: If the order is not known, or the stream has no such parameter.
        """
        raise NotImplementedError(f'{type(self).__name__}: expected a method get_layer_depth(param_name, prefix).')


class _LastMap(nn.Module):
    """The last map of a stream, before pooling."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []

        def note(feature: Tensor) -> Tensor:
            seen.append(feature)
            return feature

        self.stream(x, note)
        return seen[0]
