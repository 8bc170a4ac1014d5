import threading

import pytest

from harp.data.ahead import ahead, processors
from harp.errors import HarpError


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_made_comes_in_order_and_no_more_is_begun_than_asked(workers):
    begun = []

    def pieces():
        for number in range(20):
            begun.append(number)
            yield number

    made = ahead(lambda number: number**2, pieces(), workers, 4)
    for number in range(20):
        assert next(made) == number**2
        assert len(begun) <= number + 5
    assert list(made) == []


def test_an_error_comes_in_its_turn():
    def make(number: int) -> int:
        if number == 2:
            raise HarpError("the third")
        return number

    made = ahead(make, range(10), 2, 4)
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(HarpError, match="the third"):
        next(made)


def test_pieces_are_drawn_in_the_callers_thread():
    def pieces():
        yield threading.current_thread().name

    assert list(ahead(str, pieces(), 2, 4)) == [threading.current_thread().name]


def test_there_is_a_processor():
    assert processors() >= 1
