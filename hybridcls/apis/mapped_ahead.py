"""Map a function over items in threads, some items ahead of the consumer, in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Optional

__all__ = ['mapped_ahead']


def mapped_ahead(
    function: Callable[[Any], Any], items: Iterable[Any], workers: int, ahead: int
) -> Generator[tuple[Any, Any, Optional[BaseException]], None, None]:
    """Yield each item with its result, or the exception instead of it, in the order of the items.

    At most ``ahead`` items are taken before their results are, so that any number of them fits into memory. Decoders
    and resizing release Python's lock, so threads do what processes would, without copies.

    Args:
        function (Callable): Is called by several threads at once.
        items (Iterable): Is read by the caller's thread alone.
        workers (int): Number of threads; 0: everything happens in the caller's.
        ahead (int): Number of items to be ahead.

    Example:
        >>> [result for _, result, _ in mapped_ahead(abs, [-1, -2, -3], workers=2, ahead=2)]
        [1, 2, 3]
    """
    if workers == 0:
        for item in items:
            try:
                result, error = function(item), None
            except Exception as raised:
                result, error = None, raised
            yield item, result, error
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix='hybridcls')
    pending: deque[tuple[Any, Future]] = deque()
    try:
        for item in items:
            pending.append((item, pool.submit(function, item)))
            if len(pending) > ahead:
                yield _finished(*pending.popleft())
        while pending:
            yield _finished(*pending.popleft())
    finally:  # also where the rest is not taken
        pool.shutdown(wait=True, cancel_futures=True)


def _finished(item: Any, future: Future) -> tuple[Any, Any, Optional[BaseException]]:
    error = future.exception()
    return item, None if error is not None else future.result(), error
