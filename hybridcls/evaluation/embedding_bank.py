"""Metrics that compare the evaluated images with a bank of embeddings, such as the training images'."""

from typing import Any, Optional

from torch import Tensor

__all__ = ['TakesBank', 'bank_classes']


class TakesBank:
    """Mixin of a metric that ``EmbeddingBankHook`` gives a bank before each evaluation. (Comes before BaseMetric.)

    A bank is dropped after use: its weights are those of one epoch.

    Attributes:
        bank (tuple[Tensor, Tensor], optional): Embeddings (M, D), and labels int64 (M,); None without the hook.
    """

    bank: Optional[tuple[Tensor, Tensor]] = None

    def set_bank(self, embeddings: Tensor, labels: Tensor) -> None:
        """Set the bank of the next evaluation.

        Args:
            embeddings (Tensor): ``(M, D)``, of any nonzero norm. Rows that are not finite are left out.
            labels (Tensor): ``(M,)`` int64, in the numbering of the evaluated set's ``gt_label``.

        Raises:
            ValueError: If the shapes do not fit.
        """
        if embeddings.dim() != 2 or labels.shape != embeddings.shape[:1] or not len(labels):
            raise ValueError(
                f'{type(self).__name__}.set_bank: expected embeddings (M, D) and labels (M,) with M >= 1, got '
                f'{tuple(embeddings.shape)} and {tuple(labels.shape)}.'
            )
        embeddings, labels = embeddings.detach().cpu(), labels.detach().cpu().long()
        finite = embeddings.isfinite().all(dim=1)
        self.bank = (embeddings, labels) if finite.all() else (embeddings[finite], labels[finite])

    def check_width(self, embeddings: Tensor) -> None:
        """Raise a ValueError if the evaluated embeddings (N, D) and the bank differ in width."""
        if self.bank is not None and self.bank[0].shape[1] != embeddings.shape[1]:
            raise ValueError(
                f'{type(self).__name__}: expected a bank of {embeddings.shape[1]}-dimensional embeddings, as the '
                f'evaluated ones, got {self.bank[0].shape[1]}.'
            )

    def evaluate(self, size: int) -> Any:
        """Evaluate as mmengine's BaseMetric does, and drop the bank."""
        try:
            return super().evaluate(size)  # type: ignore[misc]
        finally:
            self.forget()

    def forget(self) -> None:
        """Drop what was set for one evaluation."""
        self.bank = None


def bank_classes(labels: Tensor) -> Tensor:
    """Return the class numbers in a bank in ascending order, without -1, the unknown class."""
    return labels[labels >= 0].unique()
