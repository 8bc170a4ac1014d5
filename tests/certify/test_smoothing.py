"""Linear networks, whose smoothed answers are known: what is proved is never more than what holds."""

import math

import numpy
import pytest
import torch
from scipy.stats import binom, norm
from torch import nn

from harp.certify import Certificate, Smoothed, Smoothing
from harp.errors import HarpError

IMAGE = torch.full((1, 4, 4), 128, dtype=torch.uint8)


class Side(nn.Module):
    """Class 1 on the side of a plane where an image's distance from it is above 0, else class 0.

    The plane is `far` from the middle grey, along the diagonal; under Gaussian noise of deviation sigma class 1 has the
    probability Phi(distance / sigma), and the largest radius that holds is the distance itself.
    """

    def __init__(self, far, pixels=16):
        super().__init__()
        self.far, self.root = far, pixels**0.5

    def forward(self, x):
        distance = (x - 128 / 255).flatten(1).sum(1) / self.root + self.far
        return torch.stack([-distance, distance], 1)


@pytest.mark.parametrize("far", [0.05, 0.2, 0.4])
def test_what_is_proved_is_nearly_what_holds_and_not_more(far):
    found = Smoothed(Side(far), Smoothing(0.25, samples=20_000)).certify(IMAGE)
    assert found.guess == 1
    assert 0.85 * far - 0.02 < found.radius <= far
    assert found.right / found.n == pytest.approx(norm.cdf(far / 0.25), abs=0.02)


def test_bets_and_counts_say_the_same():
    for far, at, proved in ((0.4, 0.2, True), (0.1, 0.2, False)):
        counted = Smoothed(Side(far), Smoothing(0.25, samples=20_000)).certify(IMAGE)
        bet = Smoothed(Side(far), Smoothing(0.25, samples=20_000, at=at)).certify(IMAGE)
        assert bet.decided
        assert (bet.radius == at) == (counted.radius >= at) == proved
        assert bet.n < 5_000


def test_what_is_not_decided_in_time_proves_nothing():
    found = Smoothed(Side(0.2), Smoothing(0.25, samples=200, at=0.2)).certify(IMAGE)
    assert (found.radius, found.decided, found.n) == (0.0, False, 200)


def test_a_network_is_asked_in_eval_mode_and_left_in_its_own():
    model = nn.Sequential(Side(0.4), nn.Dropout(0.9)).train()
    found = Smoothed(model, Smoothing(0.25, samples=500)).certify(IMAGE)
    assert found == Smoothed(Side(0.4), Smoothing(0.25, samples=500)).certify(IMAGE)
    assert model.training


def test_an_image_on_the_plane_is_abstained_from():
    assert Smoothed(Side(0.0), Smoothing(0.25, samples=1000)).certify(IMAGE).radius == 0


def test_a_proof_is_wrong_no_more_often_than_alpha():
    """500 seeds; a proof is wrong where it reaches beyond the plane."""
    wrong = 0
    for seed in range(500):
        asked = Smoothing(0.25, samples=200, alpha=0.05, first=5, seed=seed, batch=200)
        wrong += Smoothed(Side(0.1), asked).certify(IMAGE).radius > 0.1
    assert wrong <= binom.ppf(1 - 1e-6, 500, 0.05)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_of_10000_proofs_no_more_are_wrong_than_alpha_allows():
    """Each with noise of its own and a plane at a random distance, counted and bet on."""
    chance = numpy.random.default_rng(0)
    image, wrong = torch.full((1, 2, 2), 128, dtype=torch.uint8), {"counted": 0, "bet": 0}
    for seed in range(10_000):
        far = float(chance.uniform(0.01, 0.6))
        model = Side(far, pixels=4)
        counted = Smoothed(model, Smoothing(0.25, 400, 0.001, first=5, seed=seed, batch=400)).certify(image)
        wrong["counted"] += counted.radius > far
        at = float(chance.uniform(0.01, 0.6))
        bet = Smoothed(model, Smoothing(0.25, 400, 0.001, first=5, at=at, seed=seed, batch=400)).certify(image)
        wrong["bet"] += bet.radius > far
    assert max(wrong.values()) <= binom.ppf(1 - 1e-6, 10_000, 0.001), wrong


def test_a_network_that_answers_nothing_finite_proves_nothing():
    assert Smoothed(lambda x: torch.full((len(x), 3), math.nan), Smoothing(0.25)).certify(IMAGE) == Certificate(
        -1, 0, 0, 0
    )


def test_repeated_it_is_the_same_however_the_answers_are_cut():
    one = Smoothed(Side(0.2), Smoothing(0.25, samples=1000, batch=100))
    first, second = one.certify(IMAGE), one.certify(IMAGE)
    assert first == second == Smoothed(Side(0.2), Smoothing(0.25, samples=1000, batch=100)).certify(IMAGE)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"alpha": 1.0}, "alpha is 1"),
        ({"at": 5.0}, "radius is 5; expected above 0 and"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, said):
    with pytest.raises(HarpError, match=said):
        Smoothing(0.25, **wrong)


def test_images_that_are_not_of_whole_steps_are_refused():
    with pytest.raises(HarpError, match=r"the image is torch\.float32"):
        Smoothed(Side(0.1), Smoothing(0.25)).certify(torch.rand(1, 4, 4))
