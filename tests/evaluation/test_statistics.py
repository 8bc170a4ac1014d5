import math

import pytest
from hypothesis import given, strategies as st

from harp.errors import HarpError
from harp.evaluation import Spread, spread, wilson

trials = st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # The bounds p solve (share - p)^2 = z^2 p (1 - p) / n; at a share of 0 they are 0 and z^2 / (n + z^2).
        (0, 10, 0.0, 0.2775328),
        (10, 10, 0.7224672, 1.0),
        (83, 100, 0.7445, 0.8911),
        (5, 10, 0.2366, 0.7634),
        (1, 1, 0.2065, 1.0),
    ],
)
def test_known_intervals(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=6e-5)


@given(trials)
def test_the_interval_contains_the_share_and_lies_in_0_to_1(counts):
    low, high = wilson(*counts)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1


@given(trials)
def test_the_bounds_solve_the_score_equation(counts):
    successes, n = counts
    share, z = successes / n, 1.959963984540054
    for bound in wilson(successes, n):
        assert (share - bound) ** 2 == pytest.approx(z * z * bound * (1 - bound) / n, rel=1e-6, abs=1e-12)


@given(trials)
def test_failures_mirror_successes(counts):
    successes, n = counts
    low, high = wilson(successes, n)
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_more_trials_and_less_confidence_narrow_it():
    widths = [high - low for low, high in (wilson(8, 10), wilson(80, 100), wilson(80, 100, z=1.0))]
    assert widths == sorted(widths, reverse=True)


def test_95_per_cent_of_samples_hold_the_truth():
    # Exact, by the binomial distribution with 40 trials of probability 0.3; the score interval is close to nominal.
    covered = sum(
        math.comb(40, k) * 0.3**k * 0.7 ** (40 - k) for k in range(41) if wilson(k, 40)[0] <= 0.3 <= wilson(k, 40)[1]
    )
    assert 0.93 < covered < 0.97


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 10), (11, 10)])
def test_what_is_no_sample_is_refused(successes, n):
    with pytest.raises(ValueError, match="expected 0 <= successes <= n and n > 0"):
        wilson(successes, n)


def test_the_spread_of_five_by_hand():
    # Deviations -2 .. 2: variance 10 / 4; the 97.5 % quantile of Student's t with 4 degrees of freedom is 2.776445.
    half = 2.7764451 * math.sqrt(2.5 / 5)
    seen = spread([5, 1, 4, 2, 3])
    assert (seen.mean, seen.min, seen.max, seen.n) == (3, 1, 5, 5)
    assert (seen.std, seen.low, seen.high) == pytest.approx((math.sqrt(2.5), 3 - half, 3 + half), abs=1e-6)


def test_the_spread_of_two_has_the_quantile_of_cauchy():
    # With one degree of freedom Student's t is Cauchy's: tan(pi 0.475); the standard error is half the distance.
    seen = spread([0.2, 0.6])
    assert seen.high - seen.mean == pytest.approx(0.2 * math.tan(math.pi * 0.475))
    assert seen.mean == pytest.approx(0.4)


def test_equal_seeds_have_no_spread():
    assert spread([0.5] * 3) == Spread(0.5, 0, 0.5, 0.5, 0.5, 0.5, 3)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.floats(-10, 10), st.floats(0.1, 10))
def test_the_spread_moves_and_stretches_with_the_values(values, shift, factor):
    seen, moved = spread(values), spread(shift + factor * value for value in values)
    for name in ("mean", "min", "max", "low", "high"):
        assert getattr(moved, name) == pytest.approx(shift + factor * getattr(seen, name), rel=1e-6, abs=1e-6)
    assert moved.std == pytest.approx(factor * seen.std, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, math.nan], [0.5, math.inf]], ids=str)
def test_what_has_no_spread_is_refused(values):
    with pytest.raises(HarpError, match="at least two finite numbers"):
        spread(values)
