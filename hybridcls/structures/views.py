"""Count the views of each image in a batch."""

__all__ = ['count_views']


def count_views(caller: str, num_rows: int, num_samples: int) -> int:
    """Return V for a batch of V x B rows, where row v * B + b is view v of sample b.

    Args:
        caller (str): Name used as the error prefix.
        num_rows (int): Rows of the batch after the data preprocessor.
        num_samples (int): B, the number of data samples.

    Raises:
        ValueError: If the number of rows is not a multiple of B.

    Example:
        >>> count_views('LinearHead', num_rows=8, num_samples=4)
        2
    """
    if num_samples == 0 or num_rows % num_samples or num_rows == 0:
        raise ValueError(
            f'{caller}: expected a multiple of {num_samples} embeddings for {num_samples} samples, got {num_rows}. '
            'Order the rows by view: all of the first view, then all of the second, and so on.'
        )
    return num_rows // num_samples
