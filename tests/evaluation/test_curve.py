import math

import pytest
import torch
from hypothesis import given, strategies as st

from harp.errors import HarpError
from harp.evaluation import radius_at, security_curve, wilson
from harp.threats import Threat
from tests.attacks.linear import images, linear

INF = math.inf
# Ten points: two wrong clean, one never broken.
DISTANCES = torch.tensor([0.2, 0.0, 0.1, INF, 0.3, 0.1, 0.0, 0.5, 0.4, 0.2])
distances = st.lists(st.one_of(st.just(0.0), st.just(INF), st.floats(0, 1, width=32)), min_size=1, max_size=30)


def test_every_step_by_hand():
    curve = security_curve(DISTANCES)
    assert curve.eps.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert curve.accuracy.tolist() == [0.8, 0.6, 0.4, 0.3, 0.2, 0.1]
    assert curve.n == 10
    assert list(zip(curve.low.tolist(), curve.high.tolist(), strict=True)) == [
        wilson(successes, 10) for successes in (8, 6, 4, 3, 2, 1)
    ]


def test_a_grid_reads_the_same_function_and_a_distance_of_just_eps_is_broken():
    assert security_curve(DISTANCES, [0.0, 0.0999, 0.1, 0.25, 9.0]).accuracy.tolist() == [0.8, 0.8, 0.6, 0.4, 0.1]
    # 8/255 in float32 lies above 8/255 in float64.
    assert security_curve(torch.tensor([8 / 255]), [8 / 255]).accuracy.tolist() == [0]


def test_a_linear_model_has_the_curve_of_its_margins():
    # Under the inf-norm a point of a linear model breaks at |margin| / (1-norm of the difference of the rows).
    model, x = linear(bias=0.3), images(64)
    y = model(x).argmax(1)
    logits = model(x.double() if next(model.parameters()).dtype == torch.float64 else x)
    rows = next(param for param in model.parameters() if param.ndim == 2)
    far = (logits[:, 1] - logits[:, 0]).abs() / (rows[1] - rows[0]).abs().sum()
    threat = Threat(INF, 0.05, low=-9, high=9)
    sign = torch.where(y == 1, -1.0, 1.0)[:, None] * (rows[1] - rows[0]).sign()
    adv = threat.project(x + threat.eps * sign.view_as(x), x)
    right = (model(adv).argmax(1) == y).double().mean()
    assert security_curve(far.detach(), [threat.eps]).accuracy.tolist() == [float(right)]
    assert 0 < right < 1


@given(distances)
def test_accuracy_falls_and_its_interval_falls_with_it(values):
    curve = security_curve(torch.tensor(values))
    for fall in (curve.accuracy, curve.low, curve.high):
        assert (fall.diff() <= 0).all()
    assert ((curve.low <= curve.accuracy) & (curve.accuracy <= curve.high)).all()
    assert curve.accuracy[0] == sum(value > 0 for value in values) / len(values)
    assert curve.accuracy[-1] == values.count(INF) / len(values)


@given(distances, st.floats(0, 1.5))
def test_the_accuracy_is_the_share_beyond_eps(values, eps):
    found = torch.tensor(values, dtype=torch.float64)
    assert security_curve(found, [eps]).accuracy.tolist() == [sum(value > eps for value in values) / len(values)]


@given(distances)
def test_the_radius_at_a_half_is_the_median(values):
    found = torch.tensor(values)
    radius = radius_at(found)
    assert radius.eps == float(found.median())
    assert radius.low <= radius.eps <= radius.high


def test_a_radius_and_its_interval_by_hand():
    # Of 100 points at 1, 2, ..., 100, 100 - k are right at k; at most 50 are from k = 50. Wilson's interval of k of 100
    # has 0.5 in it for 41 <= k <= 59: (k / 100 - 0.5)^2 <= z^2 / 400 is |k - 50| <= 9.8.
    radius = radius_at(torch.arange(1.0, 101.0))
    assert (radius.eps, radius.low, radius.high) == (50, 41, 60)


def test_a_radius_that_is_never_reached_is_infinite():
    assert radius_at(torch.tensor([INF, INF, 0.1])).eps == INF
    assert radius_at(torch.tensor([INF, INF, 0.1]), 0.7).eps == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (torch.tensor([1, 2]), "expected float"),
        (torch.zeros(0), "n > 0"),
        (torch.zeros(2, 1), r"shape \[2, 1\]"),
        (torch.tensor([0.1, math.nan]), "below 0 or NaN"),
        (torch.tensor([-0.1]), "below 0 or NaN"),
    ],
    ids=["integers", "no-points", "two-axes", "nan", "negative"],
)
def test_what_are_no_distances_is_refused(found, message):
    with pytest.raises(HarpError, match=message):
        security_curve(found)


@pytest.mark.parametrize("grid", [[], [0.1, 0.1], [0.2, 0.1], [-0.1], [INF], [math.nan], [[0.1]]], ids=str)
def test_what_is_no_grid_is_refused(grid):
    with pytest.raises(HarpError, match="grid: expected finite, increasing"):
        security_curve(DISTANCES, grid)


@pytest.mark.parametrize("share", [0, 1, -0.5, math.nan])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(HarpError, match="share: expected"):
        radius_at(DISTANCES, share)
