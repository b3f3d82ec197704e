"""The base of the fusion necks, and the protocol of a neck."""

from collections.abc import Sequence
from typing import Optional, Union

from mmengine.model import BaseModule
from torch import Tensor

from hybridcls.checks import check_number
from hybridcls.functional import pool_feature


class FusionNeck(BaseModule):
    """Base of the necks that fuse the features of the streams into one embedding.

    A neck need not derive from it. The protocol of a neck: it is called with the tuple of the backbone's features and
    returns the embedding ``(V * B, D)``, or a tuple whose last entry it is; ``in_channels`` is filled in if its
    constructor takes it; ``out_channels``, D, is found by a forward pass on the meta device if it is missing.

    Args:
        in_channels (int | Sequence[int], optional): Channels of each feature, in the backbone's order. Defaults to
            None: ``HybridClassifier`` fills it in.
        init_cfg (dict, optional): mmengine's initialisation config.

    Attributes:
        in_channels (tuple[int, ...]): Channels of each feature.
        out_channels (int): Width D of the embedding; set by the neck.

    Raises:
        ValueError: If ``in_channels`` is missing, or :meth:`pool` gets other features than it says.
    """

    out_channels: int

    def __init__(self, in_channels: Union[int, Sequence[int], None] = None, init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg)
        caller = type(self).__name__
        if in_channels is None:
            raise ValueError(
                f'{caller}: in_channels is not given. HybridClassifier fills it in from its backbone; '
                'outside of it give the channels of each feature, for example in_channels=(1024, 1024).'
            )
        channels = (in_channels,) if isinstance(in_channels, int) else tuple(in_channels)
        for count in channels:
            check_number(caller, 'in_channels', count, 1, integer=True)
        self.in_channels = channels

    def pool(self, features: Union[Tensor, Sequence[Tensor]]) -> list[Tensor]:
        """Return one vector ``(B, C_i)`` of each feature: maps and tokens are averaged over their positions."""
        features = [features] if isinstance(features, Tensor) else list(features)
        vectors = [pool_feature(feature) for feature in features]
        channels = tuple(vector.shape[1] for vector in vectors)
        if channels != self.in_channels:
            raise ValueError(
                f'{type(self).__name__}: expected features of {self.in_channels} channels, got {channels}.'
            )
        return vectors
