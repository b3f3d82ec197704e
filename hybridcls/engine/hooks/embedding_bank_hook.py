"""Embed the bank or gallery that metrics compare with, before an evaluation."""

import os
from typing import Any

import torch
from mmengine.dist import collect_results, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from hybridcls.checks import is_or_are, listed, verb_of
from hybridcls.compat.mmengine import bare_model
from hybridcls.compat.torch import drop_iterator
from hybridcls.registry import HOOKS

from ..runner.console import track
from .class_names_hook import ClassNamesHook


@HOOKS.register_module()
class EmbeddingBankHook(Hook):
    """Embed a dataset with the weights to be evaluated, and pass it to each metric that takes a bank.

    These are ``KNNAccuracy``, ``LinearProbeAccuracy`` and ``FeatureOODMetric``. By the protocol of kNN evaluation the
    neighbours are the *training* images, under the pipeline of the validation.
    The weights are those of the evaluation, an EMAHook's average included; the model is in eval mode; the random
    numbers of the training stay what they were (RandomStateHook). With several processes each embeds its part.

    It costs one forward pass over the dataset at each evaluation: give it a part of a large one
    (``dataset=dict(..., indices=50000)``). Without this hook the metric leaves one image out at a time.

    Bank and evaluated set have one numbering, by the names of the classes (:class:`ClassNamesHook`): either may have
    classes that the other, or the model, does not have.

    Args:
        dataloader (dict): Config of a dataloader with labels, in any order, without augmentation. ``img_size`` and
            ``data_root`` reach it from the top level of the config.

    Raises:
        ValueError: If no metric of the evaluation takes a bank, or an image has no label or no embedding.
    """

    priority = 'LOW'  # after the hook that exchanges weights for their average
    what = 'bank'
    metrics = 'KNNAccuracy'  # one that takes it

    def __init__(self, dataloader: dict) -> None:
        self.dataloader: Any = dataloader  # once it is built, a DataLoader

    def before_val_epoch(self, runner: Runner) -> None:
        """Compute the bank for the validation."""
        self._fill(runner, runner.val_evaluator, runner.val_loop)

    def before_test_epoch(self, runner: Runner) -> None:
        """Compute the bank for the test."""
        self._fill(runner, runner.test_evaluator, runner.test_loop)

    def after_run(self, runner: Runner) -> None:
        """End the workers."""
        drop_iterator(self.dataloader)

    def _fill(self, runner: Runner, evaluator: Evaluator, loop: Any) -> None:
        name, setter = type(self).__name__, f'set_{self.what}'
        metrics = [metric for metric in evaluator.metrics if hasattr(metric, setter)]
        if not metrics:
            raise ValueError(
                f"{name}: no metric of this evaluation uses a {self.what}. Add dict(type='{self.metrics}') to "
                'val_evaluator and test_evaluator, or drop the hook.'
            )
        if isinstance(self.dataloader, dict):
            self.dataloader = runner.build_dataloader(self.dataloader)
            renumber_labels(runner, self.dataloader.dataset, self.what, loop.dataloader.dataset)
            runner.call_hook('after_build_dataloader', dataloader=self.dataloader)
            self._compare(runner, self.dataloader.dataset, loop.dataloader.dataset)
        embeddings, labels = embed_dataset(runner.model, self.dataloader, f'embedding the {self.what}', loop.fp16)
        if is_main_process():
            several = next((own for own in labels if len(own) != 1), None)
            if several is not None:
                raise ValueError(
                    f'{name}: expected images with one label each, got {several}. Neighbours do not vote '
                    f'for several labels: drop the hook and {self.metrics}.'
                )
            for metric in metrics:
                getattr(metric, setter)(embeddings, torch.tensor(labels).flatten())
                layer = getattr(getattr(bare_model(runner.model), 'head', None), 'fc', None)
                if hasattr(metric, 'set_classifier') and isinstance(layer, torch.nn.Linear) and layer.bias is not None:
                    metric.set_classifier(layer.weight, layer.bias)

    def _compare(self, runner: Runner, dataset: Any, evaluated: Any) -> None:
        """Compare the dataset with the evaluated one, once; a bank may contain any images."""


