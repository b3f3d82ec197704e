"""The supervised contrastive loss: embeddings of one class attract each other, all others repel."""

from typing import NamedTuple, Optional, Union

import torch
from torch import Tensor

from hybridcls.checks import check_choice, check_number

from ..full_precision import WITHOUT_FLOAT64, outside_autocast
from ..l2_normalize import l2_normalize
from ..product_precision import PRODUCT_PRECISIONS
from .dense_supcon import dense_supcon
from .kernel_logsumexp import kernel_logsumexp, kernels_serve
from .streamed_logsumexp import streamed_logsumexp

__all__ = ['ANCHOR_MEANS', 'CONTRAST_MODES', 'FORMS', 'supervised_contrast']

CONTRAST_MODES = ('all', 'one')
FORMS = ('out', 'in')
ANCHOR_MEANS = ('with_positives', 'all')

# Up to so many embeddings one matrix of similarities costs less than what streaming does around its blocks.
_FEW_ROWS = 192


def supervised_contrast(
    embeddings: Tensor,
    labels: Optional[Tensor] = None,
    temperature: Union[float, Tensor] = 0.1,
    *,
    contrast_mode: str = 'all',
    form: str = 'out',
    anchor_mean: str = 'with_positives',
    base_temperature: Optional[float] = None,
    contrast_embeddings: Optional[Tensor] = None,
    contrast_labels: Optional[Tensor] = None,
    first_anchor: int = 0,
    queue_embeddings: Optional[Tensor] = None,
    queue_labels: Optional[Tensor] = None,
    streamed: Optional[bool] = None,
    mask: Optional[Tensor] = None,
    precision: str = 'float32',
    kernels: bool = False,
) -> Tensor:
    r"""Return the supervised contrastive loss.

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

    Similarities of more than a few embeddings are streamed through blocks (:func:`streamed_logsumexp`), and the
    positives' term of :math:`L_{out}`, being linear in them, comes from one sum of embeddings a class. So memory is
    linear in the number of embeddings. A small batch that is streamed all the same is computed in float64.

    Args:
        embeddings (Tensor): V views of B images, shape (B, V, D), any V >= 1, of any norm and floating dtype;
            L2-normalized here, in float32.
        labels (Tensor, optional): Integers, shape (B,), in any range. Defaults to None, SimCLR.
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
        queue_embeddings (Tensor, optional): More to contrast with, shape (M, D), never anchors: positives by their
            labels and else negatives.
        queue_labels (Tensor, optional): Their labels, shape (M,). Without labels all of the queue is negative.
        streamed (bool, optional): False holds all similarities, and can be differentiated twice. Defaults to None:
            True where there are more than 192 rows, from where on it is faster.
        mask (Tensor, optional): Instead of labels, how much image j is a positive of image i, shape (B, B), bool or
            floating, >= 0, symmetric or not, as the authors' code takes it: means over positives become weighted ones.
            All similarities are held, as the mask itself is. What an image is to itself counts between its views. For
            anchors with other weights for each row, or a set of references without the anchors, there is
            :func:`dense_supcon`. Defaults to None.
        precision (str): Of the products that make similarities and gradients: 'float32'; 'tf32' on CUDA (elsewhere
            float32); 'bfloat16', on a CPU by rounding, which is no faster. Sums and exponentials are float32 in all.
            Defaults to 'float32'.
        kernels (bool): Whether to sum what is streamed by Triton's kernels where they run (CUDA, float32;
            :func:`kernels_serve`); elsewhere, and for small batches, nothing changes. Only :math:`L_{out}` with labels,
            or without any, has kernels. Defaults to False.

    Returns:
        Tensor: A scalar, float32, or float64 for float64 embeddings. With ``contrast_embeddings`` it is the share of
        the given anchors in the mean over *all* images of the contrast set: shares of disjoint anchors add up to the
        loss of the whole set.

    Raises:
        ValueError: If a shape, the temperature or a switch is out of range, or if kernels are asked for where there are
            none.
        TypeError: If labels are not integers.

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
    check_choice('supervised_contrast', 'precision', precision, PRODUCT_PRECISIONS)
    if kernels:
        _check_kernels(kernels, form, streamed, mask)
    if contrast_embeddings is None:
        contrast_embeddings, contrast_labels, first_anchor = embeddings, labels, 0
    _check_shapes(embeddings, labels)
    if mask is not None:
        if labels is not None or contrast_embeddings is not embeddings or queue_embeddings is not None or streamed:
            raise ValueError(
                'supervised_contrast: expected a mask alone, got it with labels, contrast_embeddings, queue_embeddings '
                'or streamed=True. Drop those, or the mask.'
            )
        loss = _masked_mean(embeddings, mask, temperature, contrast_mode, form, anchor_mean, precision)
        return loss if base_temperature is None else loss * (temperature / base_temperature)
    _check_shapes(contrast_embeddings, contrast_labels)
    num_images, num_views = contrast_embeddings.shape[:2]
    last_anchor = first_anchor + len(embeddings)
    if embeddings.shape[1:] != contrast_embeddings.shape[1:] or not 0 <= first_anchor <= last_anchor <= num_images:
        raise ValueError(
            f'supervised_contrast: embeddings {tuple(embeddings.shape)} from image {first_anchor} on are '
            f'not a part of contrast_embeddings {tuple(contrast_embeddings.shape)}.'
        )
    if (labels is None) != (contrast_labels is None):
        raise ValueError('supervised_contrast: labels and contrast_labels belong together; one of them is None.')
    if queue_embeddings is not None:
        _check_queue(queue_embeddings, queue_labels, embeddings, labels)

    own = l2_normalize(embeddings)[0]
    classes = _class_numbers(contrast_labels, num_images, queue_embeddings, queue_labels, embeddings.device)
    anchor_classes = classes[first_anchor:last_anchor]
    anchor_views = num_views if contrast_mode == 'all' else 1
    anchors = _Rows(own, anchor_classes)
    others = []
    if anchor_views < num_views:
        anchors = _Rows(own[:, :anchor_views], anchor_classes)
        others.append(_Rows(own[:, anchor_views:], anchor_classes))
    for start, stop in ((0, first_anchor), (last_anchor, num_images)):  # images of other processes
        if start < stop:
            others.append(_Rows(l2_normalize(contrast_embeddings[start:stop])[0], classes[start:stop]))
    if queue_embeddings is not None and len(queue_embeddings):
        others.append(_Rows(l2_normalize(queue_embeddings.to(own.dtype))[0].unsqueeze(1), classes[num_images:]))

    sizes = _class_sizes(classes, num_images, num_views)
    is_small = sum(rows.embeddings.shape[:2].numel() for rows in [anchors, *others]) <= _FEW_ROWS
    if streamed is None:
        streamed = not is_small
    elif streamed and is_small and own.device.type not in WITHOUT_FLOAT64:
        # Few anchors do not average out that float32 rounds a similarity of 10 by up to 5e-7.
        anchors, *others = (_Rows(rows.embeddings.double(), rows.classes) for rows in (anchors, *others))
    if streamed:
        kernels = kernels and kernels_serve(anchors.embeddings)
        total = _streamed_total(anchors, others, sizes, temperature, form, precision, kernels)
    else:
        total = _dense_total(anchors, others, sizes, temperature, form, precision)
    if anchor_mean == 'all':
        num_anchors: Union[int, Tensor] = max(1, num_images * anchor_views)
    else:
        num_anchors = (anchor_views * (sizes[classes[:num_images]] > 1).sum()).clamp(min=1)
    loss = total.to(own.dtype) / num_anchors
    return loss if base_temperature is None else loss * (temperature / base_temperature)


def _masked_mean(
    embeddings: Tensor,
    mask: Tensor,
    temperature: Union[float, Tensor],
    contrast_mode: str,
    form: str,
    anchor_mean: str,
    precision: str,
) -> Tensor:
    """Return the mean over anchors with positives, given by a mask (B, B)."""
    num_images, num_views = embeddings.shape[:2]
    if mask.shape != (num_images, num_images) or (mask.device.type == 'cpu' and not (mask >= 0).all()):
        raise ValueError(
            f'supervised_contrast: expected a mask of shape {(num_images, num_images)} without negative entries, got '
            f'shape {tuple(mask.shape)}. One row an image, one column an image.'
        )
    rows = l2_normalize(embeddings)[0].flatten(0, 1)
    own_rows = torch.arange(len(rows), device=rows.device)
    if contrast_mode == 'one':
        own_rows = own_rows[::num_views]
    of_rows = mask.repeat_interleave(num_views, 1)[own_rows // num_views]
    losses = dense_supcon(rows[own_rows], rows, None, None, own_rows, temperature, form, of_rows, precision)
    if anchor_mean == 'all':
        return losses.sum() / max(1, len(losses))
    positives = of_rows.scatter(1, own_rows.unsqueeze(1), 0) > 0
    return losses.sum() / positives.any(1).sum().clamp(min=1)


class _Rows(NamedTuple):
    """L2-normalized embeddings of images in views, (B, V, D), and the class number of each image, (B,)."""

    embeddings: Tensor
    classes: Tensor

    def flat(self) -> Tensor:
        return self.embeddings.reshape(-1, self.embeddings.shape[2])  # flatten of (1, 1, 1) fails on meta in torch 2.11

    def flat_classes(self) -> Tensor:
        return self.classes.repeat_interleave(self.embeddings.shape[1])

    def class_sums(self, num_classes: int) -> Tensor:
        """Return the sum of the embeddings of each class, (C, D)."""
        over_views = self.embeddings.sum(1)
        return over_views.new_zeros((num_classes, over_views.shape[1])).index_add(0, self.classes, over_views)


def _dense_total(
    anchors: _Rows, others: list[_Rows], sizes: Tensor, temperature: Union[float, Tensor], form: str, precision: str
) -> Tensor:
    """Return the sum of the anchors' losses, from all similarities at once."""
    rows, classes = anchors.flat(), anchors.flat_classes()
    contrasts, contrast_classes = rows, classes
    if others:
        contrasts = torch.cat([rows, *(other.flat() for other in others)])
        contrast_classes = torch.cat([classes, *(other.flat_classes() for other in others)])
    own_rows = torch.arange(len(rows), device=rows.device)
    losses = dense_supcon(rows, contrasts, classes, contrast_classes, own_rows, temperature, form, precision=precision)
    return losses.sum()


