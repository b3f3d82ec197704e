"""The CosFace head."""

from typing import Any, Optional

from hybridcls.registry import MODELS

from .margin_head import MarginHead


@MODELS.register_module()
class CosFaceHead(MarginHead):
    r"""`CosFace <https://arxiv.org/abs/1801.09414>`_: :math:`s (\cos\theta_y - m)` for the target class.

    The margin is described at :func:`hybridcls.functional.additive_cosine_margin_on_target`, everything else at
    :class:`MarginHead`.

    Args:
        num_classes (int): C.
        in_channels (int, optional): Width of the embedding. ``HybridClassifier`` fills it in.
        margin (float): m, in [0, 2]. Defaults to 0.35, as in the paper (InsightFace's class has 0.4).
        scale (float): s. Defaults to 64.
        **kwargs: The other keys of :class:`MarginHead`.

    Example:
        >>> MODELS.build(dict(type='CosFaceHead', num_classes=10, in_channels=4)).margin
        0.35
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Optional[int] = None,
        margin: float = 0.35,
        scale: float = 64.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, in_channels, dict(type='CosFace', margin=margin), scale, **kwargs)