@HOOKS.register_module()
class GalleryHook(EmbeddingBankHook):
    """Embed the gallery in which ``RetrievalMetric`` searches for the evaluated images, the queries.

    ::

        test_dataloader = dict(dataset=dict(type='ImageFolder', data_root='queries'))
        custom_hooks = [dict(type='GalleryHook', dataloader=dict(
            batch_size=64, num_workers=2, sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='ImageFolder', data_root='gallery', pipeline=test_pipeline)))]

    Classes are matched by name, and may be unseen in the training. Distractors are gallery images of classes that no
    query has, or that the transform ``MarkUnknown`` marks; ``ConcatDataset`` adds them to the others. A query whose
    file is also in the gallery finds itself: it is named in a warning.

    Args:
        dataloader (dict): Config of a dataloader with labels, as for :class:`EmbeddingBankHook`.

    Raises:
        ValueError: If no metric of the evaluation takes a gallery, or an image has no label or no embedding.
    """

    what = 'gallery'
    metrics = 'RetrievalMetric'

    def _compare(self, runner: Runner, dataset: Any, evaluated: Any) -> None:
        both = _files(dataset) & _files(evaluated)
        if both:
            runner.logger.warning(
                f'GalleryHook: {len(both)} of {len(evaluated)} queries {is_or_are(len(both))} in the gallery too, and '
                f'{verb_of(len(both), "finds itself", "find themselves")}: '
                f'{listed(sorted(both), 3)}. Remove them from the queries or from the gallery.'
            )


@torch.no_grad()
def embed_dataset(
    model: Any, dataloader: DataLoader, title: str, mixed_precision: bool = False
) -> tuple[torch.Tensor, list[list[int]]]:
    """Embed a labelled dataset in eval mode; each process embeds its part.

    Args:
        model (nn.Module): Wrapped or not; its mode is restored.
        dataloader (DataLoader): In any order.
        title (str): Of the progress bar, and of errors.
        mixed_precision (bool): Autocast. Defaults to False.

    Returns:
        tuple[Tensor, list[list[int]]]: Embeddings ``(N, D)``, float32, on the CPU, and the labels of each image, of all
        processes, in the main process; elsewhere empty ones.

    Raises:
        ValueError: If an image has no label or no embedding.
    """
    model = bare_model(model)
    was_training = model.training
    model.eval()
    rows: list[tuple[Any, list[int]]] = []
    place = next(model.parameters(), torch.empty(0)).device.type
    with torch.autocast(place, enabled=mixed_precision):
        for data in track(dataloader, title):
            samples = model.test_step(data)
            for sample in samples:
                if 'embedding' not in sample or 'gt_label' not in sample:
                    lacks = 'embedding' if 'embedding' not in sample else 'gt_label'
                    raise ValueError(
                        f'{title}: the predictions have no {lacks}. The data need labels, and the head must set the '
                        'embedding, as the heads of hybridcls do.'
                    )
            block = torch.stack([sample.embedding for sample in samples]).float().cpu().numpy()
            rows += [(row, sample.gt_label.tolist()) for row, sample in zip(block, samples, strict=True)]
    model.train(was_training)
    dataset: Any = dataloader.dataset
    collected = collect_results(rows, len(dataset), device='cpu')
    if not is_main_process():
        return torch.empty(0), []
    return torch.stack([torch.from_numpy(row) for row, _ in collected]), [labels for _, labels in collected]


def _files(dataset: Any) -> set[str]:
    """Return the absolute paths of a dataset's images, if it has files."""
    info_of = getattr(dataset, 'get_data_info', None)
    infos = (info_of(number) for number in range(len(dataset))) if info_of is not None else ()
    return {os.path.abspath(info['img_path']) for info in infos if info.get('img_path')}


def renumber_labels(runner: Runner, dataset: Any, what: str, reference: Any = None) -> None:
    """Renumber the classes of a hook's dataset as the run does."""
    hook = next((hook for hook in runner.hooks if isinstance(hook, ClassNamesHook)), None)
    if hook is None:  # a Runner that another tool made: the two sets agree at least
        hook = ClassNamesHook()
        if reference is not None:
            hook.renumber(runner, reference, 'evaluated set')
    hook.renumber(runner, dataset, what)