def _streamed_total(
    anchors: _Rows,
    others: list[_Rows],
    sizes: Tensor,
    temperature: Union[float, Tensor],
    form: str,
    precision: str,
    kernels: bool,
) -> Tensor:
    """Return the sum of the anchors' losses, without a matrix of all similarities."""
    by_class = form == 'in'
    rows, classes = anchors.flat(), anchors.flat_classes()
    with outside_autocast(rows):
        contrasts = [other.flat() for other in others]
        if kernels:
            log_sums, of_class = kernel_logsumexp(rows, temperature, contrasts, precision), None
        else:
            log_sums, of_class = streamed_logsumexp(
                rows,
                temperature,
                contrasts,
                classes if by_class else None,
                [other.flat_classes() for other in others] if by_class else (),
                precision=precision,
            )
        num_positives = (sizes[classes] - 1).to(rows.dtype)
        counts = (num_positives > 0).to(rows.dtype)
        if of_class is not None:
            return (log_sums - of_class + num_positives.clamp(min=1).log()) @ counts
        anchor_sums = class_sums = anchors.class_sums(len(sizes))
        for other in others:
            class_sums = class_sums + other.class_sums(len(sizes))
        # The similarities of an anchor to its positives add up to its similarity to the sum of its class without
        # itself. Each anchor's two terms meet before anything is summed over anchors: where the loss is small, so is
        # their difference, and totals of both would round it away.
        with torch.no_grad():
            positives = class_sums.index_select(0, classes).sub_(rows)
            attraction = torch.linalg.vecdot(rows, positives) / num_positives.clamp(min=1)
        # The gradient has no such difference, and is cheaper by classes: all anchors of one have the same positives
        # but for themselves, which is a constant, since the norms are 1.
        share = (sizes > 1).to(rows.dtype) / (sizes - 1).clamp(min=1)
        pull = torch.linalg.vecdot(anchor_sums, class_sums) @ share
        return (log_sums - attraction / temperature) @ counts - (pull - pull.detach()) / temperature


