"""The noise is the rounding of a Gaussian, to within 2^-50, and the same everywhere."""

import pytest
import torch
from scipy.stats import chisquare, norm

from harp.certify.noise import BITS, drawn, noisy, slack, thresholds
from harp.errors import HarpError


@pytest.mark.parametrize("sigma", [0.01, 0.25, 1.0])
def test_thresholds_are_those_of_a_rounded_gaussian(sigma):
    reach, below = thresholds(sigma)
    assert len(below) == 2 * reach + 1
    assert bool((below.diff() >= 0).all())
    assert below[-1] == 2**BITS
    for step in (-3, 0, 2):
        expected = norm.cdf((step + 0.5) / (255 * sigma))
        assert int(below[reach + step]) / 2**BITS == pytest.approx(expected, abs=1e-12)
    # As likely to the left as to the right, to the last of 2^60 draws.
    left, right = int(below[reach - 1]), 2**BITS - int(below[reach])
    assert abs(left - right) <= 1


def test_draws_are_as_likely_as_they_should_be():
    noise = drawn((100_000,), 0.01, 0, "test")
    counts = [int((noise == step).sum()) for step in range(-5, 6)]
    chances = norm.cdf([(step + 0.5) / 2.55 for step in range(-5, 6)]) - norm.cdf(
        [(step - 0.5) / 2.55 for step in range(-5, 6)]
    )
    rest = 100_000 - sum(counts)
    assert chisquare([*counts, rest], [*(100_000 * chances), 100_000 * (1 - chances.sum())]).pvalue > 1e-4


def test_a_draw_has_a_name():
    one = drawn((3, 4), 0.25, 0, "image", 7)
    assert torch.equal(one, drawn((3, 4), 0.25, 0, "image", 7))
    assert not torch.equal(one, drawn((3, 4), 0.25, 0, "image", 8))
    assert one.dtype == torch.int32


def test_far_out_it_is_cut_off():
    images = torch.tensor([0, 255, 100], dtype=torch.uint8)
    made = noisy(images, torch.tensor([-1000, 1000, 5], dtype=torch.int32), 0.25)
    assert torch.equal(made * 255, torch.tensor([-255.0, 510.0, 105.0]))


@pytest.mark.parametrize("sigma", [0.0, -1.0, 100.0, float("nan")])
def test_other_deviations_are_refused(sigma):
    with pytest.raises(HarpError, match=r"sigma is .*; expected above 0\.001"):
        thresholds(sigma)


def test_what_rounding_may_shift_is_far_below_any_alpha():
    reach, _ = thresholds(0.25)
    assert slack(0.25, 3072) == 3072 * (2 * reach + 1) * 2.0**-60 < 1e-11
