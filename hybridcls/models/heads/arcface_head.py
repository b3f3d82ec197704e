"""The ArcFace head."""

from typing import Any, Optional

from hybridcls.registry import MODELS

from .margin_head import MarginHead


@MODELS.register_module()
class ArcFaceHead(MarginHead):
    r"""`ArcFace <https://arxiv.org/abs/1801.07698>`_: :math:`s \cos(\theta_y + m)` for the target class.

    The margin is described at :func:`hybridcls.functional.angular_margin_on_target`, everything else at
    :class:`MarginHead`. The analytic gradient and InsightFace's fallback past pi - m are the defaults.

    Args:
        num_classes (int): C.
        in_channels (int, optional): Width of the embedding. ``HybridClassifier`` fills it in.
        margin (float): m in radians, in [0, pi). Defaults to 0.5.
        scale (float): s. Defaults to 64.
        beyond_pi (str): Past theta = pi - m: 'linear' (default), 'easy', 'clip' or 'wrap'.
        gradient (str): 'analytic' (default) or 'straight_through'. The latter with ``beyond_pi='wrap'`` is what
            InsightFace's training script computes.
        **kwargs: The other keys of :class:`MarginHead`.

    Example:
        >>> MODELS.build(dict(type='ArcFaceHead', num_classes=10, in_channels=4, margin=0.3)).margin
        0.3
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Optional[int] = None,
        margin: float = 0.5,
        scale: float = 64.0,
        beyond_pi: str = 'linear',
        gradient: str = 'analytic',
        **kwargs: Any,
    ) -> None:
        margin_cfg = dict(type='ArcFace', margin=margin, beyond_pi=beyond_pi, gradient=gradient)
        super().__init__(num_classes, in_channels, margin_cfg, scale, **kwargs)
