"""Bounds against numbers of METHODS 9.14, and the promise of the bets over many runs."""

import math

import numpy
import pytest
from hypothesis import given, strategies as st
from scipy.stats import binom

from harp.certify.bounds import Bets, bar, lower_bound, radius
from harp.errors import HarpError

BAR = bar(110 / 255, 0.25)


def test_the_bar_of_110_255():
    assert pytest.approx(0.9578, abs=1e-4) == BAR


@pytest.mark.parametrize(("n", "largest"), [(10**3, 0.616), (10**4, 0.800), (10**5, 0.953)])
def test_the_largest_radius_that_so_many_right_answers_prove(n, largest):
    assert radius(lower_bound(n, n, 0.001), 0.25) == pytest.approx(largest, abs=1e-3)


@given(st.floats(0.01, 1.0), st.floats(0.05, 1.0))
def test_on_a_plane_the_radius_is_the_distance(distance, sigma):
    """A linear network is right with the probability Phi(distance / sigma) under noise."""
    if distance < 5 * sigma:
        assert radius(bar(distance, sigma), sigma) == pytest.approx(distance, abs=1e-6)


@given(st.integers(1, 300), st.floats(0.01, 0.2), st.floats(0.01, 0.99))
def test_a_bound_is_missed_no_more_often_than_alpha(n, alpha, chance):
    missed = sum(binom.pmf(right, n, chance) for right in range(n + 1) if lower_bound(right, n, alpha) > chance)
    assert missed <= alpha + 1e-9


def test_bets_in_pieces_are_bets_at_once():
    answers = numpy.random.default_rng(0).random(500) < 0.96
    whole, pieces = Bets(BAR, 1e-9), Bets(BAR, 1e-9)
    whole.take(answers)
    for piece in numpy.array_split(answers, 7):
        pieces.take(piece)
    assert (whole.n, whole.right) == (pieces.n, pieces.right) == (500, int(answers.sum()))
    assert whole.above == pytest.approx(pieces.above)
    assert whole.below == pytest.approx(pieces.below)


def test_a_factor_by_hand():
    """One right answer: half a guess is below the bar, which is bet instead and gains nothing; against, .5 of it is."""
    bets = Bets(0.8, 0.01)
    bets.take(numpy.array([True]))
    assert bets.above == 0
    assert bets.below == pytest.approx(math.log(0.5 / 0.8))


@pytest.mark.parametrize(("chance", "expected"), [(0.98, 1344), (0.99, 530), (0.999, 257), (1.0, 237)])
def test_how_many_answers_it_takes(chance, expected):
    taken = []
    for seed in range(60):
        bets = Bets(BAR, 0.001)
        taken.append(bets.take(numpy.random.default_rng(seed).random(20_000) < chance))
        assert bets.verdict is True
    assert numpy.mean(taken) == pytest.approx(expected, rel=0.25)


def test_at_the_bar_itself_hardly_anybody_wins():
    won = 0
    for seed in range(2000):
        bets = Bets(BAR, 0.01)
        bets.take(numpy.random.default_rng(seed).random(2000) < BAR)
        won += bets.verdict is True
    assert won <= binom.ppf(1 - 1e-6, 2000, 0.01)


@pytest.mark.parametrize("wrong", [{"bar": 1.0, "alpha": 0.1}, {"bar": 0.5, "alpha": 0.0}])
def test_what_is_no_probability_is_refused(wrong):
    with pytest.raises(HarpError, match="expected a probability above 0 and below 1"):
        Bets(**wrong)
