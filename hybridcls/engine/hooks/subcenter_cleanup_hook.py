"""Clean noisy training data with the sub-centers that a margin head has learned."""

import csv
import io
import os
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from hybridcls.checks import check_number, counted, is_or_are, listed
from hybridcls.compat.mmengine import bare_model
from hybridcls.functional.margins.subcenter_cleanup import subcenter_cleanup
from hybridcls.models.heads.margin_head import MarginHead
from hybridcls.registry import HOOKS

from ..checkpoints.files import atomic_write
from .embedding_bank_hook import embed_dataset, renumber_labels


@HOOKS.register_module()
class SubcenterCleanupHook(Hook):
    """List the training images that are close to the dominant sub-center of their class, after a training or a test.

    The second step of Sub-center ArcFace (:func:`hybridcls.functional.margins.subcenter_cleanup.subcenter_cleanup`). In
    the work dir:

    - ``clean.csv``: ``path,label,split`` of the images that are kept, an annotation file (``ann_file``) for a training.
      Labels are names, which may be numbers: ``ann_format=dict(delimiter=',', labels='names')`` reads them.
    - ``subcenters.csv``: each image with ``angle`` (degrees to the dominant sub-center), ``nearest`` (its sub-center),
      ``dominant`` and ``kept`` (1 or 0).
    - ``dominant.pth``: the weights with one sub-center a class, for ``load_from`` of a training with
      ``num_subcenters=1``.

    ::

        custom_hooks = [dict(type='SubcenterCleanupHook', dataloader=bank_dataloader)]

    Args:
        dataloader (dict): Config of a dataloader of the training images with labels, without augmentation. Its sampler
            is replaced by one in order.
        max_angle (float): In degrees, from 0 to 180; images further away are dropped. Defaults to 75, the paper's.

    Raises:
        ValueError: If the head has no sub-centers, or its classes are sharded, or images have no files.
    """

    priority = 'LOW'

    def __init__(self, dataloader: dict, max_angle: float = 75.0) -> None:
        check_number('SubcenterCleanupHook', 'max_angle', max_angle, 0, 180)
        self.dataloader = dataloader
        self.max_angle = max_angle

    def before_run(self, runner: Runner) -> None:
        """Check the settings before the training."""
        _head_of(bare_model(runner.model))

    def after_train(self, runner: Runner) -> None:
        """Clean with the final weights of the training."""
        self._clean(runner)

    def after_test(self, runner: Runner) -> None:
        """Clean with the tested weights."""
        self._clean(runner)

    def _clean(self, runner: Runner) -> None:
        name, head = _head_of(bare_model(runner.model))
        order = dict(type='DefaultSampler', shuffle=False)
        loader: Any = runner.build_dataloader({**self.dataloader, 'sampler': order})
        renumber_labels(runner, loader.dataset, 'images to clean', loader.dataset)
        embeddings, labels = embed_dataset(runner.model, loader, 'embedding the images to clean')
        if not is_main_process():
            return
        numbers = torch.tensor(labels).flatten()
        known = (numbers >= 0) & (numbers < head.num_classes)
        infos = [loader.dataset.get_data_info(place) for place in known.nonzero().flatten().tolist()]
        if any(not info.get('img_path') for info in infos):
            raise ValueError('SubcenterCleanupHook: expected images with files (img_path), got some without.')
        paths = [os.path.abspath(info['img_path']) for info in infos]
        numbers = numbers[known]
        weights = head.weight.detach().cpu()
        found = subcenter_cleanup(embeddings[known], numbers, weights)
        kept = found.angles <= self.max_angle
        classes = (loader.dataset.metainfo or {}).get('classes') or range(head.num_classes)
        names = [str(classes[number]) for number in numbers.tolist()]
        rows = zip(paths, names, found.angles.tolist(), found.nearest.tolist(), found.dominant[numbers].tolist(),
                   kept.int().tolist(), strict=True)  # fmt: skip
        header = ['path', 'label', 'angle', 'nearest', 'dominant', 'kept']
        clean = [
            (path, name, 'train')  # the recipes ask for this split
            for path, name, keep in zip(paths, names, kept.tolist(), strict=True)
            if keep
        ]
        self._write(runner, 'subcenters.csv', _table(header, rows))
        self._write(runner, 'clean.csv', _table(['path', 'label', 'split'], clean))
        state = {key: value.detach().cpu() for key, value in bare_model(runner.model).state_dict().items()}
        state[f'{name}.weight'] = weights[torch.arange(len(weights)), found.dominant].clone()
        content = io.BytesIO()
        names = [str(classes[number]) for number in range(head.num_classes)]
        torch.save(dict(meta=dict(dataset_meta=dict(classes=names)), state_dict=state), content)
        self._write(runner, 'dominant.pth', content.getvalue())
        runner.logger.info(
            f'SubcenterCleanupHook: {int(kept.sum())} of {len(kept)} images {is_or_are(int(kept.sum()))} within '
            f'{self.max_angle:g} degrees of the dominant sub-center of their class: '
            f'{os.path.join(runner.work_dir, "clean.csv")}. The others are in subcenters.csv, and dominant.pth has one '
            "sub-center a class. To train on clean.csv, set ann_file, and ann_format=dict(delimiter=',', "
            "labels='names'), in train_dataloader.dataset."
        )
        lost = sorted({names[number] for number in numbers.tolist()} - {label for _, label, _ in clean})
        if lost:
            runner.logger.warning(
                'SubcenterCleanupHook: clean.csv has no image of '
                f'{counted(len(lost), "class", "classes", of=len(names))}: {listed(lost, 5)}. Raise max_angle '
                f'({self.max_angle:g}), or train longer before.'
            )

    @staticmethod
    def _write(runner: Runner, name: str, content: bytes) -> None:
        atomic_write(content, os.path.join(runner.work_dir, name))


def _head_of(model: Any) -> tuple[str, MarginHead]:
    """Return the head with sub-centers, and its name."""
    for name, module in model.named_modules():
        if isinstance(module, MarginHead) and module.num_subcenters > 1:
            if module.shard_classes:
                raise ValueError('SubcenterCleanupHook: expected all classes in each process, got shard_classes=True.')
            return name, module
    raise ValueError(
        'SubcenterCleanupHook: expected a margin head with num_subcenters above 1, got none. Set '
        "model.head = dict(type='ArcFaceHead', num_subcenters=3), or drop the hook."
    )


def _table(header: list[str], rows: Any) -> bytes:
    text = io.StringIO(newline='')
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode('utf8', 'surrogateescape')
