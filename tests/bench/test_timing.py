import time

import pytest
from scipy.stats import binom

from harp.bench.timing import faster, interleaved, summarised


def spin(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def test_calls_take_turns_and_samples_last_long_enough():
    order: list[str] = []
    calls = {"quick": lambda: spin(2e-4), "idle": lambda: time.sleep(2e-3)}
    found = interleaved(calls, 3, least=5e-3, tick=order.append)
    assert order == ["quick", "idle"] * 3
    assert found["quick"].repeats * min(found["quick"].wall) > 4e-3
    assert 1 <= found["idle"].repeats <= 3  # of at least 2 ms each
    assert min(found["quick"].wall) >= 2e-4
    # Sleeping takes time, but none of the processor's.
    assert max(found["idle"].cpu) < 0.5 * min(found["idle"].wall)
    assert min(found["quick"].cpu) > 2e-5


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    # The machine was ten times slower in the second round: the ratio within it is what it was.
    found = faster([4.0, 40.0, 4.0], [2.0, 20.0, 1.0])
    assert (found.ratio, found.low, found.high) == (2.0, 2.0, 4.0)


@pytest.mark.parametrize("n", [6, 7, 10, 20, 31])
def test_the_interval_covers_the_median_at_least_as_often_as_it_says(n):
    found = faster(list(range(1, n + 1)), [1.0] * n)
    below = int(found.low)  # the rank of the lower end; the upper one lies as far from its own
    assert found.high == n + 1 - below
    covered = 1 - 2 * binom.cdf(below - 1, n, 0.5)
    assert covered >= 0.95
    assert 1 - 2 * binom.cdf(below, n, 0.5) < 0.95


def test_a_summary_is_the_middle_and_the_quick_end():
    assert summarised([5.0, 1.0, 2.0, 3.0, 4.0]) == {"median": 3.0, "p10": pytest.approx(1.4)}
