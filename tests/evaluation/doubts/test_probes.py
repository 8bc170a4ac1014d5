import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from harp.attacks.losses import margin
from harp.evaluation.doubts.geometry import corners, diagonal, dual, enlarged, move
from harp.evaluation.doubts.probes import Blind, Climb, Path, slope, tempered
from harp.randomness import Keyed
from harp.threats import Threat
from tests.attacks.linear import WEIGHTS, images, labels, linear, margins

NORMS = [math.inf, 2, 1]
REACH = {math.inf: 3.75, 2: math.hypot(*WEIGHTS), 1: 2.0}


def noise(n):
    return Keyed.of(torch.arange(n), 0, "test")


def right(n):
    """Images and the labels a linear network gives them."""
    x = images(n)
    return x, linear()(x).argmax(1)


def test_a_path_is_what_its_losses_say():
    nan = float("nan")
    path = Path.of(torch.tensor([[-1.0, -1, -1, 1, -1], [-2.0, -0.5, -1, 0, nan], [-3.0, 0.5, -1, 0, -1]]))
    assert path.broken.tolist() == [False, True, False, True, False]
    assert path.rose.tolist() == [False, True, False, False, False]
    assert path.finite.tolist() == [True, True, True, True, False]


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: torch.zeros(len(x), 2),
        lambda x: x.detach().flatten(1)[:, :2],
        lambda x: torch.zeros(len(x), 2, requires_grad=True) * 2,
        lambda x: x.flatten(1)[:, :2].round(),
    ],
    ids=["no graph", "detached", "another graph", "rounded"],
)
def test_where_no_gradient_comes_back_it_is_zero(answer):
    logits, grad = slope(answer, images(3), labels(3), margin)
    assert logits.shape == (3, 2)
    assert grad.eq(0).all()
    assert grad.shape == (3, 1, 2, 2)
    assert not grad.requires_grad


def test_the_gradient_is_the_losss_in_parts_as_in_one():
    x, y = images(5), labels(5)
    _, grad = slope(linear(), x, y, margin, batch=2)
    assert torch.allclose(grad, ((1 - 2 * y)[:, None] * torch.tensor(WEIGHTS)).view(5, 1, 2, 2))


@given(st.floats(-30, 30))
def test_a_temperature_is_blind_to_scale_and_shift(power):
    logits, y = torch.tensor([[1.0, -2.0, 4.0], [0.0, 3.0, 1.0]]), torch.tensor([2, 0])
    assert torch.allclose(tempered(logits * 2.0**power, y), tempered(logits, y), rtol=1e-4)
    assert torch.allclose(tempered(logits + power, y), tempered(logits, y), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("start", ["image", "corner"])
def test_a_climb_breaks_what_can_be_broken(norm, start):
    x, y = right(64)
    threat = Threat(norm, 0.1)
    path = Climb(margin, 40, start=start)(linear(), x, y, threat, noise(64))
    # No pixel meets the box here, so the margin falls by eps times the dual norm of the weights at most.
    needed = margins(linear(), x, y) / REACH[norm]
    assert 5 < path.broken.sum() < 60
    assert path.broken[needed < 0.097].all()
    assert not path.broken[needed > 0.1001].any()
    assert path.finite.all()


def test_a_blind_search_finds_the_worst_corner_of_few_pixels():
    x, y = right(64)
    path = Blind(100)(linear(), x, y, Threat(eps=0.1), noise(64))
    assert torch.equal(path.broken, margins(linear(), x, y) < 0.1 * REACH[math.inf])


def test_each_point_has_its_own_numbers():
    x, y = right(16)
    model, threat = nn.Sequential(linear(), nn.Linear(2, 2)), Threat(eps=0.1)
    for search in (Blind(3), Climb(margin, 1, start="corner")):
        whole = search(model, x, y, threat, noise(16))
        half = search(model, x[8:], y[8:], threat, noise(16).take(torch.arange(8, 16)))
        assert all(torch.equal(a[8:], b) for a, b in zip(whole, half, strict=True))


@pytest.mark.parametrize("norm", NORMS)
def test_a_corner_is_as_far_as_allowed(norm):
    x = torch.full([3, 2, 4, 4], 0.5)
    threat = Threat(norm, 0.25)
    signs = noise(3).uniform([2, 4, 4]).sub(0.5).sign()
    assert threat.distance(corners(threat, x, signs), x).tolist() == pytest.approx([0.25] * 3)


@pytest.mark.parametrize("norm", NORMS)
def test_no_move_of_norm_1_gains_more_than_the_dual_norm(norm):
    grad, threat = noise(50).normal([3, 4, 4]), Threat(norm, 1.0)
    gain = (move(threat, grad, 1.0) * grad).flatten(1).sum(1)
    assert (gain <= dual(threat, grad) * (1 + 1e-5)).all()
    assert (gain > 0.6 * dual(threat, grad)).all()
    assert threat.distance(move(threat, grad, 1.0), torch.zeros_like(grad)).tolist() == pytest.approx([1.0] * 50)


@pytest.mark.parametrize(
    ("threat", "eps"),
    [
        (Threat(eps=8 / 255), 64 / 255),
        (Threat(eps=0.02), 64 / 255),
        (Threat(eps=0.05), 0.4),
        (Threat(eps=0.3), 0.5),
        (Threat(eps=0.7), 0.7),
        (Threat(eps=0.1, low=-1.0, high=3.0), 256 / 255),
        (Threat(2, 0.1), 64 / 255 * 48**0.5),
        (Threat(2, 0.5), 48**0.5 / 2),
        (Threat(1, 1.0), 64 / 255 * 48),
    ],
)
def test_the_large_radius(threat, eps):
    x = torch.zeros(1, 3, 4, 4)
    assert enlarged(threat, x).eps == pytest.approx(eps)
    assert replace(enlarged(threat, x), eps=threat.eps) == threat
    assert enlarged(threat, x).eps <= max(threat.eps, diagonal(threat, x) / 2)
