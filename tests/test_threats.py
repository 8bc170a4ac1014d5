import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, strategies as st

from harp.errors import HarpError
from harp.randomness import generator
from harp.threats import Threat, exact

# Rounding of x + delta for pixels in [0, 1].
ROUNDING = 1e-6
norms = st.sampled_from([math.inf, 2, 1])
epsilons = st.sampled_from([0.0, 1e-4, 8 / 255, 0.5, 3.0])
pixels = st.lists(st.floats(0, 1, width=32), min_size=8, max_size=8)
moves = st.lists(st.floats(-10, 10, width=32), min_size=8, max_size=8)


def images(values):
    return torch.tensor(values).view(2, 1, 2, 2)


def lengths(delta, norm):
    return torch.linalg.vector_norm(delta.flatten(1), ord=norm, dim=1)


@given(norms, epsilons, pixels, moves)
def test_projection_lands_in_ball_and_box(norm, eps, values, move):
    threat, x = Threat(norm, eps), images(values)
    adv = threat.project(x + images(move), x)
    assert adv.min() >= 0
    assert adv.max() <= 1
    assert (lengths(adv - x, norm) <= eps + ROUNDING).all()
    assert (threat.excess(adv, x) <= ROUNDING).all()


@given(norms, pixels)
def test_an_allowed_image_is_its_own_projection(norm, values):
    x = images(values)
    threat = Threat(norm, 0.25)
    inside = (x + 0.05).clamp(max=1)
    assert torch.allclose(threat.project(inside, x), inside, atol=ROUNDING)
    assert torch.equal(threat.project(x, x), x)


def test_projection_for_inf_clips_each_pixel():
    threat, x = Threat(math.inf, 0.25), torch.tensor([[0.5, 0.5, 0.9, 0.1]])
    adv = threat.project(torch.tensor([[0.9, 0.6, 1.5, -1.0]]), x)
    assert torch.allclose(adv, torch.tensor([[0.75, 0.6, 1.0, 0.0]]))


def test_projection_for_2_shortens_each_example_by_itself():
    threat, x = Threat(2, 0.5), torch.zeros(2, 2)
    adv = threat.project(torch.tensor([[3.0, 4.0], [0.3, 0.0]]), x)
    assert torch.allclose(adv, torch.tensor([[0.3, 0.4], [0.3, 0.0]]))


@pytest.mark.parametrize("norm", [math.inf, 2])
def test_starts_lie_in_the_threat_and_depend_on_the_noise_alone(norm):
    threat, x = Threat(norm, 8 / 255), torch.rand(64, 3, 4, 4, generator=generator(0, "x"))
    first, again, other = (threat.start(x, generator(seed, "start")) for seed in (0, 0, 1))
    assert (threat.excess(first, x) <= ROUNDING).all()
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_start_for_inf_is_uniform_in_every_pixel():
    x = torch.full([10000, 1], 0.5)
    delta = Threat(math.inf, 0.2).start(x, generator(0)) - x
    # In each tenth of [-0.2, 0.2] 1,000 are expected, give or take 30 (one standard deviation).
    assert (delta.flatten().histc(10, -0.2, 0.2) - 1000).abs().max() < 150


def test_a_start_for_2_is_uniform_in_the_ball():
    x = torch.full([10000, 3], 0.5)
    delta = Threat(2, 0.2).start(x, generator(0)) - x
    # The share of a 3-ball's volume within radius r is (r / eps) ** 3, so that share is uniform in [0, 1].
    volume = (lengths(delta, 2) / 0.2) ** 3
    assert (volume.histc(10, 0, 1) - 1000).abs().max() < 150
    assert delta.mean(0).abs().max() < 0.01


@given(st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4), st.sampled_from([1e-30, 1e-20, 1e-6, 1.0, 1e6]))
def test_a_step_for_2_has_the_size_whatever_the_gradient_measures(values, scale):
    # Gradients of a confident model are tiny, not zero; an attack that then stands still measures nothing.
    values = [value if abs(value) > 0.1 else 0.1 for value in values]
    move = Threat(2, 0.5).step(scale * torch.tensor([values]), 0.125)
    assert lengths(move, 2).item() == pytest.approx(0.125, rel=1e-4)


@given(st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4))
def test_a_step_for_inf_is_the_sign(values):
    move = Threat(math.inf, 0.5).step(torch.tensor([values]), 0.125)
    assert move.tolist() == [[0.125 * ((v > 0) - (v < 0)) for v in values]]


@pytest.mark.parametrize("norm", [math.inf, 2])
def test_a_zero_gradient_moves_its_example_alone_nowhere(norm):
    move = Threat(norm, 0.5).step(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), 0.125)
    assert move[0].tolist() == [0, 0]
    assert lengths(move, norm)[1].item() == pytest.approx(0.125)


def test_excess_of_allowed_images_is_zero():
    x = torch.tensor([[0.5, 0.0], [0.25, 1.0]])
    adv = torch.tensor([[0.25, 0.125], [0.25, 1.0]])
    assert Threat(math.inf, 0.25).excess(adv, x).tolist() == [0, 0]
    assert Threat(2, 0.5).excess(adv, x).tolist() == [0, 0]