def _class_numbers(
    labels: Optional[Tensor],
    num_images: int,
    queue: Optional[Tensor],
    queue_labels: Optional[Tensor],
    device: torch.device,
) -> Tensor:
    """Number the classes of the images, then those of the queue, from 0; fewer than there are rows."""
    queue_size = 0 if queue is None else len(queue)
    if labels is None:  # each image is a class, and all of the queue another one
        return torch.arange(num_images + queue_size, device=device).clamp(max=num_images)
    everything = labels if queue_labels is None else torch.cat([labels, queue_labels.to(labels.dtype)])
    ordered, order = everything.sort()  # unique() would wait for the device
    is_new = torch.ones_like(ordered, dtype=torch.int64)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return torch.empty_like(is_new).scatter_(0, order, is_new.cumsum(0) - 1)


def _class_sizes(classes: Tensor, num_images: int, num_views: int) -> Tensor:
    """Count the embeddings of each class: each view of an image, and each entry of the queue."""
    on_host = classes.device.type == 'cpu' and len(classes)
    room = int(classes.max()) + 1 if on_host else len(classes)  # elsewhere as many as there can be, without waiting
    weights = torch.ones_like(classes)
    weights[:num_images] = num_views
    return torch.zeros(room, dtype=torch.int64, device=classes.device).index_add_(0, classes, weights)


