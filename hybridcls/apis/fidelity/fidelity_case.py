"""A fidelity case: a part of hybridcls on fixed inputs, and the numbers of its paper's code for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import torch
from torch import Tensor

__all__ = ['Expected', 'FidelityCase', 'Found', 'Official', 'Place', 'float_numbers', 'gradient_of']

Found = Mapping[str, Tensor]
Expected = Mapping[str, np.ndarray]


class Official(NamedTuple):
    """The published code that produced the stored numbers of a case.

    Args:
        repository (str): ``owner/name`` on GitHub.
        commit (str): The first eight digits.
        file (str): In the repository.
    """

    repository: str
    commit: str
    file: str

    def __str__(self) -> str:
        return f'{self.repository} {self.commit} {self.file}'


class Place(NamedTuple):
    """The device and the precision in which a case computes."""

    device: torch.device
    dtype: torch.dtype

    def tensor(self, values: np.ndarray, gradient: bool = False) -> Tensor:
        """Return a tensor on this device; floats in the case's precision, integers and booleans unchanged."""
        found = torch.from_numpy(np.array(values))
        if not found.is_floating_point():
            return found.to(self.device)
        return found.to(self.dtype).to(self.device).requires_grad_(gradient)


@dataclass(frozen=True)
class FidelityCase:
    """One comparison, a row of the table.

    Args:
        name (str): Unique.
        pieces (tuple[str, ...]): What it compares: names in the registries, or of functions.
        kind (str): ``'margin'``, ``'loss'``, ``'head'``, ``'module'``, ``'adapter'``, ``'stage'``, ``'optimizer'``,
            ``'metric'`` or ``'function'``.
        paper (str): Its short name, and arXiv's number or where else it is.
        against (Official | str): The code, or the equation or library that takes its place.
        setting (str): Our keys, and those of the code where they have other names.
        found (Callable): Computes our numbers in a place.
        expected (Callable, optional): Computes those to compare with, in float64. Defaults to None: they are stored.
        tolerance (float): The largest deviation allowed in float64, see
            :func:`hybridcls.apis.fidelity.comparison.deviation`. Defaults to 1e-9.
        tolerance32 (float): In float32. Defaults to 1e-5.
        deviates (str): What differs on purpose from the code, unless its switch (in the text) is set. Defaults to ''.
        needs (str): A package that may be absent. Defaults to ''.
        numbers_of (str): The case whose stored numbers these are, too. Defaults to '': its own.
    """

    name: str
    pieces: tuple[str, ...]
    kind: str
    paper: str
    against: Union[Official, str]
    setting: str
    found: Callable[[Place], Found]
    expected: Optional[Callable[[], Expected]] = None
    tolerance: float = 1e-9
    tolerance32: float = 1e-5
    deviates: str = ''
    needs: str = ''
    numbers_of: str = ''

    def tolerance_in(self, dtype: torch.dtype) -> float:
        """Return the tolerance for a precision."""
        return self.tolerance if dtype == torch.float64 else self.tolerance32

    def as_dict(self) -> dict[str, Any]:
        """Return the case in JSON's types."""
        return dict(
            name=self.name, pieces=list(self.pieces), kind=self.kind, paper=self.paper, against=str(self.against),
            setting=self.setting, deviates=self.deviates,
        )  # fmt: skip


def gradient_of(tensor: Tensor) -> Tensor:
    """Return the gradient of a leaf tensor.

    Raises:
        RuntimeError: If it has none.
    """
    if tensor.grad is None:
        raise RuntimeError('fidelity: expected a gradient, got none.')
    return tensor.grad


def float_numbers(values: Union[Tensor, np.ndarray, float]) -> np.ndarray:
    """Convert numbers to float64 on the CPU."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)
