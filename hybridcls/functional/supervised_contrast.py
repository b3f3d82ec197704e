"""Supervised contrast: embeddings of one class attract each other, all others repel."""
from typing import Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridcls.checks import check_choice, check_number

from .full_precision import outside_autocast
from .unit_vectors import unit_rows

__all__ = ['ANCHOR_MEANS', 'CONTRAST_MODES', 'FORMS', 'contrast_of_anchors', 'supervised_contrast']

CONTRAST_MODES = ('all', 'one')
FORMS = ('out', 'in')
ANCHOR_MEANS = ('with_positives', 'all')


def supervised_contrast(embeddings: Tensor,
                        labels: Optional[Tensor] = None,
                        temperature: Union[float, Tensor] = 0.1,
                        *,
                        contrast_mode: str = 'all',
                        form: str = 'out',
                        anchor_mean: str = 'with_positives',
                        base_temperature: Optional[float] = None,
                        contrast_embeddings: Optional[Tensor] = None,
                        contrast_labels: Optional[Tensor] = None,
                        first_anchor: int = 0) -> Tensor:
    r"""The supervised contrastive loss.

    .. math::
        L = \frac{1}{|I|} \sum_{i \in I} \frac{-1}{|P(i)|} \sum_{p \in P(i)}
            \log \frac{e^{z_i \cdot z_p / \tau}}{\sum_{a \ne i} e^{z_i \cdot z_a / \tau}}

    Eq. 2 of `Supervised Contrastive Learning <https://arxiv.org/abs/2004.11362>`_ (:math:`L_{out}`), averaged. Without
    labels an image is a class of its own, which is SimCLR's loss. Where the authors' code (HobbitLong/SupContrast) and
    the equation differ, the equation is the default and the code has a switch:

    - The code multiplies by :math:`\tau / 0.07`: ``base_temperature=0.07``.
    - The equation sums over anchors and divides by zero for one without positives. Here those are left out of the mean
      (no anchor with positives: the loss is 0); the code counts them as zeros: ``anchor_mean='all'``.
    - :math:`L_{in}` (eq. 3), which has the mean over positives inside the logarithm: ``form='in'``.

    Args:
        embeddings (Tensor): V views of B images, shape (B, V, D), any V >= 1, any length and floating dtype; normalised
            here, in float32.
        labels (Tensor, optional): Whole numbers, shape (B,), in any range. Defaults to None, SimCLR.
        temperature (float | Tensor): :math:`\tau > 0`. A tensor of one number may carry a gradient. Defaults to 0.1.
        contrast_mode (str): 'all': every view is an anchor. 'one': only the first view of each image is. Defaults to
            'all'.
        form (str): 'out' (default) or 'in'.
        anchor_mean (str): 'with_positives' (default) or 'all'.
        base_temperature (float, optional): Multiply by :math:`\tau` over this. Defaults to None, no factor.
        contrast_embeddings (Tensor, optional): The images that the anchors are contrasted with where these are more
            than ``embeddings``, shape (N, V, D): ``embeddings`` must be among them, from ``first_anchor`` on.
        contrast_labels (Tensor, optional): Their labels, shape (N,).
        first_anchor (int): Where ``embeddings`` begin within ``contrast_embeddings``.

    Returns:
        Tensor: A scalar, float32, or float64 for float64 embeddings. With ``contrast_embeddings`` it is the share of
        the given anchors in the mean over *all* images of the contrast set: shares of disjoint anchors add up to the
        loss of the whole set.

    Raises:
        ValueError: If a shape, the temperature or a switch is out of range.
        TypeError: If labels are not whole numbers.

    Example:
        >>> two_equal_views = torch.eye(2).unsqueeze(1).repeat(1, 2, 1)
        >>> supervised_contrast(two_equal_views, torch.tensor([0, 1])).item() < 1e-3
        True
        >>> halves = [supervised_contrast(two_equal_views[i:i + 1], contrast_embeddings=two_equal_views, first_anchor=i)
        ...           for i in (0, 1)]
        >>> bool(torch.isclose(sum(halves), supervised_contrast(two_equal_views)))
        True
    """
    _check_switches(temperature, contrast_mode, form, anchor_mean, base_temperature)
    if contrast_embeddings is None:
        contrast_embeddings, contrast_labels, first_anchor = embeddings, labels, 0
    _check_shapes(embeddings, labels)
    _check_shapes(contrast_embeddings, contrast_labels)
    num_images, num_views = contrast_embeddings.shape[:2]
    batch_size, device = len(embeddings), embeddings.device
    if embeddings.shape[1:] != contrast_embeddings.shape[1:] or not 0 <= first_anchor <= num_images - batch_size:
        raise ValueError(f'supervised_contrast: embeddings {tuple(embeddings.shape)} from image {first_anchor} on are '
                         f'not a part of contrast_embeddings {tuple(contrast_embeddings.shape)}.')
    if (labels is None) != (contrast_labels is None):
        raise ValueError('supervised_contrast: labels and contrast_labels belong together; one of them is None.')
    if labels is None or contrast_labels is None:
        contrast_labels = torch.arange(num_images, device=device)
        labels = contrast_labels[first_anchor:first_anchor + batch_size]

    anchor_views = num_views if contrast_mode == 'all' else 1
    # View by view, as the images stood in the batch: row v * N + i is view v of image i.
    anchors = unit_rows(embeddings[:, :anchor_views].transpose(0, 1).flatten(0, 1))[0]
    contrasts = unit_rows(contrast_embeddings.transpose(0, 1).flatten(0, 1))[0]
    images = torch.arange(first_anchor, first_anchor + batch_size, device=device)
    views = torch.arange(anchor_views, device=device) * num_images
    losses = contrast_of_anchors(
        anchors, contrasts, labels.repeat(anchor_views), contrast_labels.repeat(num_views),
        (views.unsqueeze(1) + images).flatten(), temperature, form)

    if anchor_mean == 'all':
        num_anchors: Union[int, Tensor] = max(1, num_images * anchor_views)
    else:
        num_anchors = (anchor_views * _with_positives(contrast_labels, num_views)).clamp(min=1)
    loss = losses.sum() / num_anchors
    return loss if base_temperature is None else loss * (temperature / base_temperature)


