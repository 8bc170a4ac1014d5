import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, strategies as st

from harp.evaluation.doubts import Evidence, examine
from harp.evaluation.doubts.base import sign_test, surely
from harp.evaluation.doubts.searches import jump_beyond_eps, large_eps, non_monotone
from harp.threats import Threat
from tests.attacks.linear import images, linear

X = images(32)
Y = linear()(X).argmax(1)
THREAT = Threat(eps=1e-4)


@pytest.mark.parametrize(
    ("count", "of", "limit", "expected"),
    [(3, 128, 0.005, True), (2, 128, 0.005, False), (2, 128, 0.002, True), (1, 128, 0.002, False), (0, 0, 0.0, False)],
)
def test_a_share_is_surely_above_a_limit_with_its_whole_interval(count, of, limit, expected):
    # Wilson's lower bounds of 1, 2 and 3 in 128 are 0.0014, 0.0043 and 0.0080.
    assert surely(count, of, limit) == expected


def test_the_sign_test_by_hand():
    assert sign_test(0, 0) == 1
    assert sign_test(3, 0) == 1 / 8
    assert sign_test(3, 1) == pytest.approx(5 / 16)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_two_sides_of_the_sign_test_overlap_in_one_outcome(ups, downs):
    both = math.comb(ups + downs, ups) / 2 ** (ups + downs)
    assert sign_test(ups, downs) + sign_test(downs, ups) == pytest.approx(1 + both)


def growing(*broken):
    """A sample of 100 points; at radii 1, 2, ... the first so many are broken, or, where negative, the last."""
    points = torch.arange(100)
    rows = {float(i + 1): points < count if count >= 0 else points >= 100 + count for i, count in enumerate(broken)}
    return SimpleNamespace(growing=rows, m=100, large=SimpleNamespace(eps=float(len(broken))))


@pytest.mark.parametrize(
    ("broken", "value"),
    [((10, 40, 90, 100), None), ((10, 40, 39, 100), None), ((10, 40, 30, 100), 0.1), ((60, 40, 70, 40), 0.3)],
)
def test_a_larger_radius_must_not_protect(broken, value):
    found = non_monotone(growing(*broken))
    assert (found and found[0]) == (value and pytest.approx(value))


def test_points_that_change_places_are_no_rise():
    assert non_monotone(growing(30, -30)) is None
    found = non_monotone(growing(-30, 4))
    assert found is not None
    assert found[0] == pytest.approx(0.26)


def around(below, at, above, m=100):
    """A sample of m points, of which so many are broken just before eps, at it and just beyond."""
    rows = tuple(torch.arange(m) < count for count in (below, at, above))
    return SimpleNamespace(around=rows, m=m, threat=Threat(eps=0.1))


@pytest.mark.parametrize(
    ("curve", "value"),
    [
        ((0, 0, 40), 0.4),
        ((10, 11, 60), 49 / 89),
        ((10, 20, 40), None),
        ((0, 0, 8), None),
        ((14, 16, 24), None),
        ((60, 80, 95), None),
        ((0, 100, 100), None),
    ],
)
def test_a_jump_beyond_eps_is_no_slope(curve, value):
    found = jump_beyond_eps(around(*curve))
    assert (found and found[0]) == (value and pytest.approx(value))


@pytest.mark.parametrize(("broken", "value"), [(100, None), (95, None), (80, 0.2), (0, 1.0)])
def test_at_the_large_radius_all_must_fall(broken, value):
    found = large_eps(growing(0, broken))
    assert (found and found[0]) == (value and pytest.approx(value))


def flags(**broken):
    """Flags of 1,000 images: those of the given ranges are broken."""
    rows = {name: torch.ones(1000, dtype=torch.bool) for name in ("clean", *broken)}
    for name, places in broken.items():
        rows[name][list(places)] = False
    return {**rows, "worst": torch.stack(list(rows.values())).all(0)}


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (flags(pgd=range(500), square=range(300)), []),
        (flags(pgd=range(500), square=range(500, 502)), []),
        (flags(pgd=range(500), square=range(500, 510)), ["black-box-wins"]),
        (flags(pgd=range(500), apgd=range(510), square=range(510)), []),
        (flags(square=range(510)), []),
    ],
    ids=["fewer", "two more", "ten more", "as many", "no rival"],
)
def test_square_must_not_win(given, names):
    places = torch.arange(900, 932)
    doubts = examine(linear(), X, Y, THREAT, Evidence(given, places))
    assert [doubt.name for doubt in doubts] == names


def test_clean_flags_alone_are_no_evaluation_to_doubt():
    assert examine(linear(), X, Y, Threat(eps=1.0), Evidence({"clean": torch.ones(32, dtype=torch.bool)})) == []
    (doubt,) = examine(linear(), X, Y, Threat(eps=1.0), Evidence({"none": torch.ones(32, dtype=torch.bool)}))
    assert (doubt.name, doubt.value) == ("unconverged", 1.0)


def test_any_attack_can_be_the_one_without_gradients():
    given = {"pgd": torch.ones(32, dtype=torch.bool), "guess": torch.arange(32) > 9}
    (doubt,) = examine(linear(), X, Y, THREAT, Evidence(given, gradient_free=("guess",)))
    assert doubt.name == "black-box-wins"
    assert doubt.value == 10 / 32
    assert doubt.sentence.endswith("guess breaks 10 of 32.")


def test_a_guest_that_breaks_what_gradients_do_not_is_a_doubt():
    def oracle(model, x, y, threat, noise):
        return 0 * x + (y == 0).view(-1, 1, 1, 1) * X[Y == 1][0] + (y == 1).view(-1, 1, 1, 1) * X[Y == 0][0]

    (doubt,) = examine(linear(), X, Y, THREAT, Evidence(black_box=oracle))
    assert (doubt.name, doubt.value) == ("black-box-wins", 1.0)
