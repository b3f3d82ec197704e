"""Serialize the results of a test."""

import csv
from collections.abc import Mapping
from io import StringIO
from pathlib import PurePath
from typing import Any

from mmengine.fileio import dump

from hybridcls.plain_numbers import plain_results

__all__ = ['plain_results', 'results_as_bytes']


def results_as_bytes(results: Mapping[str, Any], path: str) -> bytes:
    """Serialize results in the format of the file name: ``.json``, ``.yml``, ``.yaml``, ``.csv``, ``.pkl``.

    Tensors and arrays become lists of Python numbers. Non-finite numbers become null in JSON. CSV has a row for each
    result, ``metric,value``.

    Example:
        >>> import torch
        >>> results_as_bytes({'matrix': torch.eye(2), 'nll': float('nan')}, 'm.json')
        b'{"matrix": [[1.0, 0.0], [0.0, 1.0]], "nll": null}'
        >>> results_as_bytes({'top1': 93.5}, 'm.csv')
        b'metric,value\\r\\ntop1,93.5\\r\\n'
    """
    kind = PurePath(path).suffix.removeprefix('.').replace('pickle', 'pkl')
    if kind == 'csv':
        rows = StringIO(newline='')
        csv.writer(rows).writerows([('metric', 'value'), *plain_results(results).items()])
        return rows.getvalue().encode()
    content = dump(plain_results(results, finite=kind == 'json'), file_format=kind)
    return content if isinstance(content, bytes) else content.encode()
