import math
from itertools import product

import pytest
import torch
from hypothesis import given, strategies as st

from harp.errors import HarpError
from harp.evaluation import mcnemar, wilson

counts = st.integers(0, 40)
tables = st.tuples(counts, counts, counts, counts).filter(any)


def compared(both, b, c, neither):
    """Two sets of flags with so many points right in both, the first alone, the second alone, neither."""
    pairs = [(True, True)] * both + [(True, False)] * b + [(False, True)] * c + [(False, False)] * neither
    first, second = torch.tensor(pairs).unbind(1)
    return mcnemar(first, second)


@pytest.mark.parametrize(
    ("b", "c", "p"),
    # 2 (C(n, 0) + ... + C(n, min(b, c))) / 2^n with n = b + c.
    [(0, 0, 1), (1, 0, 1), (5, 0, 2 / 32), (0, 6, 2 / 64), (8, 1, 2 * 10 / 512), (7, 7, 1), (10, 3, 2 * 378 / 8192)],
)
def test_exact_p(b, c, p):
    assert compared(3, b, c, 2).p == p


def test_p_of_thousands_is_near_the_normal_one():
    z = (100 - 1) / math.sqrt(8100)
    assert compared(1, 4100, 4000, 1).p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Data of Bentur et al. 2009; -0.507 to -0.026 by Fagerland, Lydersen & Laake (Stat. Med. 2014).
        ((1, 1, 7, 12), -0.507, -0.026),
        ((36, 12, 2, 0), 0.0569, 0.3404),
    ],
    ids=["airway", "large"],
)
def test_known_intervals(table, low, high):
    seen = compared(*table)
    assert (seen.low, seen.high) == pytest.approx((low, high), abs=5e-4)


def test_an_empty_margin_leaves_two_independent_intervals():
    # The first is right 10 of 10 times, the second 7 of 10: with no correlation to estimate, square and add.
    (low1, _), (low2, high2) = wilson(10, 10), wilson(7, 10)
    seen = compared(7, 3, 0, 0)
    assert seen.difference == pytest.approx(0.3)
    assert seen.low == pytest.approx(0.3 - math.hypot(1 - low1, high2 - 0.7))
    assert seen.high == pytest.approx(0.3 + 0.7 - low2)


def test_models_that_agree_everywhere_differ_by_nothing_but_not_surely():
    seen = compared(60, 0, 0, 40)
    assert (seen.b, seen.c, seen.n, seen.p, seen.difference) == (0, 0, 100, 1, 0)
    assert seen.low == pytest.approx(-seen.high)
    assert 0 < seen.high < 0.03


@given(tables)
def test_swapping_the_models_turns_the_comparison_round(table):
    both, b, c, neither = table
    seen, swapped = compared(*table), compared(both, c, b, neither)
    assert (swapped.b, swapped.c, swapped.p) == (seen.c, seen.b, seen.p)
    assert swapped.difference == -seen.difference
    assert (swapped.low, swapped.high) == pytest.approx((-seen.high, -seen.low), abs=1e-12)


@given(tables)
def test_the_interval_holds_the_difference_and_lies_in_minus_1_to_1(table):
    seen = compared(*table)
    assert seen.difference == (table[1] - table[2]) / sum(table)
    assert -1 <= seen.low <= seen.difference <= seen.high <= 1


def test_pairs_that_agree_narrow_the_interval():
    widths = [seen.high - seen.low for seen in (compared(45, 5, 5, 45), compared(25, 25, 25, 25))]
    assert widths[0] < 0.6 * widths[1]


def test_95_per_cent_of_samples_hold_the_truth():
    # Exact: every table of 20 points, weighted by its multinomial probability.
    n, chances = 20, (0.5, 0.2, 0.1, 0.2)
    covered = 0.0
    for both, b, c in product(range(n + 1), repeat=3):
        if (neither := n - both - b - c) >= 0:
            table = (both, b, c, neither)
            seen = _interval(table)
            if seen[0] <= chances[1] - chances[2] <= seen[1]:
                ways = math.factorial(n) / math.prod(map(math.factorial, table))
                covered += ways * math.prod(chance**k for chance, k in zip(chances, table, strict=True))
    assert 0.94 < covered < 0.98


def _interval(table):
    seen = compared(*table)
    return seen.low, seen.high


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (torch.ones(3), torch.ones(3, dtype=torch.bool), "first: expected bool"),
        (torch.ones(3, dtype=torch.bool), torch.ones(3, dtype=torch.long), "second: expected bool"),
        (torch.ones(3, dtype=torch.bool), torch.ones(2, dtype=torch.bool), "the same points, got 3 and 2"),
        (torch.ones(0, dtype=torch.bool), torch.ones(0, dtype=torch.bool), "n > 0"),
    ],
    ids=["float", "integers", "other-length", "no-points"],
)
def test_what_is_no_pair_of_flags_is_refused(first, second, message):
    with pytest.raises(HarpError, match=message):
        mcnemar(first, second)
