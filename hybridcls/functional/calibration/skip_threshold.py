"""Find the confidence above which a cheaper prediction may replace the full one, with few changed predictions."""

from typing import NamedTuple, Optional

from torch import Tensor

from hybridcls.checks import check_number

from .risk_threshold import images_without_error

__all__ = ['SkipThreshold', 'skip_threshold']


class SkipThreshold(NamedTuple):
    """A threshold, or, if none was found, how far the images are from one.

    Args:
        threshold (float, optional): The cheaper answer stands if its confidence is >= this; None: none was found.
        skipped (int): Of the images, those whose cheaper answer stands.
        changed (int): Of these, those with another answer than the full one.
        images (int): How many there were.
        missing (int, optional): Without a threshold: how many more images are needed before any could be found; None:
            images are enough, but even the surest cheaper answers differ from the full ones.
    """

    threshold: Optional[float]
    skipped: int
    changed: int
    images: int
    missing: Optional[int] = None


def skip_threshold(confidences: Tensor, changed: Tensor, rate: float, confidence: float = 0.95) -> SkipThreshold:
    r"""Find the lowest confidence above which cheaper predictions may be used, with a guarantee.

    With probability ``confidence`` over the images given, at most the share ``rate`` of *all* later images gets another
    answer than the full one, if they are drawn as these were; so no score that counts right answers falls by more. The
    share of changed answers can only grow as the threshold falls, so it is enough that each threshold down to the one
    chosen passes the binomial test of "the share is above ``rate``" (`Risk-controlling prediction sets
    <https://arxiv.org/abs/2101.02703>`_): nothing needs to be learned from other images, and no correction for many
    thresholds is paid.

    Args:
        confidences (Tensor): Of the cheaper answers, shape (N,), higher is surer. The rule that gives them must not
            have been fitted on these images.
        changed (Tensor): bool, shape (N,): whether the full answer is another.
        rate (float): In (0, 1).
        confidence (float): In (0, 1). Defaults to 0.95.

    Raises:
        ValueError: If a number is out of range, or a confidence is NaN.

    Example:
        >>> import torch
        >>> confidences = torch.linspace(0, 1, 401)
        >>> found = skip_threshold(confidences, confidences < 0.5, rate=0.02)
        >>> round(found.threshold, 4), found.skipped, found.changed
        (0.4925, 204, 3)
        >>> skip_threshold(confidences[:100], confidences[:100] < 0, rate=0.02).missing
        49
    """
    from scipy.stats import binom

    check_number('skip_threshold', 'rate', rate, 0, 1, low_open=True, high_open=True)
    check_number('skip_threshold', 'confidence', confidence, 0, 1, low_open=True, high_open=True)
    confidences = confidences.double()
    if bool(confidences.isnan().any()):
        raise ValueError('skip_threshold: expected confidences, got NaN.')
    count = len(confidences)
    found = SkipThreshold(None, 0, 0, count)
    fewest = images_without_error(rate, confidence)
    if count < fewest:
        return found._replace(missing=fewest - count)
    # The most changed answers with which the test passes: P(Bin(N, rate) <= most) <= 1 - confidence.
    most = int(binom.ppf(1 - confidence, count, rate))
    while binom.cdf(most, count, rate) > 1 - confidence:
        most -= 1
    differ = confidences[changed].sort(descending=True).values
    stand = confidences > differ[most] if len(differ) > most else confidences >= confidences.min()
    if not bool(stand.any()):
        return found
    threshold = float(confidences[stand].min())
    return SkipThreshold(threshold, int(stand.sum()), int((stand & changed).sum()), count)
