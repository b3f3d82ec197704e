"""How many views of each image a batch holds."""

__all__ = ['count_views']


def count_views(caller: str, num_rows: int, num_samples: int) -> int:
    """Return V for a batch of V x B rows, where row v * B + b is view v of sample b.

    Args:
        caller (str): Who asks, for the error message.
        num_rows (int): Rows of the batch after the data preprocessor.
        num_samples (int): B, the number of data samples.

    Raises:
        ValueError: If the rows are no whole number of views.

    Example:
        >>> count_views('LinearHead', num_rows=8, num_samples=4)
        2
    """
    if num_samples == 0 or num_rows % num_samples or num_rows == 0:
        raise ValueError(
            f'{caller}: {num_rows} embeddings came with {num_samples} data samples. Each sample needs the '
            'same number of rows, its views: all of the first view, then all of the second, and so on.'
        )
    return num_rows // num_samples
