"""Score a search if queries and gallery have labels, as RetrievalMetric does."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from hybridcls.checks import counted
from hybridcls.functional import map_at_r, precision_at_r, recall_at

__all__ = ['SearchScores']


class SearchScores:
    """Sums of retrieval scores, in percent at the end.

    Args:
        recalls (Sequence[int]): k of each recall.
        whole_class (bool): Whether to add ``precision@r`` and ``map@r``, which need R neighbours of each query.

    Example:
        >>> import torch
        >>> scores = SearchScores([1])
        >>> scores.add(torch.tensor([[False, True]]), torch.tensor([2]))
        >>> scores.as_dict()
        {'queries': 1, 'without_match': 0, 'recall@1': 0.0, 'precision@r': 50.0, 'map@r': 25.0}
    """

    def __init__(self, recalls: Sequence[int], whole_class: bool = True) -> None:
        self.recalls, self.whole_class = sorted({*recalls}), whole_class
        self.queries = self.without_match = 0
        names = [f'recall@{k}' for k in self.recalls] + ['precision@r', 'map@r'] * whole_class
        self._sums = dict.fromkeys(names, 0.0)

    def add(self, hits: Tensor, matches: Tensor) -> None:
        """Count some queries with a label.

        Args:
            hits (Tensor): Whether each neighbour is of the query's class, bool (N, at least max(k, R)).
            matches (Tensor): R, how many of that class the gallery has, int64 (N,); 0: not a query, counted apart.
        """
        asked = matches > 0
        self.without_match += int((~asked).sum())
        self.queries += int(asked.sum())
        hits, matches = hits[asked], matches[asked]
        for k in self.recalls:
            self._sums[f'recall@{k}'] += recall_at(hits, k).sum().item()
        if self.whole_class:
            self._sums['precision@r'] += precision_at_r(hits, matches).sum().item()
            self._sums['map@r'] += map_at_r(hits, matches).sum().item()

    def as_dict(self) -> dict[str, Any]:
        """Return the means over the queries that have a match, in percent; none without such queries."""
        counts: dict[str, Any] = dict(queries=self.queries, without_match=self.without_match)
        return counts | {name: 100 * total / self.queries for name, total in self._sums.items() if self.queries}

    def __str__(self) -> str:
        if not self.queries:
            none = counted(self.without_match, 'query', 'queries')
            return f'none of {none} with a label has an image of its class in the index'
        means = '  '.join(f'{name} {value:.2f} %' for name, value in list(self.as_dict().items())[2:])
        left_out = f' ({counted(self.without_match, "more has", "more have")} no image of their class in the index)' * (
            self.without_match > 0
        )
        return f'{means}  of {counted(self.queries, "query", "queries")} with a label{left_out}'