def contrast_of_anchors(anchors: Tensor,
                        contrasts: Tensor,
                        anchor_labels: Tensor,
                        contrast_labels: Tensor,
                        own_rows: Tensor,
                        temperature: Union[float, Tensor],
                        form: str = 'out') -> Tensor:
    """The loss of each anchor against all contrasts but itself; 0 for an anchor without positives.

    This is the dense form: it holds several A x N matrices.

    Args:
        anchors (Tensor): Unit rows, shape (A, D), float32 or float64.
        contrasts (Tensor): Unit rows, shape (N, D), the anchors among them.
        anchor_labels (Tensor): Shape (A,).
        contrast_labels (Tensor): Shape (N,).
        own_rows (Tensor): Where each anchor stands among the contrasts, shape (A,).
        temperature (float | Tensor): Positive.
        form (str): 'out' or 'in', see :func:`supervised_contrast`.

    Returns:
        Tensor: Shape (A,), float32 or float64.
    """
    with outside_autocast(anchors):
        similarity = anchors @ contrasts.t() / temperature
        own = own_rows.unsqueeze(1) == torch.arange(len(contrasts), device=contrasts.device)
        positive = (anchor_labels.unsqueeze(1) == contrast_labels) & ~own
        num_positives = positive.sum(1)
        # The lowest finite number, not -inf: a row without any other embedding would get NaN gradients. logsumexp
        # subtracts the largest entry first, so no temperature overflows.
        lowest = torch.finfo(similarity.dtype).min
        repulsion = similarity.masked_fill(own, lowest).logsumexp(1)
        if form == 'out':
            attraction = similarity.masked_fill(~positive, 0).sum(1) / num_positives.clamp(min=1)
        else:
            attraction = similarity.masked_fill(~positive, lowest).logsumexp(1) - num_positives.clamp(min=1).log()
        return (repulsion - attraction).masked_fill(num_positives == 0, 0)


def _with_positives(labels: Tensor, num_views: int) -> Tensor:
    """How many images have a positive: another view, or another image of their class."""
    if num_views > 1:
        return torch.tensor(len(labels), device=labels.device)
    ordered = labels.sort().values  # unique() would wait for the device
    same = ordered[1:] == ordered[:-1]
    return (F.pad(same, (0, 1)) | F.pad(same, (1, 0))).sum()


def _check_switches(temperature: Union[float, Tensor], contrast_mode: str, form: str, anchor_mean: str,
                    base_temperature: Optional[float]) -> None:
    check_choice('supervised_contrast', 'contrast_mode', contrast_mode, CONTRAST_MODES)
    check_choice('supervised_contrast', 'form', form, FORMS)
    check_choice('supervised_contrast', 'anchor_mean', anchor_mean, ANCHOR_MEANS)
    if not isinstance(temperature, Tensor):
        check_number('supervised_contrast', 'temperature', temperature, 0, low_open=True)
    if base_temperature is not None:
        check_number('supervised_contrast', 'base_temperature', base_temperature, 0, low_open=True)


def _check_shapes(embeddings: Tensor, labels: Optional[Tensor]) -> None:
    if embeddings.dim() != 3:
        raise ValueError(f'supervised_contrast: embeddings of shape {tuple(embeddings.shape)} were given; (B, V, D) is '
                         'wanted. For one view of each image write embeddings.unsqueeze(1).')
    if labels is None:
        return
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f'supervised_contrast: labels of shape {tuple(labels.shape)} came with '
                         f'{len(embeddings)} images; one label an image, shape (B,), is wanted.')
    if labels.is_floating_point() or labels.is_complex():
        raise TypeError(f'supervised_contrast: labels are {labels.dtype}; whole numbers are wanted, e.g. torch.int64. '
                        'Mixed labels (mixup, cutmix) have no positives: switch those augmentations off.')
