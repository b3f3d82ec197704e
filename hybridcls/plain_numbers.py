"""Convert results to lists and Python numbers, for files and JSON, without importing torch."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ['plain_results']


def plain_results(value: Any, finite: bool = False) -> Any:
    """Convert tensors and arrays in nested results to lists and Python numbers.

    Args:
        value: Numbers, tensors, arrays, and dicts, lists and tuples of them.
        finite (bool): Replace non-finite numbers by None. Defaults to False.

    Example:
        >>> plain_results(dict(top1=np.float64(0.5), each=(np.arange(2), float('nan'))), finite=True)
        {'top1': 0.5, 'each': [[0, 1], None]}
    """
    if hasattr(value, 'detach'):  # a tensor
        value = value.detach().cpu().tolist()
    elif isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain_results(one, finite) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_results(one, finite) for one in value]
    return None if finite and isinstance(value, float) and not math.isfinite(value) else value
