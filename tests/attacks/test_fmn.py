"""FMN against closed forms, and step by step against a plain reading of the paper's algorithm 1."""

import math
from dataclasses import replace

import pytest
import torch

from harp.attacks import ATTACKS, FAB, FMN
from harp.attacks.surrogate import Surrogate
from harp.errors import HarpError
from harp.randomness import generator
from harp.threats import Threat
from tests.attacks.linear import WEIGHTS, affine, distances, images, linear, open_box
from tests.attacks.networks import broken, keys, network, points

NORMS = [math.inf, 2, 1]


def inside(n, *shape):
    return torch.rand(n, *shape, generator=generator(0, "points"), dtype=torch.float64)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("classes", "shape"), [(2, (1, 2, 2)), (3, (1, 2, 2)), (10, (3, 4, 4))])
def test_the_distance_to_straight_boundaries_is_margin_over_dual_norm(norm, classes, shape):
    """To the nearest, or where the best wrong logit is another class's to that one's, where the margin leads."""
    model, x = affine(classes, shape, 0), inside(12, *shape)
    y, threat = model(x).argmax(1), open_box(norm, 0.1)
    adv, found = FMN().nearest(model, x, y, threat, keys(12))
    every = distances(model, x, y, norm)
    assert (found >= every.amin(1) * (1 - 1e-9)).all()
    assert ((found / every.amin(1) - 1).abs() < 1e-4).sum() >= (12 if classes == 2 else 8)
    assert ((found[:, None] / every - 1).abs().amin(1) < 1e-3).sum() >= 10
    assert torch.allclose(threat.distance(adv, x), found)
    assert broken(model, adv, y).all()


def plain(model, x, y, norm, steps, low=0.0, high=1.0):
    """Algorithm 1 for one image after the other, and the images that it returns."""
    found = []
    for image, label in zip(x, y.tolist(), strict=True):
        delta, radius, best, nearest, crossed = torch.zeros_like(image), math.inf, math.inf, image, False
        farthest = torch.linalg.vector_norm(torch.maximum(image - low, high - image), norm).item()
        for k in range(steps):
            point = (image + delta).requires_grad_()
            logits = model(point[None])[0]
            others = torch.cat([logits[:label], logits[label + 1 :]])
            loss = others.max() - logits[label]
            (grad,) = torch.autograd.grad(loss, point)
            cosine = (1 + math.cos(math.pi * k / steps)) / 2
            gamma, alpha = 0.001 + 0.049 * cosine, 0.01 + 0.99 * cosine
            size = torch.linalg.vector_norm(delta, norm).item()
            if logits.argmax().item() != label:
                crossed = True
                if size < best:
                    best, nearest = size, point.detach()
                radius = min(radius * (1 - gamma), best)
            elif crossed:
                radius *= 1 + gamma
            else:
                dual = torch.linalg.vector_norm(grad, {math.inf: 1, 2: 2, 1: math.inf}[norm]).item()
                radius = (size + abs(loss.item()) / dual) * (1 + gamma)  # ours: a share further than the paper's
            radius = min(radius, farthest)
            delta = projected(delta + alpha * grad / grad.norm(), norm, radius)
            delta = (image + delta).clamp(low, high) - image
        found.append(nearest)
    return torch.stack(found)


def projected(delta, norm, radius):
    """The nearest point of the ball; for the 1-norm by sorting (Duchi et al., ICML 2008)."""
    if norm == math.inf:
        return delta.clamp(-radius, radius)
    if norm == 2:
        return delta * min(1.0, radius / delta.norm().item())
    if delta.abs().sum() <= radius:
        return delta
    sizes = delta.abs().flatten().sort(descending=True).values
    over = (sizes.cumsum(0) - radius) / torch.arange(1, len(sizes) + 1)
    last = (sizes > over).nonzero().max()
    return delta.sign() * (delta.abs() - over[last]).clamp(min=0)


