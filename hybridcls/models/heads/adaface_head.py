"""The AdaFace head."""

from typing import Any, Optional

from hybridcls.registry import MODELS

from .margin_head import MarginHead


@MODELS.register_module()
class AdaFaceHead(MarginHead):
    r"""`AdaFace <https://arxiv.org/abs/2204.00964>`_: a margin that depends on the norm of the embedding.

    The margin is described at :func:`hybridcls.functional.adaptive_margin_on_target`, its running statistics at
    :class:`hybridcls.models.margins.AdaFaceMargin`, everything else at :class:`MarginHead`. With ``cosine_clip=1e-3``
    it is the code of mk-minchul/AdaFace; with ``gradient='straight_through', clip_angle=False`` that of CVLFace.

    Logs ``norm_mean`` and ``norm_std``, the running statistics, beside the loss.

    Args:
        num_classes (int): C.
        in_channels (int, optional): Width of the embedding. ``HybridClassifier`` fills it in.
        margin (float): m, in [0, pi / 2]. Defaults to 0.4.
        scale (float): s. Defaults to 64.
        h (float): Share of the clip range that one standard deviation of the norms fills. Defaults to 0.333.
        t_alpha (float): Weight of the new batch in the running statistics. Defaults to 0.01.
        gradient (str): 'analytic' (default) or 'straight_through'.
        clip_angle (bool): Keep the turned angle within [0, pi], up to 0.001. Defaults to True.
        **kwargs: The other keys of :class:`MarginHead`.

    Example:
        >>> head = MODELS.build(dict(type='AdaFaceHead', num_classes=10, in_channels=4))
        >>> head.margin, head.margin_function.norm_mean
        (0.4, tensor(20.))
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Optional[int] = None,
        margin: float = 0.4,
        scale: float = 64.0,
        h: float = 0.333,
        t_alpha: float = 0.01,
        gradient: str = 'analytic',
        clip_angle: bool = True,
        **kwargs: Any,
    ) -> None:
        margin_cfg = dict(type='AdaFace', margin=margin, h=h, t_alpha=t_alpha, gradient=gradient, clip_angle=clip_angle)
        super().__init__(num_classes, in_channels, margin_cfg, scale, **kwargs)
