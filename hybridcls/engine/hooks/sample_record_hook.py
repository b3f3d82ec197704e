"""Record loss and margin of each training image over the epochs, for `hybridcls audit`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_dist_info, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn

from hybridcls.checks import check_number, counted
from hybridcls.compat.mmengine import bare_model, resumes
from hybridcls.datasets.dataset_nodes import initialize, leaves_of
from hybridcls.functional import l2_normalize
from hybridcls.models.classifiers import HybridClassifier
from hybridcls.models.heads import ClassificationHead, EvidentialHead
from hybridcls.models.heads.head import is_multi_label, main_head
from hybridcls.models.heads.margin_head import MarginHead
from hybridcls.registry import HOOKS
from hybridcls.structures.sample_record import SAMPLE_RECORD_FILE, SampleRecord

from ..checkpoints.files import atomic_write
from ..runner.numbered_batches import batches_of_a_pass

__all__ = ['SampleRecordHook']

_TO_CPU_EVERY = 64  # batches whose numbers wait on the device, so that no iteration waits for it
_LOGITS = 2**24  # of a margin head, computed at once


@HOOKS.register_module()
class SampleRecordHook(Hook):
    """Record loss, margin and rival class of each training image in each epoch: ``sample_record.npz`` in the work dir.

    ``hybridcls train --record`` adds it; `hybridcls audit` reads the file
    (:class:`~hybridcls.structures.sample_record.SampleRecord`, which says what the numbers are). The numbers come from
    the embeddings of the training's own forward pass: there is no second one of the model, the head alone computes its
    logits once more, without margin and gradient. They are of augmented views, and of the weights as they are trained
    (not of an EMA's average). The training is the same to the bit with and without the hook.

    - SAM's second pass is not recorded; of MultiHead it is the main head.
    - Batches with soft labels (MixUp, CutMix) have no label to record: skipped, and their images counted.
    - A head without logits of one class an image (SupCon, several labels) is not recorded, as the log says.
    - An image that an epoch shows several times, in views or repeated, has its mean there. So have the images by which
      several processes fill up their last batch.
    - In several processes the first one writes the record of all.

    Memory is bounded: of more than ``most_epochs`` epochs, or than fit into ``memory``, those of an even grid are kept,
    which gets coarser as the training goes on; the means are over all epochs. Checkpoints that can be resumed hold the
    record so far, so that a run which was stopped ends with the same one.

    Args:
        most_epochs (int): Kept epochs, at least 2. Defaults to 32.
        memory (int): Bytes for them. Defaults to 256 MiB: 32 epochs of a million images.

    Raises:
        TypeError: If the model is no HybridClassifier.
        ValueError: If the dataset does not tell its images apart.
    """

    priority = 'LOW'  # before checkpoints are written

    def __init__(self, most_epochs: int = 32, memory: int = 256 * 2**20) -> None:
        check_number('SampleRecordHook', 'most_epochs', most_epochs, 2, integer=True)
        check_number('SampleRecordHook', 'memory', memory, 1, integer=True, advice='It is a number of bytes.')
        self.most_epochs, self.memory = most_epochs, memory
        self._model: Optional[HybridClassifier] = None
        self._head: Any = None
        self._loaded: Optional[dict[str, Any]] = None
        self._gathered: Optional[dict[str, Any]] = None
        self._is_first_pass = False

    def before_train(self, runner: Runner) -> None:
        """List the images, and continue the record of a resumed run."""
        model = bare_model(runner.model)
        if not isinstance(model, HybridClassifier):
            raise TypeError(
                f'SampleRecordHook: expected a HybridClassifier, got {type(model).__name__}, whose head it cannot '
                'read. Drop the hook (--record).'
            )
        head = main_head(model.head)
        num_classes = getattr(head, 'num_classes', None)
        if num_classes is None or is_multi_label(head):
            runner.logger.info(
                f'SampleRecordHook: {type(head).__name__} has no logits of one class an image: nothing is recorded '
                'in this training.'
            )
            return
        self._images = _Images(runner.train_dataloader.dataset)
        self._model, self._head, self._num_classes = model, head, num_classes
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        self._per_pass = None if by_epoch else batches_of_a_pass(runner.train_dataloader)
        self._start_empty()
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            self._take_back(runner, loaded)
        model.loss_recorder = self._record

    def _start_empty(self) -> None:
        count = len(self._images.paths)
        self._means = ['loss', 'margin']
        if isinstance(self._head, EvidentialHead):
            self._means.append('vacuity')
        self._has_subcenters = isinstance(self._head, MarginHead) and self._head.num_subcenters > 1
        if self._has_subcenters and self._head.shard_classes:
            self._has_subcenters = False
        self._numbers = ['other', *(['subcenter'] if self._has_subcenters else [])]
        a_epoch = count * (2 * len(self._means) + 4 + self._has_subcenters)
        self._most = max(2, min(self.most_epochs, self.memory // max(1, a_epoch)))
        self._pending: list[tuple[np.ndarray, Tensor]] = []
        self._fetched: list[tuple[np.ndarray, np.ndarray]] = []
        self._sums = np.zeros((len(self._means), count), np.float32)  # of the epoch at hand
        self._last = np.full((len(self._numbers), count), -1, np.int32)
        self._counts = np.zeros(count, np.int32)
        self._totals = np.zeros((len(self._means) + 1, count), np.float32)  # of all epochs; the last: how often right
        self._seen = np.zeros(count, np.int32)
        self._epochs: list[int] = []
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []
        self._stride, self._skipped, self._all_skipped = 1, 0, 0

    # What the model calls.

    @torch.compiler.disable
    @torch.no_grad()
    def _record(self, features: Any, samples: Sequence[Any]) -> None:
        """Record one batch; the second pass of an update is skipped."""
        if not self._is_first_pass:
            return
        self._is_first_pass = False
        # A mixed batch has one-hot labels too, of two images of one class.
        is_mixed = any('gt_score' in sample and float(sample.gt_score.max()) < 1 for sample in samples)
        kept = [place for place, sample in enumerate(samples) if not is_mixed and _has_one_label(sample)]
        self._skipped += len(samples) - len(kept)
        if not kept and not getattr(self._head, 'shard_classes', False):
            return
        rows = np.array([self._images.row_of(samples[place]) for place in kept], np.int64)
        embedding = features[-1] if not isinstance(features, Tensor) else features
        views = len(embedding) // len(samples)
        labels = torch.tensor([int(samples[place].gt_label) for place in kept], dtype=torch.int64)
        fits = (labels >= 0) & (labels < self._num_classes)
        logits = self._logits(features, len(embedding)).float().unflatten(0, (views, len(samples)))[:, kept]
        values = self._values(logits, labels)
        if self._has_subcenters:
            own = embedding.unflatten(0, (views, len(samples)))[:, kept]
            values.append(self._nearest_subcenter(own, labels)[0].float())
        self._pending.append((rows[fits.numpy()], torch.stack(values)[:, fits.to(logits.device)]))
        if len(self._pending) >= _TO_CPU_EVERY:
            self._fetch()

    def _logits(self, features: Any, count: int) -> Tensor:
        head = self._head
        if isinstance(head, ClassificationHead):
            if getattr(head, 'shard_classes', False):
                return head(features)
            size = max(1, _LOGITS // (self._num_classes * getattr(head, 'num_subcenters', 1)))
            embedding = head.pre_logits(features)
            return embedding.new_empty(0) if not count else torch.cat([head((one,)) for one in embedding.split(size)])
        modes = [(module, module.training) for module in head.modules()]
        head.eval()  # another package's head may draw random numbers, or gather statistics
        try:
            return head(features)
        finally:
            for module, mode in modes:
                module.training = mode

    def _values(self, logits: Tensor, labels: Tensor) -> list[Tensor]:
        """Return the recorded values of each image, ``(B,)``, from logits ``(V, B, C)``."""
        labels = labels.to(logits.device).clamp(0, self._num_classes - 1)
        best = logits.topk(min(2, self._num_classes), dim=2)
        own = logits.gather(2, labels.expand(len(logits), -1)[..., None])[..., 0]
        place = (best.indices[..., :1] == labels[:, None]).long() * (best.indices.shape[2] - 1)
        margin, other = own - best.values.gather(2, place)[..., 0], best.indices.gather(2, place)[..., 0]
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.repeat(len(logits)), reduction='none'
        ).unflatten(0, logits.shape[:2])
        means = [loss, margin]
        if isinstance(self._head, EvidentialHead):
            means.append(self._num_classes / logits.exp().sum(2))
        return [*(value.mean(0) for value in means), other[0].float()]

    def _nearest_subcenter(self, embedding: Tensor, labels: Tensor) -> Tensor:
        weight = self._head.weight[labels.to(embedding.device).clamp(0, self._num_classes - 1)]  # (B, K, D)
        cosines = torch.einsum('vbd,bkd->vbk', l2_normalize(embedding.float())[0], l2_normalize(weight.float())[0])
        return cosines.argmax(2)

    # Moments of the training.

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Record the next forward pass."""
        self._is_first_pass = True

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Optional[dict] = None
    ) -> None:
        """End the epoch of a training by iterations, after as many batches as cover all images."""
        if self._model is not None and self._per_pass is not None and (runner.iter + 1) % self._per_pass == 0:
            self._end_epoch((runner.iter + 1) // self._per_pass - 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """End the epoch."""
        if self._model is not None and self._per_pass is None:
            self._end_epoch(runner.epoch)

    def after_train(self, runner: Runner) -> None:
        """Write the record, and stop recording."""
        if self._model is None:
            return
        self._model.loss_recorder = None
        self._collect()
        if self._counts.any():  # a training by iterations that ends within a pass
            self._end_epoch(runner.iter // (self._per_pass or 1))
        path = self._write(runner)
        if is_main_process():
            skipped = self._all_skipped
            note = f' Skipped, with soft labels (MixUp, CutMix): {counted(skipped, "image")}.' if skipped else ''
            runner.logger.info(
                f'SampleRecordHook: {int((self._seen > 0).sum())} of {counted(len(self._seen), "training image")} in '
                f'{counted(int(self._seen.max()), "epoch")}: {path}.{note} Next: hybridcls audit {runner.work_dir}'
            )
        self._model = None

    def gather_for_checkpoint(self, runner: Runner) -> None:
        """Collect the values of all processes; each must call this."""
        if self._model is None:
            return
        self._collect()
        self._gathered = dict(
            paths=self._images.digest,
            epochs=torch.tensor(self._epochs, dtype=torch.int64),
            kept=[torch.from_numpy(array) for pair in self._kept for array in pair],
            sums=torch.from_numpy(self._sums.copy()) if self._counts.any() else None,
            last=torch.from_numpy(self._last.copy()) if self._counts.any() else None,
            counts=torch.from_numpy(self._counts.copy()) if self._counts.any() else None,
            totals=torch.from_numpy(self._totals.copy()),
            seen=torch.from_numpy(self._seen.copy()),
            stride=self._stride,
            skipped=self._all_skipped,
        )
        self._write(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the record so far to a checkpoint that can be resumed."""
        if (
            self._gathered is None and get_dist_info()[1] == 1 and 'optimizer' in checkpoint
        ):  # mmengine's CheckpointHook
            self.gather_for_checkpoint(runner)
        if self._gathered is not None:
            checkpoint['sample_record'], self._gathered = self._gathered, None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the record of a resumed run."""
        saved = checkpoint.pop('sample_record', None)
        self._loaded = saved if resumes(runner) else None

    def _take_back(self, runner: Runner, saved: dict[str, Any]) -> None:
        if saved['paths'] != self._images.digest or saved['totals'].shape != self._totals.shape:
            what = 'the training images are' if saved['paths'] != self._images.digest else 'what is recorded is'
            runner.logger.warning(f'SampleRecordHook: {what} other than before the resume, so the record starts again.')
            return
        self._epochs = saved['epochs'].tolist()
        kept = [array.numpy() for array in saved['kept']]
        self._kept = list(zip(kept[::2], kept[1::2], strict=True))
        if saved['counts'] is not None:
            self._sums, self._last = saved['sums'].numpy(), saved['last'].numpy()
            self._counts = saved['counts'].numpy()
        self._totals, self._seen = saved['totals'].numpy(), saved['seen'].numpy()
        self._stride, self._skipped = saved['stride'], saved['skipped'] if is_main_process() else 0

    # From batches to epochs.

    def _fetch(self) -> None:
        """Transfer the waiting values from the device at once."""
        if self._pending:
            rows = np.concatenate([rows for rows, _ in self._pending])
            self._fetched.append((rows, torch.cat([values for _, values in self._pending], 1).cpu().numpy()))
            self._pending = []

    def _collect(self) -> None:
        """Add the batches of all processes to the present epoch, identically in each process."""
        self._fetch()
        self._all_skipped = 0
        for fetched, skipped in all_gather_object((self._fetched, self._skipped)):
            self._all_skipped += skipped
            for rows, values in fetched:
                means, numbers = np.split(values, [len(self._means)])
                for sums, added in zip(self._sums, means, strict=True):
                    np.add.at(sums, rows, added)
                np.add.at(self._counts, rows, 1)
                self._last[:, rows] = numbers.astype(np.int32)
        self._fetched = []

    def _end_epoch(self, epoch: int) -> None:
        self._collect()
        seen = self._counts > 0
        with np.errstate(invalid='ignore'):
            means = np.where(seen, self._sums / np.maximum(self._counts, 1), np.nan)
        self._totals[:-1, seen] += means[:, seen]
        self._totals[-1, seen] += means[1, seen] > 0
        self._seen += seen
        if epoch % self._stride == 0:
            limit = np.finfo(np.float16).max
            self._kept.append((means.clip(-limit, limit).astype(np.float16), self._last))
            self._epochs.append(epoch)
            if len(self._epochs) > self._most:  # every second one stays, and comes from here on
                self._stride *= 2
                chosen = [place for place, one in enumerate(self._epochs) if one % self._stride == 0]
                self._epochs = [self._epochs[place] for place in chosen]
                self._kept = [self._kept[place] for place in chosen]
        self._sums = np.zeros_like(self._sums)
        self._last = np.full_like(self._last, -1)
        self._counts = np.zeros_like(self._counts)

    def _write(self, runner: Runner) -> str:
        path = os.path.join(runner.work_dir, SAMPLE_RECORD_FILE)
        if is_main_process() and self._epochs:
            atomic_write(self._as_record().content(), Path(path))
        return path

    def _as_record(self) -> SampleRecord:
        """Return the record of the finished epochs."""
        means = np.stack([means for means, _ in self._kept], 1)
        numbers = np.stack([numbers for _, numbers in self._kept], 1)
        with np.errstate(invalid='ignore', divide='ignore'):
            totals = self._totals / self._seen
        names = [*self._means, 'right']
        return SampleRecord(
            paths=self._images.paths,
            labels=self._images.labels.astype(np.int32),
            classes=self._images.classes or [str(number) for number in range(self._num_classes)],
            root=self._images.root,
            epochs=np.array(self._epochs, np.int32),
            seen=self._seen,
            means=dict(zip(names, totals, strict=True)),
            **dict(zip(self._means, means, strict=True)),
            other=numbers[0],
            subcenter=numbers[1].astype(np.int8) if self._has_subcenters else None,
            about=dict(head=type(self._head).__name__, skipped=self._all_skipped),
        )


class _Images:
    """The images of a training dataset, each once, and the mapping from samples to them."""

    def __init__(self, dataset: Any) -> None:
        initialize(dataset)
        leaves = list({id(leaf): leaf for leaf in leaves_of(dataset)}.values())
        infos = [leaf.get_data_info(index) for leaf in leaves for index in range(len(leaf))]
        metainfo = getattr(leaves[0], 'metainfo', None) or {}
        self.classes = [str(name) for name in metainfo.get('classes') or ()]
        folders = {getattr(leaf, 'img_prefix', '') for leaf in leaves}  # of several, equal names may be other images
        root = folders.pop() if len(folders) == 1 and all(info.get('img_path') for info in infos) else ''
        self.root = os.path.abspath(root) if root else ''
        self.by_path: Optional[dict[str, int]] = None
        if len(leaves) > 1:
            if not all(info.get('img_path') for info in infos):
                raise ValueError(
                    'SampleRecordHook: expected images with files (img_path) in a training set of several parts, got '
                    'some in memory, which cannot be told apart. Drop the hook (--record).'
                )
            infos = list({os.path.abspath(info['img_path']): info for info in infos}.values())
            self.by_path = {os.path.abspath(info['img_path']): row for row, info in enumerate(infos)}
        self.paths = [
            os.path.abspath(info['img_path']) if info.get('img_path') else f'#{row}' for row, info in enumerate(infos)
        ]
        self.labels = np.array([int(np.ravel(info['gt_label'])[0]) for info in infos], np.int64)
        self.digest = _digest(self.paths, self.labels)

    def row_of(self, sample: Any) -> int:
        """Return the row of an image, by its number in the dataset or its path."""
        if self.by_path is not None:
            return self.by_path[os.path.abspath(sample.get('img_path'))]
        row = sample.get('sample_idx')
        if row is None:
            raise ValueError(
                'SampleRecordHook: the samples have no sample_idx, so it is unknown which image each of them is. Add '
                "'sample_idx' and 'img_path' to meta_keys of PackInputs."
            )
        return int(row)


def _digest(paths: Sequence[str], labels: np.ndarray) -> str:
    import hashlib

    content = '\0'.join(map(os.path.basename, paths)).encode('utf8', 'surrogateescape') + labels.tobytes()
    return hashlib.sha256(content).hexdigest()


def _has_one_label(sample: Any) -> bool:
    return 'gt_label' in sample and sample.gt_label.numel() == 1