@pytest.mark.parametrize("norm", NORMS)
def test_point_by_point_it_is_the_papers_algorithm(norm, monkeypatch):
    model = network()
    x, y = points(model, 8)
    monkeypatch.setattr("harp.attacks.nearest.HALVINGS", 0)  # theirs has no search at the end
    expected, ours, threat = plain(model, x, y, norm, 15), FMN(steps=15), Threat(norm, 0.1)
    # Also of a batch that is refilled.
    for attack in (ours, replace(ours, batch=3)):
        adv, found = attack.nearest(model, x, y, threat, keys(8))
        assert torch.allclose(threat.distance(adv, x), threat.distance(expected, x), atol=1e-9)
        # A ball may shrink to the distance of the best: of two points there rounding takes one.
        assert torch.isclose(adv, expected, atol=1e-9).flatten(1).all(1).sum() >= 7
        assert found.isfinite().sum() >= 7


@pytest.mark.parametrize("norm", NORMS)
def test_verdicts_at_eps_are_those_of_the_distances(norm):
    model = network(dtype=torch.float32)
    x, y = points(model, 24, torch.float32)
    _, found = FMN(steps=40).nearest(model, x, y, Threat(norm, 0.1), keys(24))
    threat = Threat(norm, float(found.median()) * 1.001)
    adv = FMN(steps=40)(model, x, y, threat, keys(24))
    bad = broken(model, adv, y)
    assert (threat.excess(adv, x) <= 1e-6).all()
    assert torch.equal(adv[~bad], x[~bad])
    # Pulling back brings some below an eps that the steps alone do not come to.
    assert not (bad & (found > threat.eps)).any()
    assert bad.sum() >= 10


@pytest.mark.parametrize("norm", [math.inf, 2])
def test_it_finds_about_what_fab_finds(norm):
    model = network(4, torch.float32)
    x, y = points(model, 8, torch.float32)
    attacks = FMN(steps=60), FAB(steps=30)
    ours, fabs = (attack.nearest(model, x, y, Threat(norm, 0.1), keys(8))[1] for attack in attacks)
    assert 0.9 < ours.median() / fabs.median() < 1.1


def test_images_that_are_wrong_already_and_images_out_of_reach():
    x, y = images(4), torch.tensor([0, 1, 0, 1])
    adv, found = FMN(steps=3).nearest(linear(bias=9.0), x, y, Threat(), keys(4))
    assert found.tolist() == [0, math.inf, 0, math.inf]
    assert torch.equal(adv, x)
    assert [len(part) for part in FMN().nearest(linear(), x[:0], y[:0], Threat(), keys(0))] == [0, 0]


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_of_zero_and_answers_that_are_no_numbers_lead_nowhere(norm):
    class Broken(torch.nn.Module):
        def forward(self, x):
            return linear()(x) * 0 + torch.where(x.flatten(1)[:, :1] < 0.4, torch.nan, torch.tensor([0.0, 1.0]))

    x = torch.tensor([[0.9, 0.1, 0.5, 0.5], [0.3, 0.1, 0.5, 0.5]]).view(2, 1, 2, 2)
    adv, found = FMN(steps=20).nearest(Broken(), x, torch.ones(2).long(), Threat(norm, 0.1), keys(2))
    assert torch.equal(adv, x)
    assert found.tolist() == [math.inf, 0]


def test_the_original_of_a_surrogate_judges():
    x, model = images(32), linear(bias=-0.004)
    quick = Surrogate(linear(), x)
    quick.__dict__["original"] = model
    y, lead = model(x).argmax(1), x.flatten(1) @ torch.tensor(WEIGHTS)
    adv, found = FMN(steps=60).nearest(quick, x, y, Threat(), keys(32))
    assert torch.equal(broken(model, adv, y), found.isfinite())
    far = lead.abs() > 0.1
    assert far.sum() >= 8
    assert found[far].isfinite().all()


@pytest.mark.parametrize("name", ["steps", "batch"])
def test_numbers_that_mean_nothing_are_refused(name):
    with pytest.raises(HarpError, match=f"fmn, {name}: expected at least 1, got 0"):
        FMN(**{name: 0})
    with pytest.raises(HarpError, match="fmn, step: expected a finite number above 0, got 0"):
        FMN(step=0)


def test_the_registered_one_is_the_papers():
    assert ATTACKS["fmn"](batch=7) == FMN(steps=100, step=1.0, batch=7)
