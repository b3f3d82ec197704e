"""Registered parts without a fidelity case, each with the reason."""

from collections.abc import Iterator

from hybridcls import registry
from hybridcls.models import adapters

from .cases import CASES

__all__ = ['NOT_COMPARED', 'missing_pieces', 'registered_pieces']

REGISTRIES = ('MODELS', 'OPTIM_STAGES', 'OPTIMIZERS', 'METRICS')

_SHELL = 'a part that holds others; what it computes is theirs'
_DATA = 'prepares images; no paper has numbers for it'
_MMPRETRAIN = "mmpretrain's class, with checks of the labels"

NOT_COMPARED = {
    'TimmStream': "timm's model; tests compare it with timm",
    'HybridBackbone': _SHELL,
    'HybridClassifier': _SHELL,
    'MultiHead': _SHELL,
    'HybridDataPreprocessor': _DATA,
    'DeviceAugment': _DATA,
    'AnsweredMetric': 'counts answers; no paper has numbers for it',
    'DumpResults': 'writes predictions to a file',
    'HeadMetric': _SHELL,
    'MetricOf': _SHELL,
    'ValLoss': 'averages losses that others compute',
    'RetrievalRecall': _MMPRETRAIN,
    'RetrievalAveragePrecision': _MMPRETRAIN,
    'VOCMultiLabelMetric': _MMPRETRAIN,
    'VOCAveragePrecision': _MMPRETRAIN,
}
"""By the name in the registry."""


def registered_pieces() -> Iterator[tuple[str, str]]:
    """Yield registry and name of each model part, stage, optimizer and metric, and the functions of adapters."""
    for constant in REGISTRIES:
        one = getattr(registry, constant)
        one.import_from_location()
        for name, part in one.module_dict.items():
            if part.__module__.partition('.')[0] == 'hybridcls':
                yield constant, name
    for name in adapters.__all__:
        if name.startswith('add_'):
            yield 'adapters', name


def missing_pieces() -> list[str]:
    """Return the parts that have neither a case nor a reason."""
    compared = {piece for case in CASES for piece in case.pieces}
    return [f'{constant} {name}' for constant, name in registered_pieces() if name not in {*compared, *NOT_COMPARED}]
