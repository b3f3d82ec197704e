"""Results come in order, a few ahead, and errors in their place."""

import threading
import time

import pytest

from hybridcls.apis.mapped_ahead import mapped_ahead


@pytest.mark.parametrize('workers', [0, 4])
def test_order_and_errors(workers):
    def invert(number):
        time.sleep(0.002 * (number % 3))
        return 1 / number

    got = list(mapped_ahead(invert, range(-3, 4), workers, 3))
    assert [item for item, _, _ in got] == [-3, -2, -1, 0, 1, 2, 3]
    assert [result for _, result, _ in got] == [-1 / 3, -1 / 2, -1, None, 1, 1 / 2, 1 / 3]
    assert [type(error) for _, _, error in got].index(ZeroDivisionError) == 3


def test_no_more_items_are_taken_than_it_may_be_ahead():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = mapped_ahead(str, items(), 2, 5)
    next(results)
    assert len(taken) == 6
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith('hybridcls')]
