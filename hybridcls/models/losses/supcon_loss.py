"""The supervised contrastive loss."""

from typing import Any, Optional

import torch
import torch.distributed as dist
from mmengine.logging import print_log
from torch import Tensor, nn

from hybridcls.checks import check_known_keys, check_number
from hybridcls.distributed import gather_rows, num_processes
from hybridcls.functional import l2_normalize
from hybridcls.functional.contrastive import kernels_serve, supervised_contrast
from hybridcls.registry import MODELS

from .embedding_queue import EmbeddingQueue
from .learned_temperature import LearnedTemperature


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

    Memory is linear in the batch: similarities are streamed through blocks, not held.

    Args:
        temperature (float): :math:`\tau > 0`, unitless. Defaults to 0.1.
        learn_temperature (bool): Train :math:`\tau`, from ``temperature`` on; see :class:`LearnedTemperature`.
            Defaults to False.
        temperature_range (tuple[float, float]): The bounds of a learned temperature. Defaults to (0.01, 1).
        contrast_mode (str): 'all': every view is an anchor. 'one': the first view of each image is. Defaults to 'all'.
        form (str): 'out' (eq. 2, default) or 'in' (eq. 3).
        anchor_mean (str): 'with_positives' (default): anchors without positives are left out; without any, the loss is
            0. 'all': they count as zeros.
        base_temperature (float, optional): Multiply the loss by :math:`\tau` over this. Defaults to None, no factor.
        gather (bool): Whether to contrast with the embeddings of the other processes. Defaults to True.
        queue (dict, optional): ``dict(size=4096)``: in training, contrast with so many embeddings of past batches too,
            without gradient: positives by their labels, negatives else (all of them, without labels). They come from
            the model itself, not from a slower copy of it; all processes hold the same. ``dim``, their width, is
            filled in by ``SupConHead``. See :class:`EmbeddingQueue`. Defaults to None.
        streamed (bool, optional): False holds all similarities, which costs time and memory, and can be differentiated
            twice. Defaults to None: True but for small batches, where holding them is faster.
        precision (str): Of the products of embeddings with each other and with gradients: 'float32', 'tf32' or
            'bfloat16', see :func:`hybridcls.functional.contrastive.supervised_contrast`. Defaults to 'float32'.
        kernels (bool): Whether to compute what is streamed by Triton's kernels on CUDA, those of the margin heads; not
            measured on a GPU yet. On a CPU, in float64 and without Triton one line of the log says that it has no
            effect: the streamed form computes the same. Not for ``form='in'``. Defaults to False.
        loss_weight (float): A factor. Defaults to 1.

    Shape:
        - embeddings: ``(B, V, D)``, V views an image, any length and floating dtype; normalised here, in float32.
        - labels: ``(B,)`` integers, or None: each image is a class of its own (SimCLR).
        - returns: scalar, float32 even under mixed precision.

    Raises:
        ValueError: If the temperature, a switch or a shape is out of range, if there are no kernels for the form, or if
            several processes are to have a queue and do not gather.
        TypeError: If labels are not integers.

    Example:
        >>> loss = MODELS.build(dict(type='SupConLoss'))
        >>> two_equal_views = torch.eye(2).unsqueeze(1).repeat(1, 2, 1)
        >>> loss(two_equal_views, torch.tensor([0, 1])).item() < 1e-3
        True
    """

    def __init__(
        self,
        temperature: float = 0.1,
        contrast_mode: str = 'all',
        form: str = 'out',
        anchor_mean: str = 'with_positives',
        base_temperature: Optional[float] = None,
        gather: bool = True,
        loss_weight: float = 1.0,
        learn_temperature: bool = False,
        temperature_range: tuple[float, float] = (0.01, 1.0),
        queue: Optional[dict] = None,
        streamed: Optional[bool] = None,
        precision: str = 'float32',
        kernels: bool = False,
    ) -> None:
        super().__init__()
        check_number('SupConLoss', 'temperature', temperature, 0, low_open=True)
        check_number('SupConLoss', 'loss_weight', loss_weight, 0)
        self.start_temperature = temperature
        self.contrast_mode = contrast_mode
        self.form = form
        self.anchor_mean = anchor_mean
        self.base_temperature = base_temperature
        self.gather = gather
        self.loss_weight = loss_weight
        self.streamed = streamed
        self.precision = precision
        self.kernels = kernels
        self._told = False
        self.learned_temperature = LearnedTemperature(temperature, *temperature_range) if learn_temperature else None
        self.queue = _build_queue(queue)
        self._contrast(torch.zeros(1, 1, 1), None)  # complains about a switch now, not at the first batch

    @property
    def temperature(self) -> Any:
        """The temperature: a number, or a tensor if it is learned."""
        return self.start_temperature if self.learned_temperature is None else self.learned_temperature()

    def forward(self, embeddings: Tensor, labels: Optional[Tensor] = None) -> Tensor:
        """Return the loss of V views of B images, shape ``(B, V, D)``, with labels ``(B,)`` or without."""
        world_size = num_processes()
        if self.kernels and not self._told and not kernels_serve(embeddings):
            self._told = True
            print_log(
                f'SupConLoss: kernels={self.kernels} has no effect for {embeddings.dtype} on {embeddings.device}: '
                "Triton's kernels need CUDA, Triton, and no float64. The streamed form computes the same.",
                'current',
            )
        if not self.training:
            loss = self._contrast(embeddings, labels)
            everywhere, labels_everywhere = embeddings, labels
        elif world_size == 1 or not self.gather:
            if world_size > 1 and self.queue is not None:
                raise ValueError(
                    'SupConLoss: queue=dict(...) with gather=False on several processes: each would have '
                    'a queue of its own, and a checkpoint holds one. Use gather=True, or drop the queue.'
                )
            loss = self._contrast(embeddings, labels, **self._past(labels))
            everywhere, labels_everywhere = embeddings, labels
        else:
            loss, everywhere, labels_everywhere = self._gathered(embeddings, labels, world_size)
        if self.training and self.queue is not None:
            rows = l2_normalize(everywhere.detach())[0]
            if labels_everywhere is None:
                labels_everywhere = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
            self.queue.add(rows.flatten(0, 1), labels_everywhere.repeat_interleave(rows.shape[1]))
        return loss * self.loss_weight

    def _gathered(
        self, embeddings: Tensor, labels: Optional[Tensor], world_size: int
    ) -> tuple[Tensor, Tensor, Optional[Tensor]]:
        """Return the loss over all processes, and their embeddings and labels."""
        embeddings = l2_normalize(embeddings)[0]  # float32 before it travels
        labels_everywhere = None
        if labels is None:
            (everywhere,), start = gather_rows(embeddings)
        else:
            (everywhere, labels_everywhere), start = gather_rows(embeddings, labels)
        share = self._contrast(
            embeddings,
            labels,
            contrast_embeddings=everywhere,
            contrast_labels=labels_everywhere,
            first_anchor=start,
            **self._past(labels),
        )
        whole = share.detach().clone()
        dist.all_reduce(whole)
        # The value is the sum of the shares; the gradient is the share's, times the processes that DDP divides by.
        return whole + world_size * (share - share.detach()), everywhere, labels_everywhere

    def _past(self, labels: Optional[Tensor]) -> dict[str, Optional[Tensor]]:
        """Return the queue as arguments of the formula."""
        if self.queue is None:
            return {}
        embeddings, queue_labels = self.queue.contents()
        return dict(queue_embeddings=embeddings, queue_labels=None if labels is None else queue_labels)

    def _contrast(self, embeddings: Tensor, labels: Optional[Tensor], **contrast_set: Any) -> Tensor:
        return supervised_contrast(
            embeddings,
            labels,
            self.temperature,
            contrast_mode=self.contrast_mode,
            form=self.form,
            anchor_mean=self.anchor_mean,
            base_temperature=self.base_temperature,
            streamed=self.streamed,
            precision=self.precision,
            kernels=self.kernels,
            **contrast_set,
        )

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        start = 'temperature' if self.learned_temperature is None else 'start_temperature'
        return (
            f'{start}={self.start_temperature}, contrast_mode={self.contrast_mode!r}, form={self.form!r}, '
            f'anchor_mean={self.anchor_mean!r}, base_temperature={self.base_temperature}, gather={self.gather}'
        )


def _build_queue(queue: Optional[dict]) -> Optional[EmbeddingQueue]:
    if queue is None:
        return None
    if not isinstance(queue, dict) or 'size' not in queue:
        raise TypeError(f'SupConLoss: queue={queue!r} must be a dict such as dict(size=4096), or None.')
    check_known_keys('SupConLoss: queue', queue, ['size', 'dim'])
    if queue.get('dim') is None:
        raise ValueError(
            f'SupConLoss: queue={dict(queue)} lacks dim, the width of the embeddings that the loss gets. '
            'SupConHead fills it in from a projection that has out_channels; else give '
            f'queue=dict(size={queue["size"]}, dim=128).'
        )
    return EmbeddingQueue(**queue)