def test_excess_measures_the_worse_of_ball_and_box():
    x = torch.tensor([[0.5, 0.5], [0.75, 0.5], [0.5, 0.125]])
    adv = torch.tensor([[1.0, 0.5], [1.25, 0.5], [0.5, -0.125]])
    assert Threat(math.inf, 0.25).excess(adv, x).tolist() == [0.25, 0.25, 0.125]
    assert Threat(2, 10).excess(adv, x).tolist() == [0, 0.25, 0.125]


def test_excess_of_nan_is_not_hidden():
    assert not Threat().excess(torch.tensor([[math.nan]]), torch.tensor([[0.5]])).item() <= 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"norm": 3}, "norm: expected inf, 2 or 1, got 3"),
        ({"norm": math.nan}, "norm: expected inf, 2 or 1"),
        ({"eps": -0.1}, "eps: expected a finite number of at least 0"),
        ({"eps": math.inf}, "eps: expected a finite"),
        ({"eps": math.nan}, "eps: expected a finite"),
        ({"low": 1.0}, "low must be below high"),
        ({"low": math.nan}, "low must be below high"),
    ],
)
def test_what_is_no_threat_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Threat(**wrong)


@given(epsilons, pixels, moves)
def test_projection_for_1_is_the_nearest_allowed_image(eps, values, move):
    threat, x = Threat(1, eps), images(values).double()
    wanted = x + images(move).double()
    adv = threat.project(wanted, x)
    # The variational inequality of a projection: no allowed image lies further along (wanted - adv).
    corners = eps * torch.cat([torch.eye(4), -torch.eye(4)]).double().view(8, 1, 1, 2, 2)
    others = (x + torch.cat([corners, 0 * corners])).clamp(0, 1)
    gain = ((wanted - adv) * (others - adv)).flatten(2).sum(2)
    assert (gain <= 1e-5).all()


def test_projection_for_1_takes_the_same_from_each_pixel():
    threat, x = Threat(1, 0.5), torch.full((2, 3), 0.5)
    adv = threat.project(x + torch.tensor([[0.4, -0.3, 0.05], [0.1, 0.1, 0.0]]), x)
    assert torch.allclose(adv, x + torch.tensor([[0.3, -0.2, 0.0], [0.1, 0.1, 0.0]]))


def test_projection_for_1_fills_the_ball_of_many_pixels_to_the_rounding():
    x = torch.rand(4, 3, 32, 32, generator=generator(0, "x"))
    wanted = x + torch.randn(x.shape, generator=generator(0, "move"))
    for eps in (0.5, 12.0):
        reached = Threat(1, eps).distance(Threat(1, eps).project(wanted, x).double(), x.double())
        assert reached.tolist() == pytest.approx([eps] * 4, abs=ROUNDING * max(1, eps))


def test_distance_is_the_norm_of_each_perturbation():
    x = torch.zeros(1, 1, 1, 2)
    adv = torch.tensor([0.3, 0.4]).view_as(x)
    assert [round(float(Threat(norm).distance(adv, x)), 6) for norm in (1, 2, math.inf)] == [0.7, 0.5, 0.4]


def test_gradient_steps_and_starts_refuse_the_1_norm():
    with pytest.raises(HarpError, match="apgd"):
        Threat(1).step(torch.ones(1, 4), 0.1)
    with pytest.raises(HarpError, match="apgd"):
        Threat(1).start(torch.ones(1, 4), torch.Generator())


@pytest.mark.parametrize(
    ("eps", "text"),
    [
        (8 / 255, "8/255"),
        (0.031, "0.031"),
        (0.03137, "0.03137"),
        (8 / 255 + 1e-15, "0.03137254901960884"),
        (float(torch.tensor(8 / 255)), "0.0313725508749485"),
        (128 / 255, "128/255"),
        (0.5, "0.5"),
        (0.2, "0.2"),
        (1.0, "1"),
        (0.0, "0"),
        (12, "12"),
    ],
)
def test_eps_is_printed_exactly(eps, text):
    assert exact(eps) == text


@given(st.one_of(st.floats(0, 1e300), st.integers(0, 255 * 20).map(lambda steps: steps / 255)))
def test_what_is_printed_is_read_back_as_the_same_eps(eps):
    assert float(Fraction(exact(eps))) == eps


def test_every_255th_below_1_is_printed_as_one_or_shorter():
    texts = [exact(steps / 255) for steps in range(256)]
    assert [text for text in texts if "/" not in text] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]


@pytest.mark.parametrize(
    ("threat", "text"), [(Threat(), "L-inf, eps 8/255"), (Threat(2, 0.5), "L2, eps 0.5"), (Threat(1, 12), "L1, eps 12")]
)
def test_a_threat_in_words(threat, text):
    assert str(threat) == text


@pytest.mark.parametrize("norm", [math.inf, "inf", "Linf", "L-inf", "linf", "LINF"])
def test_norm_and_eps_may_be_written_as_people_write_them(norm):
    assert Threat(norm, "8/255") == Threat(math.inf, 8 / 255)
    assert Threat(eps="0.03").eps == 0.03


@pytest.mark.parametrize(("norm", "order"), [("L2", 2.0), ("l1", 1.0), (2, 2.0), ("2.0", 2.0)])
def test_other_norms(norm, order):
    assert Threat(norm).norm == order


@pytest.mark.parametrize(
    ("given", "words"), [({"eps": "8/0"}, "got '8/0'"), ({"eps": "x"}, "got 'x'"), ({"norm": True}, "got True")]
)
def test_what_is_no_number_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        Threat(**given)