def _check_switches(
    temperature: Union[float, Tensor],
    contrast_mode: str,
    form: str,
    anchor_mean: str,
    base_temperature: Optional[float],
) -> None:
    check_choice('supervised_contrast', 'contrast_mode', contrast_mode, CONTRAST_MODES)
    check_choice('supervised_contrast', 'form', form, FORMS)
    check_choice('supervised_contrast', 'anchor_mean', anchor_mean, ANCHOR_MEANS)
    if isinstance(temperature, Tensor) and temperature.numel() != 1:
        raise ValueError(
            f'supervised_contrast: expected one temperature for all anchors, got shape {tuple(temperature.shape)}.'
        )
    if not isinstance(temperature, Tensor) or temperature.device.type == 'cpu':  # a GPU would be waited for
        temperature = temperature.item() if isinstance(temperature, Tensor) else temperature
        check_number('supervised_contrast', 'temperature', temperature, 0, low_open=True)
    if base_temperature is not None:
        check_number('supervised_contrast', 'base_temperature', base_temperature, 0, low_open=True)


def _check_kernels(kernels: bool, form: str, streamed: Optional[bool], mask: Optional[Tensor]) -> None:
    for other, without in (
        (f'form={form!r}', form != 'out'),
        (f'streamed={streamed}', streamed is False),
        ('a mask', mask is not None),
    ):
        if without:
            raise ValueError(
                f'supervised_contrast: expected kernels=False with {other}, got kernels={kernels}. '
                "Triton's kernels are those of form='out' by labels, streamed."
            )


def _check_shapes(embeddings: Tensor, labels: Optional[Tensor]) -> None:
    if embeddings.dim() != 3:
        raise ValueError(
            f'supervised_contrast: expected embeddings of shape (B, V, D), got {tuple(embeddings.shape)}. For one '
            'view of each image write embeddings.unsqueeze(1).'
        )
    if labels is None:
        return
    if not isinstance(labels, Tensor):
        raise TypeError(
            f'supervised_contrast: expected labels as a tensor of integers, shape (B,), got '
            f'{type(labels).__name__}. Write torch.as_tensor(labels).'
        )
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f'supervised_contrast: expected one label for each of {len(embeddings)} images, got labels of shape '
            f'{tuple(labels.shape)}.'
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(
            f'supervised_contrast: expected labels of an integer dtype, such as torch.int64, got {labels.dtype}. '
            'Mixed labels (mixup, cutmix) have no positives: switch those augmentations off.'
        )


def _check_queue(queue: Tensor, queue_labels: Optional[Tensor], embeddings: Tensor, labels: Optional[Tensor]) -> None:
    if queue.dim() != 2 or queue.shape[1] != embeddings.shape[2]:
        raise ValueError(
            f'supervised_contrast: expected queue_embeddings of shape (M, {embeddings.shape[2]}), the width of the '
            f'embeddings, got {tuple(queue.shape)}.'
        )
    if (labels is None) != (queue_labels is None):
        raise ValueError('supervised_contrast: labels and queue_labels belong together; one of them is None.')
    _check_shapes(queue.unsqueeze(1), queue_labels)
