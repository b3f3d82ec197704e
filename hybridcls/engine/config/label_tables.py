"""Which images a training drops or relabels is part of its config: the decisions of a table, not its name alone."""

import os
from collections.abc import Iterator

from mmengine.config import Config

from .change import Change
from .tree import datasets_in, is_a

__all__ = ['label_tables']


def label_tables(cfg: Config) -> Iterator[Change]:
    """Write beside each table of decisions (``drop``, ``relabel`` of an ImageFolder) a digest of what it decides.

    Raises:
        FileNotFoundError, ValueError: If it cannot be read.
    """
    from hybridcls.datasets import ImageFolder
    from hybridcls.datasets.label_decisions import read_decisions

    for path, dataset in datasets_in(cfg):
        for key in ('drop', 'relabel'):
            given = dataset.get(key)
            if given is None or not is_a('DATASETS', dataset, ImageFolder):
                continue
            decisions = read_decisions('ImageFolder', given, key)
            new = dict(file=os.path.abspath(decisions.file), digest=decisions.digest)
            if new != given:
                yield Change(
                    (*path, key), given, new, f'the {len(getattr(decisions, key))} decisions in it', 'the table'
                )
