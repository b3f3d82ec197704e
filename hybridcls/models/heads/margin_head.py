"""Cross entropy over cosines to class weights, with any margin."""

from collections.abc import Sequence
from typing import Any, Optional

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hybridcls.checks import check_choice, check_number
from hybridcls.distributed import RowShard, has_process_group
from hybridcls.distributed.drawn_rows import with_row_gradient
from hybridcls.distributed.sharded_parameters import draw_rows, shard_rows
from hybridcls.distributed.sharded_softmax import sharded_cosine_logits, sharded_margin_cross_entropy
from hybridcls.functional import cosine_logits, l2_normalize, margin_cross_entropy
from hybridcls.functional.margins.margin_softmax import SOFTMAX_FORMS
from hybridcls.functional.product_precision import PRODUCT_PRECISIONS
from hybridcls.registry import MODELS
from hybridcls.renames import keeps_old_spellings
from hybridcls.structures import read_hard_labels

from ..margins.margin import check_margin, check_target_logits, log_scalars_of
from ..modules.class_balance import ClassWeight, LogitAdjustment
from .classification_head import ClassificationHead
from .head import Features


@MODELS.register_module()
@keeps_old_spellings
class MarginHead(ClassificationHead):
    r"""Cross entropy over scaled cosines to class weights, with a margin on the target class.

    The margin is a registered module that follows :class:`hybridcls.models.margins.Margin`: it turns the cosines to the
    target classes into target logits. What its ``log_scalars()`` returns is logged beside the loss.

    Cosines are computed outside of autocast, from class weights and embeddings that are L2-normalized there in float32;
    the parameter itself is never cast. The products of a training are of ``head_precision``. Scores are float32: the
    softmax of ``scale`` times the cosine *without* the margin, which belongs to training. They rank the classes, but a
    scale of 64 makes them overconfident.

    The softmax over the classes streams: no more than a block of the N x C logits is held at a time, forward and
    backward, unless there are so few that the dense form is faster (key ``softmax``; the numbers are the same).

    With ``shard_classes=True`` each of W processes holds the weights of ``ceil(C / W)`` classes (the last ones fewer,
    or none), their gradients and their part of the optimizer's state; loss and gradients are those of one process with
    the whole batch, see :func:`hybridcls.distributed.sharded_margin_cross_entropy`. Checkpoints hold the whole matrix
    and fit any number of processes, or a head that is not sharded. In several processes all must call ``forward`` and
    ``predict``; one process alone, to test or to export, holds everything. Training with ``shard_classes=True``
    requires a process group.

    Each view of an image is one more sample with the image's label. Labels must be hard: with soft ones (mixup, cutmix)
    there is no target class to give the margin to.

    Args:
        num_classes (int): C.
        in_channels (int, optional): Width of the embedding, D. ``HybridClassifier`` fills it in.
        margin (dict): The margin's config: 'ArcFace', 'CosFace', 'AdaFace', 'CombinedMargin', 'ClassWise' (another one
            with a number for each class), or yours; ``num_classes`` is filled in where it takes that key.
            Defaults to ``dict(type='ArcFace')``.
        scale (float): Inverse temperature of the softmax, > 0. Defaults to 64.
        label_smoothing (float): Share of the target that is spread evenly over all classes, in [0, 1). Defaults to 0.
        cosine_clip (float, optional): Keep all cosines this far from +-1, without gradient beyond: 1e-3 and 1e-4 in the
            AdaFace repository's AdaFace and ArcFace. Defaults to None.
        softmax (str): 'dense', 'streamed', or 'auto', the faster one; see
            :func:`hybridcls.functional.margin_cross_entropy`. Defaults to 'auto'.
        softmax_memory (int, optional): Bytes for the blocks of logits when streamed. Defaults to None: 4 MiB on a CPU,
            128 MiB elsewhere.
        num_subcenters (int): K weights a class; the cosine of a class is that of the nearest one, which alone gets the
            gradient: `Sub-center ArcFace <https://doi.org/10.1007/978-3-030-58621-8_43>`_. Defaults to 1.
        shard_classes (bool): Spread the classes over the processes. Defaults to False.
        sample_rate (float): With ``shard_classes``: the share of its classes that a process takes into a training step,
            in (0, 1]; those of the batch are always in, the others drawn again in each step (`Partial FC
            <https://arxiv.org/abs/2203.15565>`_). The loss and the accuracy in the log are then among the drawn ones.
            Weights that were not drawn have the gradient 0, as in InsightFace's ``PartialFC_V2``: weight decay and
            momentum continue for them, unless ``update_drawn_only``. Defaults to 1.
        update_drawn_only (bool): With ``sample_rate`` < 1: weights that no micro-batch of an update has drawn stay as
            they are, and so does their part of the optimizer's state, as in InsightFace's ``PartialFC`` of the paper
            and in ``torch.optim.SparseAdam``. The gradient has the drawn rows alone, so that neither memory nor time
            is spent on the others. Needs ComposedOptimWrapper. Defaults to False.
        class_weight (str | dict | Sequence[float], optional), logit_adjustment (float | dict, optional): Against
            imbalance of the classes, see :class:`ClassificationHead`. A weight multiplies the whole loss of a sample;
            the adjustment is added to ``scale`` times the cosine, that of the target class with its margin. Both work
            streamed, sharded and sampled. (Class weights in the text above are the prototypes.) Defaults to None.
        head_precision (str): Of the products of embeddings with class weights and with gradients: 'float32'; 'tf32' on
            CUDA, elsewhere float32; 'bfloat16', on a CPU by rounding, which is no faster. Sums, norms, exponentials,
            the margin and the cosines to the target classes are float32 in all. Defaults to 'tf32'.
        init_cfg (dict, optional): Defaults to None. Class weights start from a normal distribution of standard
            deviation 0.01, as in InsightFace; only their direction counts, but the smaller their norm at the start,
            the faster they turn.

    Attributes:
        weight (Parameter): Class weights, of any norm, shape (C, D), or (C, K, D) with K subcenters. When sharded,
            those of the classes of this process.
        class_shard (RowShard): Which classes these are.
        margin (float): The margin's own number, to read or to set (a warm-up).
        scale (float): To read or to set.

    Raises:
        ValueError, TypeError: If a number is out of range, a label is, or labels are soft.
        RuntimeError: If classes are sharded and there is no process group to train in.

    Example:
        >>> head = MODELS.build(dict(type='MarginHead', num_classes=3, in_channels=8, margin=dict(type='ArcFace')))
        >>> losses = head.loss((torch.ones(2, 8),), [DataSample().set_gt_label(label) for label in (0, 2)])
        >>> sorted(losses)
        ['accuracy_top-1', 'loss']
        >>> head((torch.ones(2, 8),)).abs().max() <= 64  # cosines times scale
        tensor(True)
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Optional[int] = None,
        margin: Optional[dict] = None,
        scale: float = 64.0,
        label_smoothing: float = 0.0,
        cosine_clip: Optional[float] = None,
        softmax: str = 'auto',
        softmax_memory: Optional[int] = None,
        num_subcenters: int = 1,
        shard_classes: bool = False,
        sample_rate: float = 1.0,
        init_cfg: Optional[dict] = None,
        class_weight: ClassWeight = None,
        logit_adjustment: LogitAdjustment = None,
        head_precision: str = 'tf32',
        update_drawn_only: bool = False,
    ) -> None:
        super().__init__(num_classes, in_channels, label_smoothing, init_cfg, class_weight, logit_adjustment)
        check_number(self._name, 'scale', scale, 0, low_open=True)
        if cosine_clip is not None:
            check_number(self._name, 'cosine_clip', cosine_clip, 0, 1, high_open=True)
        check_choice(self._name, 'softmax', softmax, SOFTMAX_FORMS)
        if softmax_memory is not None:
            check_number(
                self._name, 'softmax_memory', softmax_memory, 1, integer=True, advice='It is a number of bytes.'
            )
        self.softmax, self.softmax_memory = softmax, softmax_memory
        check_choice(self._name, 'head_precision', head_precision, PRODUCT_PRECISIONS)
        self.head_precision = head_precision
        self.scale = scale
        self.cosine_clip = cosine_clip
        self.margin_function = _build_margin(
            self._name, dict(type='ArcFace') if margin is None else margin, num_classes
        )
        check_number(self._name, 'num_subcenters', num_subcenters, 1, integer=True)
        check_number(self._name, 'sample_rate', sample_rate, 0, 1, low_open=True)
        if sample_rate < 1 and not shard_classes:
            raise ValueError(
                f'{self._name}: sample_rate={sample_rate} draws among the classes of each process. Add '
                'shard_classes=True, or drop it.'
            )
        if shard_classes and softmax == 'dense':
            raise ValueError(
                f"{self._name}: softmax='dense' holds the logits of all classes, and with "
                'shard_classes=True no process has them. Drop one of the two.'
            )
        self.num_subcenters, self.shard_classes, self.sample_rate = num_subcenters, shard_classes, sample_rate
        self.class_shard = (
            RowShard.of_this_process(num_classes) if shard_classes else RowShard(0, num_classes, num_classes)
        )
        class_weights = (num_subcenters, self.in_channels) if num_subcenters > 1 else (self.in_channels,)
        self.weight = nn.Parameter(torch.empty(self.class_shard.size, *class_weights))
        if update_drawn_only and sample_rate == 1:
            raise ValueError(
                f'{self._name}: update_drawn_only=True, and sample_rate=1 draws all classes in each step. Set '
                'sample_rate=0.1, or drop it.'
            )
        self.update_drawn_only = update_drawn_only
        if update_drawn_only:
            with_row_gradient(self.weight)
        if shard_classes:
            shard_rows(self, 'weight', self.class_shard)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new class weights, the same for any number of processes with the same random state."""
        draw_rows(self.weight, self.class_shard, std=0.01)

    @property
    def margin(self) -> float:
        """The margin value of the margin function."""
        return self.margin_function.margin

    @margin.setter
    def margin(self, value: float) -> None:
        self.margin_function.margin = value

    def forward(self, feats: Features) -> Tensor:
        """Return logits without margin, ``scale`` times the cosine to each class weight: float32, shape (N, C)."""
        embedding, class_weights = self.pre_logits(feats), self._class_weights()
        if self.shard_classes:
            cosines = sharded_cosine_logits(embedding, class_weights, self.class_shard, self.num_subcenters)
        else:
            cosines = cosine_logits(embedding, class_weights, self.num_subcenters)
        return self.class_balance.scored(self.scale * cosines)

    def _class_weights(self) -> Tensor:
        return self.weight if self.num_subcenters == 1 else self.weight.flatten(0, 1)

    def loss(self, feats: Features, data_samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """Return ``loss``, ``accuracy_top-1`` in percent (without margin), and the values that the margin logs."""
        embedding = self.pre_logits(feats)
        self.warn_of_bad_embeddings(embedding, data_samples)
        labels = read_hard_labels(self._name, data_samples, embedding.device, self.num_classes)
        labels = labels.repeat(self.count_views(embedding, data_samples))
        loss, predicted = self._cross_entropy(embedding, labels)
        losses = {'loss': loss, 'accuracy_top-1': self.accuracy(predicted, labels)}
        return {**losses, **log_scalars_of(self.margin_function)}

    @torch.no_grad()
    def fit(self, embeddings: Tensor, labels: Tensor) -> str:
        """Set the class weights to prototypes: the mean directions of each class's L2-normalized embeddings.

        The first of several subcenters is set; a class without an image keeps its weight. A margin that follows the
        norms of embeddings (AdaFace) begins with their statistics. Arguments and result are those of
        :meth:`LinearHead.fit`; of sharded classes each process sets its own.
        """
        embeddings = embeddings.float()
        sums = embeddings.new_zeros(self.num_classes, embeddings.shape[1])
        sums.index_add_(0, labels, l2_normalize(embeddings)[0])
        own = slice(self.class_shard.first, self.class_shard.first + self.class_shard.size)
        known = torch.bincount(labels, minlength=self.num_classes)[own] > 0
        weight = self.weight if self.num_subcenters == 1 else self.weight[:, 0]
        weight[known] = l2_normalize(sums[own][known])[0].to(weight)
        for module in self.margin_function.modules():
            if hasattr(module, 'start_with_norms'):
                module.start_with_norms(embeddings.norm(dim=1))
        return 'class weights are prototypes'

    def _cross_entropy(self, embedding: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:

        def margin(target_cosine: Tensor, norms: Tensor) -> Tensor:
            target = self.margin_function(target_cosine, norms, labels)
            check_target_logits(self._name, self.margin_function, target, target_cosine)
            return target.to(target_cosine.dtype)

        settings: dict[str, Any] = dict(
            scale=self.scale,
            label_smoothing=self.label_smoothing,
            cosine_clip=self.cosine_clip,
            num_subcenters=self.num_subcenters,
            memory=self.softmax_memory,
            logit_bias=self.class_balance.loss_adjustment,
            sample_weights=self.class_balance.sample_weights(labels),
            precision=self.head_precision,
        )
        if not self.shard_classes:
            return margin_cross_entropy(
                embedding, self._class_weights(), labels, margin, softmax=self.softmax, **settings
            )
        if self.training and not has_process_group():
            raise RuntimeError(
                f'{self._name}: shard_classes=True spreads the classes over processes, and there is no process group. '
                'Start the training with `bash tools/dist_train.sh CONFIG NUMBER_OF_PROCESSES` (torchrun, one process '
                'is enough), or set model.head.shard_classes=False.'
            )
        sample_rate = self.sample_rate if self.training else 1.0
        return sharded_margin_cross_entropy(
            embedding,
            self.weight if self.update_drawn_only else self._class_weights(),
            labels,
            margin,
            self.class_shard,
            sample_rate=sample_rate,
            row_gradient=self.update_drawn_only,
            **settings,
        )


def _build_margin(caller: str, cfg: Any, num_classes: int) -> Any:
    """Build a margin; a class-wise one gets the number of classes."""
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise TypeError(f"{caller}: expected margin=dict(type='ArcFace', ...) with a type, got margin={cfg!r}.")
    margin = MODELS.build_filled(cfg, num_classes=num_classes)
    check_margin(caller, margin)
    return margin
