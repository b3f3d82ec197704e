"""The loss that keeps embeddings of a new model comparable with those of an old one."""

from collections.abc import Callable
from typing import Optional

from torch import Tensor, nn

from hybridcls.checks import check_choice, check_number
from hybridcls.functional.distillation import INFLUENCE_MEANS, cosine_feature_loss, influence_loss
from hybridcls.registry import MODELS


@MODELS.register_module()
class BackwardCompatLoss(nn.Module):
    r"""Make an old model's classifier work on new embeddings, so that these can search an index of the old ones.

    .. math::
        \lambda \, L_{CE}(c_{old}(z), y) + \alpha \, (1 - \cos(z, z_{old}))

    The first term is the influence loss of `Shen et al. <https://arxiv.org/abs/2003.11942>`_; the second, off by
    default, compares each embedding with the old one of the same image. (Alone it did not make embeddings compatible in
    the paper, which calls it the L2 baseline.) Of new embeddings wider than the old ones, the first D numbers take
    part. The loss has neither parameters nor buffers.

    Args:
        influence_weight (float): :math:`\lambda \ge 0`. Defaults to 1.
        alignment_weight (float): :math:`\alpha \ge 0`. Defaults to 0.
        scale (float): > 0; factor of the cosines where the old classifier is made of prototypes. Defaults to 16.
        influence_mean (str): ``'all'`` averages the influence loss over all images; ``'known'`` over those whose class
            the old model has, as the authors' code does. Defaults to ``'all'``.

    Shape:
        - embeddings: ``(N, D')``, D' >= D, any norm.
        - targets: int64 ``(N,)``, or probabilities ``(N, C)``.
        - classifier: from ``(N, D)`` to logits ``(N, K)``.
        - old_classes: int64 ``(C,)``; see :func:`hybridcls.functional.distillation.influence_loss`.
        - returns: ``loss_influence`` and ``loss_alignment``, scalars, where their weights are not 0.

    Raises:
        ValueError: If a weight is negative, or both are 0, or for another mean.

    Example:
        >>> import torch
        >>> loss = BackwardCompatLoss()
        >>> new = torch.tensor([[1., 0., 7.], [0., 1., 7.]])
        >>> loss(new, torch.tensor([0, 1]), lambda embedding: 9 * embedding, torch.tensor([0, 1]), width=2)
        {'loss_influence': tensor(0.0001)}
    """

    def __init__(
        self,
        influence_weight: float = 1.0,
        alignment_weight: float = 0.0,
        scale: float = 16.0,
        influence_mean: str = 'all',
    ) -> None:
        super().__init__()
        check_number('BackwardCompatLoss', 'influence_weight', influence_weight, 0)
        check_number('BackwardCompatLoss', 'alignment_weight', alignment_weight, 0)
        check_number('BackwardCompatLoss', 'scale', scale, 0, low_open=True)
        check_choice('BackwardCompatLoss', 'influence_mean', influence_mean, INFLUENCE_MEANS)
        if not influence_weight and not alignment_weight:
            raise ValueError(
                'BackwardCompatLoss: influence_weight and alignment_weight are both 0, so nothing is compared with the '
                'old model. Give one of them a weight, or drop the hook.'
            )
        self.influence_weight = influence_weight
        self.alignment_weight = alignment_weight
        self.scale = scale
        self.influence_mean = influence_mean

    def forward(
        self,
        embeddings: Tensor,
        targets: Optional[Tensor],
        classifier: Optional[Callable[[Tensor], Tensor]],
        old_classes: Optional[Tensor],
        width: int,
        old_embeddings: Optional[Tensor] = None,
    ) -> dict[str, Tensor]:
        """Return the weighted losses by name; ``width`` is D of the old embeddings."""
        embeddings = embeddings[:, :width]
        losses = {}
        if self.influence_weight and targets is not None and classifier is not None and old_classes is not None:
            influence = influence_loss(classifier(embeddings), targets, old_classes, self.influence_mean)
            losses['loss_influence'] = self.influence_weight * influence
        if self.alignment_weight and old_embeddings is not None:
            losses['loss_alignment'] = self.alignment_weight * cosine_feature_loss(embeddings, old_embeddings)
        return losses
