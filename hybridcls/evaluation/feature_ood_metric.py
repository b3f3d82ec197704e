"""Measure how well feature-based detectors of pytorch-ood separate unknown from known categories."""

import inspect
import logging
from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor, nn

from hybridcls.checks import check_choice, check_installed, check_known_keys
from hybridcls.functional import fit_logistic_regression
from hybridcls.registry import METRICS

from .embedding_bank import TakesBank, bank_classes
from .ood_results import OODResults
from .prediction_fields import NO_IMAGE, class_label, embeddings_of
from .result_bounds import ResultBounds
from .result_names import without_result

__all__ = ['FeatureOODMetric']

_GIVEN = {'encoder', 'head', 'w', 'b'}  # by this metric, not by a config


@METRICS.register_module()
class FeatureOODMetric(TakesBank, BaseMetric):
    """AUROC and FPR of detectors that are fitted to a bank of embeddings, such as kNN, Mahalanobis and ViM.

    The extra ``ood`` brings the detectors (pytorch-ood): ``'knn'``, ``'mahalanobis'``, ``'rmd'``, ``'vim'``, ``'gmm'``,
    ``'she'``, ``'nnguide'``, ``'fdbd'``, ``'nci'``, or any other of ``pytorch_ood.detector`` that is fitted to features
    and labels. A dict has a detector's own settings: ``dict(type='knn', k=10)``. Where they are open, k is 50, or the
    number of embeddings if that is smaller, and ViM's subspace has 1000 dimensions for embeddings of 2048, 512 from 768
    on, as in the authors' code, and half of a smaller one.

    ``EmbeddingBankHook`` gives the bank, in the usual protocol the training images, and the model's last layer, which
    ViM, SHE, NNGuide, fDBD and NCI read. Where the head has no linear layer for just the classes of the bank (margin
    heads, MultiHead), a logistic regression on the bank stands for it; the log tells.

    Unknown are images with the label -1, or of a class that the bank does not have. Results have the names of
    ``OODMetric``: ``ood/auroc_knn``, ``ood/fpr95_knn``, ... in percent. An image whose embedding is not finite counts
    as wrong. A detector that cannot be fitted to the bank has no result, but a warning: SHE wants a right prediction of
    each class, and ViM a ``d`` below the width of the embeddings.

    Args:
        detectors (str | dict | Sequence[str | dict]): Defaults to ``('knn', 'mahalanobis', 'vim')``.
        recall (float), positive (str), aupr (bool), confidence (float, optional), group (str, optional): As in
            ``OODMetric``.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None, which means ``'ood'``.

    Raises:
        ImportError: If pytorch-ood is not installed.
        ValueError: If a detector does not exist or is there twice, or a key is out of range.
        TypeError: If a detector has no such setting.
        MissingFieldError: If the samples lack ``embedding``, a single ``gt_label`` or the group.
    """

    default_prefix = 'ood'
    units = {'*': '%'}

    def __init__(
        self,
        detectors: Union[str, dict, Sequence[Union[str, dict]]] = ('knn', 'mahalanobis', 'vim'),
        recall: float = 0.95,
        positive: str = 'known',
        aupr: bool = False,
        confidence: Optional[float] = None,
        group: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        check_installed('FeatureOODMetric', 'pytorch_ood', f'detectors={detectors!r}', 'ood')
        chosen = [detectors] if isinstance(detectors, (str, dict)) else list(detectors)
        self.detectors = [dict(type=one) if isinstance(one, str) else dict(one) for one in chosen]
        known = _detectors()
        for one in self.detectors:
            one['type'] = str(one.get('type')).lower()
            check_choice('FeatureOODMetric', 'detector', one['type'], known)
            settings = [name for name in _arguments(known[one['type']]) if name not in _GIVEN]
            check_known_keys(f'FeatureOODMetric: {one["type"]}', [key for key in one if key != 'type'], settings)
        self.names = [one['type'] for one in self.detectors]
        if len({*self.names}) < len(self.names):
            raise ValueError(
                f'FeatureOODMetric: expected each detector once, by whose name results are called, got '
                f'{", ".join(self.names)}. Add a second FeatureOODMetric with a prefix of its own.'
            )
        self.bounds = ResultBounds('FeatureOODMetric', confidence, group)
        self.of_scores = OODResults.checked('FeatureOODMetric', recall, positive, aupr, self.bounds)
        self.directions = self.of_scores.directions(self.names)
        self._layer: Optional[tuple[Tensor, Tensor]] = None

    def set_classifier(self, weight: Tensor, bias: Tensor) -> None:
        """Set the model's last layer for the next evaluation.

        Args:
            weight (Tensor): ``(C, D)``: logits are ``embedding @ weight.T + bias``.
            bias (Tensor): ``(C,)``.
        """
        self._layer = weight.detach().cpu().float().clone(), bias.detach().cpu().float().clone()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the embedding, the label and the group of each sample."""
        labels = [class_label('FeatureOODMetric', sample) for sample in data_samples]
        groups = [self.bounds.group_of(sample) for sample in data_samples]
        self.results += zip(embeddings_of('FeatureOODMetric', data_samples), labels, groups, strict=True)

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Fit the detectors, and compare known with unknown images. Runs in the main process, with each image once."""
        if not results:
            return without_result(self, NO_IMAGE)
        if self.bank is None:
            return without_result(self, 'There is no bank to fit detectors to: add EmbeddingBankHook.')
        embeddings = torch.from_numpy(np.stack([row for row, *_ in results])).float()
        self.check_width(embeddings)
        bank, bank_labels = self.bank
        classes = bank_classes(bank_labels)
        if len(classes) < 2:
            return without_result(self, f'Expected a bank of at least two classes, got {len(classes)}.')
        inside = bank_labels >= 0
        features, numbers = bank[inside].float(), torch.searchsorted(classes, bank_labels[inside])
        layer = self._classifier(features, numbers, classes)
        finite = embeddings.isfinite().all(1)
        scores = torch.full((len(embeddings), len(self.names)), torch.nan, dtype=torch.float64)
        fitted = []
        for place, (name, settings) in enumerate(zip(self.names, self.detectors, strict=True)):
            try:
                detector = _build(settings, features, layer)
                detector.fit_features(features, numbers)
            except (ValueError, RuntimeError) as error:  # SHE, say, wants a right prediction of each class
                without_result(
                    self, f'{name} cannot be fitted to this bank: {error}', self.of_scores.directions([name])
                )
                continue
            if finite.any():
                found = detector.predict_features(embeddings[finite]).double().cpu()
                if not found.isfinite().any():
                    d = f' Set its d below {embeddings.shape[1]}, the width of the embeddings.' if name == 'vim' else ''
                    without_result(
                        self, f'{name} has no finite score with this bank.{d}', self.of_scores.directions([name])
                    )
                    continue
                scores[finite, place] = found
            fitted.append(place)
        if not fitted:
            return {}
        known = torch.isin(torch.tensor([label for _, label, _ in results]), classes)
        names = [self.names[place] for place in fitted]
        return self.of_scores.compute(self, names, known, scores[:, fitted], [group for *_, group in results])

    def forget(self) -> None:
        """Drop the bank and the classifier."""
        super().forget()
        self._layer = None

    def _classifier(self, features: Tensor, numbers: Tensor, classes: Tensor) -> Optional[nn.Linear]:
        """Return the model's last layer, or one fitted to the bank; None if no detector needs it."""
        if not any({'head', 'w', 'b'} & {*_arguments(_detectors()[name])} for name in self.names):
            return None
        shape = (len(classes), features.shape[1])
        if self._layer is not None and self._layer[0].shape == shape and int(classes[-1]) == len(classes) - 1:
            return _linear(*self._layer)
        print_log(
            f'FeatureOODMetric: the model has no linear layer of {shape[0]} classes for embeddings of {shape[1]} '
            'dimensions, as the bank has: a logistic regression on the bank is used instead.',
            'current',
            logging.INFO,
        )
        fit = fit_logistic_regression(features, numbers, len(classes))
        return _linear(fit.weight.float(), fit.bias.float())


def _detectors() -> dict[str, type]:
    """Return the feature-based detectors of pytorch-ood, by name in lower case."""
    import pytorch_ood.detector as room

    found = {name.lower(): getattr(room, name) for name in dir(room) if isinstance(getattr(room, name), type)}
    return {
        name: kind
        for name, kind in found.items()
        if hasattr(kind, 'fit_features') and hasattr(kind, 'predict_features')
    }


def _arguments(kind: type) -> list[str]:
    return [name for name in inspect.signature(kind).parameters if name != 'knn_kwargs']


def _build(settings: dict, features: Tensor, layer: Optional[nn.Linear]) -> Any:
    """Build a detector with its settings, the last layer, and values that follow from the bank."""
    kind = _detectors()[settings['type']]
    width = features.shape[1]
    filled: dict[str, Any] = dict(encoder=None, k=min(50, len(features)))
    filled['d'] = 1000 if width >= 2048 else 512 if width >= 768 else max(1, width // 2)
    if layer is not None:
        filled.update(head=layer, w=layer.weight, b=layer.bias)
    wanted = {name: value for name, value in filled.items() if name in _arguments(kind)}
    return kind(**{**wanted, **{key: value for key, value in settings.items() if key != 'type'}})


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict(dict(weight=weight, bias=bias))
    return layer.requires_grad_(False)
