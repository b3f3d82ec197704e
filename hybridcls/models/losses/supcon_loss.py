"""The supervised contrastive loss."""
from typing import Optional

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hybridcls.checks import check_number
from hybridcls.functional import gather_rows, num_processes, supervised_contrast, unit_rows
from hybridcls.registry import MODELS


@MODELS.register_module()
class SupConLoss(nn.Module):
    r"""Pull the views of one class together and push the other classes away.

    .. math::
        L = \frac{1}{|I|} \sum_{i \in I} \frac{-1}{|P(i)|} \sum_{p \in P(i)}
            \log \frac{e^{z_i \cdot z_p / \tau}}{\sum_{a \ne i} e^{z_i \cdot z_a / \tau}}

    Eq. 2 of `Supervised Contrastive Learning <https://arxiv.org/abs/2004.11362>`_, averaged over the anchors I that
    have positives. The authors' code (HobbitLong/SupContrast) is
    ``dict(type='SupConLoss', temperature=t, base_temperature=0.07, anchor_mean='all')``.

    With several processes, in training mode, anchors meet the embeddings of all of them, with gradients: after
    ``DistributedDataParallel``'s mean the parameters' gradients are those of one process with the whole batch, also
    where processes have different numbers of images or of anchors with positives. The returned value is the loss of
    the whole batch, on every process the same. In evaluation mode each process contrasts its own batch.

    Args:
        temperature (float): :math:`\tau > 0`, unitless. Defaults to 0.1.
        contrast_mode (str): 'all': every view is an anchor. 'one': the first view of each image is. Defaults to 'all'.
        form (str): 'out' (eq. 2, default) or 'in' (eq. 3).
        anchor_mean (str): 'with_positives' (default): anchors without positives are left out; without any, the loss is
            0. 'all': they count as zeros.
        base_temperature (float, optional): Multiply the loss by :math:`\tau` over this. Defaults to None, no factor.
        gather (bool): Whether to contrast with the embeddings of the other processes. Defaults to True.
        loss_weight (float): A factor. Defaults to 1.

    Shape:
        - embeddings: ``(B, V, D)``, V views an image, any length and floating dtype; normalised here, in float32.
        - labels: ``(B,)`` whole numbers, or None: each image is a class of its own (SimCLR).
        - returns: scalar, float32 even under mixed precision.

    Raises:
        ValueError: If the temperature, a switch or a shape is out of range.
        TypeError: If labels are not whole numbers.

    Example:
        >>> loss = MODELS.build(dict(type='SupConLoss'))
        >>> two_equal_views = torch.eye(2).unsqueeze(1).repeat(1, 2, 1)
        >>> loss(two_equal_views, torch.tensor([0, 1])).item() < 1e-3
        True
    """

    def __init__(self,
                 temperature: float = 0.1,
                 contrast_mode: str = 'all',
                 form: str = 'out',
                 anchor_mean: str = 'with_positives',
                 base_temperature: Optional[float] = None,
                 gather: bool = True,
                 loss_weight: float = 1.) -> None:
        super().__init__()
        check_number('SupConLoss', 'temperature', temperature, 0, low_open=True)
        check_number('SupConLoss', 'loss_weight', loss_weight, 0)
        self.temperature = temperature
        self.contrast_mode = contrast_mode
        self.form = form
        self.anchor_mean = anchor_mean
        self.base_temperature = base_temperature
        self.gather = gather
        self.loss_weight = loss_weight
        self._contrast(torch.zeros(1, 1, 1), None)  # complains about a switch now, not at the first batch

    def forward(self, embeddings: Tensor, labels: Optional[Tensor] = None) -> Tensor:
        """Return the loss of V views of B images, shape ``(B, V, D)``, with labels ``(B,)`` or without."""
        world_size = num_processes()
        if not self.gather or not self.training or world_size == 1:
            return self._contrast(embeddings, labels) * self.loss_weight
        embeddings = unit_rows(embeddings)[0]  # float32 before it travels
        if labels is None:
            (everywhere,), start = gather_rows(embeddings)
            labels_everywhere = None
        else:
            (everywhere, labels_everywhere), start = gather_rows(embeddings, labels)
        share = self._contrast(
            embeddings,
            labels,
            contrast_embeddings=everywhere,
            contrast_labels=labels_everywhere,
            first_anchor=start)
        whole = share.detach().clone()
        dist.all_reduce(whole)
        # The value is the sum of the shares; the gradient is the share's, times the processes that DDP divides by.
        return (whole + world_size * (share - share.detach())) * self.loss_weight

    def _contrast(self, embeddings: Tensor, labels: Optional[Tensor], **contrast_set: object) -> Tensor:
        return supervised_contrast(
            embeddings,
            labels,
            self.temperature,
            contrast_mode=self.contrast_mode,
            form=self.form,
            anchor_mean=self.anchor_mean,
            base_temperature=self.base_temperature,
            **contrast_set)

    def extra_repr(self) -> str:
        """The settings, for ``print(model)``."""
        return (f'temperature={self.temperature}, contrast_mode={self.contrast_mode!r}, form={self.form!r}, '
                f'anchor_mean={self.anchor_mean!r}, base_temperature={self.base_temperature}, gather={self.gather}')
