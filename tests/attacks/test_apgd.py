import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from harp.attacks import APGD, ATTACKS
from harp.errors import HarpError
from harp.randomness import generator
from harp.threats import Threat
from tests.attacks.linear import affine, distances, images, linear, open_box, parallel
from tests.attacks.networks import broken, keys, network, points
from tests.pace import quick

NAMES = ("apgd-ce", "apgd-dlr", "apgd-pma", "apgd-t")
NORMS = (math.inf, 2, 1)
SHAPES = ((4,), (1, 2, 2), (3, 2, 2), (2, 3, 3))


def assert_decided_by(nearest, attack, model, x, y, norm):
    """Just above and just below the middle one of the images' distances, exactly those that are nearer are broken."""
    for share in (1 + 1e-4, 1 - 1e-4):
        threat = open_box(norm, float(nearest.median()) * share)
        adv = attack(model, x, y, threat, keys(len(x)))
        assert (threat.excess(adv, x) <= 1e-6).all()
        assert broken(model, adv, y).tolist() == (nearest < threat.eps).tolist()


@pytest.mark.parametrize("classes", quick([2, 4, 10], range(2, 11)))
@pytest.mark.parametrize("norm", [math.inf, 2])
def test_towards_each_class_the_nearest_boundary_decides(classes, norm):
    shape = SHAPES[classes % len(SHAPES)]
    model, x = affine(classes, shape, seed=classes), torch.rand(7, *shape, generator=generator(0, "x")).double()
    y = model(x).argmax(1)
    assert_decided_by(distances(model, x, y, norm).amin(1), ATTACKS["apgd-t"](steps=60), model, x, y, norm)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", quick([3], [2, 3, 4, 10]))
@pytest.mark.parametrize("norm", NORMS)
def test_where_boundaries_are_parallel_every_loss_reaches_the_nearest(name, classes, norm):
    shape = SHAPES[classes % len(SHAPES)]
    model, x = parallel(classes, shape, norm), torch.rand(5, *shape, generator=generator(0, "x")).double()
    y = torch.zeros(5, dtype=torch.long)
    attack = ATTACKS[name](**({"targets": 2} if name == "apgd-t" else {}))
    assert_decided_by(distances(model, x, y, norm).amin(1), attack, model, x, y, norm)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("eps", [0.0, 0.05, 1.0])
def test_what_is_found_is_wrong_and_inside_and_the_rest_comes_back_as_it_was(name, norm, eps):
    model, threat = network(4, torch.float32), Threat(norm, eps, 0.2, 0.8)
    x, y = points(model, 16, torch.float32)
    x = x.clamp(0.2, 0.8)
    with torch.no_grad():
        y = model(x).argmax(1)
    adv = ATTACKS[name](steps=10)(model, x, y, threat, keys(16))
    found = broken(model, adv, y)
    assert (threat.excess(adv, x) <= 1e-6).all()
    assert torch.equal(adv[~found], x[~found])
    assert not found.any() if eps == 0 else found.any()


@pytest.mark.parametrize("dtype", quick([torch.float64], [torch.float32, torch.float64]), ids=["float32", "float64"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NAMES)
def test_a_point_does_not_feel_its_batch(name, norm, dtype):
    model, n = network(dtype=dtype), 12
    x, y = points(model, n, dtype)
    threat, noise = Threat(norm, {math.inf: 0.01, 2: 0.1, 1: 0.4}[norm]), keys(n)
    attack = ATTACKS[name](steps=10, **({"targets": 3} if name == "apgd-t" else {"restarts": 2}))
    whole = broken(model, attack(model, x, y, threat, noise), y)
    assert 0 < whole.sum() < n
    for size in (1, n // 2):
        parts = torch.arange(n).split(size)
        adv = torch.cat([attack(model, x[part], y[part], threat, noise.take(part)) for part in parts])
        assert torch.equal(broken(model, adv, y), whole)
    assert isinstance(attack, APGD)
    assert torch.equal(broken(model, replace(attack, batch=5)(model, x, y, threat, noise), y), whole)


@pytest.mark.parametrize("norm", NORMS)
def test_the_same_noise_gives_the_same_images_and_other_noise_others(norm):
    model, attack, threat = network(), APGD(steps=5), Threat(norm, 2.0)
    x, y = points(model, 8)
    first, again, other = (attack(model, x, y, threat, keys(8, name)) for name in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


class Corner(nn.Module):
    """Wrong where the first pixel is far enough from 0.5, and no gradient leads there."""

    def forward(self, x):
        away = (x.flatten(1)[:, :1] - 0.5).abs()
        return torch.cat([torch.zeros_like(away), (away > 0.09).to(x) - 0.5], 1) + 0 * away


def test_a_start_that_is_wrong_is_found_and_each_restart_has_its_own():
    x, y, threat = torch.full([200, 1, 1, 2], 0.5), torch.zeros(200, dtype=torch.long), Threat(math.inf, 0.1)
    # The larger of two uniform numbers becomes eps: the first is above 0.9 of it with probability 1/2 + 1/2 * 0.1.
    shares = [broken(Corner(), APGD(steps=0, restarts=n)(Corner(), x, y, threat, keys(200)), y) for n in (1, 4)]
    assert shares[0].float().mean().item() == pytest.approx(0.55, abs=0.1)
    assert shares[1].float().mean().item() == pytest.approx(1 - 0.45**4, abs=0.05)
    assert not (shares[0] & ~shares[1]).any()


def test_an_image_that_is_wrong_already_comes_back_wrong():
    model = network()
    x, y = points(model, 8)
    y = (y + 1) % 10
    for norm in NORMS:
        for name in NAMES:
            assert broken(model, ATTACKS[name](steps=3)(model, x, y, Threat(norm, 0.01), keys(8)), y).all()


class Bounded(nn.Module):
    """A linear network that gives no numbers where its margin is below 0.1."""

    def __init__(self):
        super().__init__()
        self.inner = linear(bias=1.5)

    def forward(self, x):
        logits = self.inner(x)
        return torch.where(logits[:, 1:] > logits[:, :1] + 0.1, logits, torch.nan)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", NORMS)
def test_no_numbers_count_as_wrong_and_never_spoil_the_image(name, norm):
    model, x, y, threat = Bounded(), images(8), torch.ones(8, dtype=torch.long), Threat(norm, 1.5)
    assert not broken(model, x, y).any()
    adv = ATTACKS[name](steps=20)(model, x, y, threat, keys(8))
    assert broken(model, adv, y).all()
    assert (threat.excess(adv, x) <= 1e-6).all()


def test_attacks_are_values():
    assert ATTACKS["apgd-ce"](restarts=5) == APGD(restarts=5)
    assert ATTACKS["apgd-dlr"](eot=20) == APGD("dlr", eot=20)
    assert ATTACKS["apgd-pma"](steps=50) == APGD("probability-margin", steps=50)
    assert ATTACKS["apgd-t"](batch=64) == APGD("dlr", targets=9, batch=64)


@pytest.mark.parametrize("name", ["restarts", "targets", "eot", "batch"])
def test_a_number_too_small_is_refused(name):
    options: dict[str, Any] = {name: 0}
    with pytest.raises(HarpError, match=f"{name}: expected at least 1, got 0"):
        APGD(**options)


def test_targets_of_a_loss_without_them_are_refused():
    with pytest.raises(HarpError, match="no loss 'probability-margin' with targets; there are: crossentropy, dlr"):
        APGD("probability-margin", targets=2)
