"""The section on confusions: the confusion matrix and the most confused pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hybridcls.checks import counted

from .evaluated_images import EvaluatedImages
from .html_page import Matrix, Section, Table, percent

__all__ = ['confusion_section', 'shown_classes']

_MATRIX = 40  # classes that a matrix shows
_IN_ORDER = 20  # classes that keep the order of the model


def confusion_section(pairs: Sequence[Mapping[str, Any]], known: EvaluatedImages, classes: Sequence[str]) -> Section:
    """Show the matrix and the confused pairs of :func:`~hybridcls.apis.report.numbers.class_numbers`."""
    section = Section('confusion', 'Confusion')
    rows = [
        [row['class'], row['predicted_as'], row['images'], percent(row['percent']),
         None if row.get('percent_low') is None else f'{row["percent_low"]:.1f} to {row["percent_high"]:.1f}']
        for row in pairs
    ]  # fmt: skip
    if not rows:
        section.says.append('No image is predicted as another class.')
    matrix = np.zeros((len(classes), len(classes)))
    np.add.at(matrix, (known.labels, known.predicted), 1)
    shown = shown_classes(matrix)
    if len(shown) < len(classes) and len(shown):
        inside = matrix[np.ix_(shown, shown)]
        errors, of = inside.sum() - np.trace(inside), matrix.sum() - np.trace(matrix)
        section.says.append(
            f'The matrix shows {counted(len(shown), "class", "classes", of=len(classes))}: those of the most frequent '
            f'confusions, with {int(errors):,} of all {counted(int(of), "error")}. The table below has more pairs.'
        )
    if len(shown) > _IN_ORDER:
        section.says.append('Classes that are confused with each other are next to each other.')
    if len(shown):
        shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        title = 'Confusion matrix: predicted classes (columns) in % of the images of each true class (rows)'
        section.matrix = Matrix(title, [classes[int(one)] for one in shown], shares[np.ix_(shown, shown)])
        section.says.append('Each number is a percentage of the images of its row. Numbers below 0.5 are left out.')
    if rows:
        head = ['true class', 'predicted as', 'images', '% of the class', '95 % interval']
        all_pairs = int((matrix - np.diag(np.diag(matrix)) > 0).sum())
        some = f': {len(rows)} of {all_pairs:,}' if len(rows) < all_pairs else ''
        section.tables.append(Table(f'Confused pairs, the most frequent first{some}', head, rows, {2, 3, 4}))
    return section


def shown_classes(matrix: np.ndarray) -> np.ndarray:
    """Choose the classes of a confusion matrix to show, and their order.

    Args:
        matrix (np.ndarray): Images by class and predicted class, (C, C).

    Returns:
        np.ndarray: Of up to 40 classes all; of more both ends of the most frequent confusions. Up to 20 are in the
        order of the classes; more are ordered to bring confused ones together, by average linkage.
    """
    wrong = matrix - np.diag(np.diag(matrix))
    shown = np.arange(len(matrix))
    if len(matrix) > _MATRIX:
        pairs = np.argwhere(wrong)
        order = np.argsort(-wrong[tuple(pairs.T)], kind='stable')
        shown = np.array(list(dict.fromkeys(pairs[order].ravel().tolist()))[:_MATRIX], dtype=np.int64)
        shown.sort()
    if len(shown) <= _IN_ORDER:
        return shown
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    shares = wrong[np.ix_(shown, shown)] / np.maximum(matrix[shown].sum(1, keepdims=True), 1)
    distances = squareform(1 - (shares + shares.T) / 2 * (1 - np.eye(len(shown))) - np.eye(len(shown)), checks=False)
    return shown[leaves_list(optimal_leaf_ordering(linkage(distances, 'average'), distances))]
