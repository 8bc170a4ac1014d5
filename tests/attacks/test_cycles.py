"""Ascents that end early end where they would have ended."""

import itertools
import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from harp.attacks import PGD, cycles
from harp.attacks.cycles import LEAST, settled
from harp.attacks.losses import LOSSES, gradient
from harp.evaluation import correct
from harp.randomness import generator
from harp.threats import Threat
from tests.attacks.networks import keys, network, points

LONG = PGD(steps=60)


@given(st.lists(st.lists(st.integers(0, 6), min_size=7, max_size=7), min_size=1, max_size=9), st.integers(0, 40))
def test_whatever_leads_from_where_to_where_the_end_is_that_of_all_steps(ways, steps):
    """Each image is one number, and its row of `ways` says which number comes after which."""
    table = torch.tensor(ways)
    asked_about = []

    def asked(at, places):
        asked_about.append(len(at))
        return at, table[places].gather(1, at.long()).to(at)

    found = settled(asked, lambda at, grad, places: grad, torch.zeros(len(ways), 1), steps)
    ends = torch.zeros(len(ways), 1, dtype=torch.long)
    for _ in range(steps):
        ends = table.gather(1, ends)
    assert found.tolist() == ends.tolist()
    # Seven numbers, so all have come back to one of them after seven steps: one more query finds that all may stop.
    assert len(asked_about) <= min(steps, 8) + 4


class Counts(nn.Module):
    """A network, and how many images it was asked about, with gradients."""

    def __init__(self, model):
        super().__init__()
        self.model, self.images = model, 0

    def forward(self, x):
        self.images += len(x) * torch.is_grad_enabled()
        return self.model(x)


def plain(attack, model, x, y, threat, noise):
    """The last points of sign steps from a random start, all steps made."""
    adv = threat.start(x, noise)
    for _ in range(attack.steps):
        adv = adv.detach().requires_grad_()
        ahead = gradient(LOSSES[attack.loss](model(adv), y).sum(), adv)
        delta = (adv.detach() + attack.step * threat.eps * ahead.sign() - x).clamp(-threat.eps, threat.eps)
        adv = (x + delta).clamp(threat.low, threat.high)
    return adv.detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", ["crossentropy", "margin"])
def test_of_a_network_the_images_are_the_same_bits_for_fewer_queries(loss, dtype):
    model, attack, threat = Counts(network(dtype=dtype)), PGD(steps=60, loss=loss), Threat(eps=0.05)
    x, y = points(model, 24, dtype)
    adv = attack(model, x, y, threat, keys(24))
    spared = model.images
    assert torch.equal(adv, plain(attack, model, x, y, threat, keys(24)))
    assert spared < (model.images - spared) / 1.5


def test_restarts_and_divergence_are_the_same_bits(monkeypatch):
    model, threat = network(4, torch.float32), Threat(eps=0.03)
    x, y = points(model, 16, torch.float32)
    attacks = [PGD(steps=40, restarts=3), PGD(steps=40, restarts=2, loss="kl"), PGD(steps=40, start="image")]
    spared = [attack(model, x, y, threat, keys(16)) for attack in attacks]
    monkeypatch.setattr("harp.attacks.pgd.LEAST", 1000)
    assert all(
        torch.equal(adv, attack(model, x, y, threat, keys(16))) for adv, attack in zip(spared, attacks, strict=True)
    )


class Company(nn.Module):
    """A network that answers about an image as others in the batch are."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x + (x - 0.5).mean(0).sin())


class Size(Company):
    """A network whose sums are rounded otherwise in smaller batches."""

    def forward(self, x):
        return self.model(x * (1 + 1e-3 * len(x)))


class Noisy(Company):
    """A network that draws random numbers."""

    def forward(self, x):
        return self.model(x + 0.02 * torch.randn_like(x))


@pytest.mark.parametrize("kind", [Company, Size, Noisy])
def test_where_the_others_leaving_would_be_felt_nobody_leaves(kind, monkeypatch):
    model, threat = Counts(kind(network(dtype=torch.float32))), Threat(eps=0.05)
    x, y = points(model, 24, torch.float32)

    def attacked():
        torch.manual_seed(0)
        model.images = 0
        return LONG(model, x, y, threat, keys(24))

    torch.manual_seed(0)
    every = plain(LONG, model, x, y, threat, keys(24))
    assert torch.equal(attacked(), every)
    # Once all come back at once they may stop where they are: nobody has left by then.
    assert model.images >= 24 * LONG.steps or kind is Size
    if kind is not Noisy:  # its images do not come back
        monkeypatch.setattr(cycles, "_the_same", lambda *_: True)
        assert not torch.equal(attacked(), every)


def test_noise_that_hardly_ever_shows_is_not_drawn_more_often():
    """All images come back at once, since only the sign counts; the guard's own query takes no number from anybody."""
    model, x, y = Noisy(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))), torch.rand(6, 1, 2, 2), torch.arange(6) % 2
    drawn = []
    for steps in (LEAST, LEAST - 1):
        torch.manual_seed(0)
        PGD(steps=steps)(model, x, y, Threat(eps=0.1), keys(6))
        drawn.append(torch.randn(3).tolist())
    torch.manual_seed(0)
    for steps in (LEAST, LEAST - 1):
        torch.manual_seed(0)
        for _ in range(steps):
            torch.randn_like(x)
        assert torch.randn(3).tolist() == drawn[LEAST - steps]


@pytest.mark.parametrize(
    ("attack", "threat", "noise"),
    [
        (PGD(steps=LEAST - 1), Threat(eps=0.05), keys(8)),
        (LONG, Threat(2, 0.5), keys(8)),
        (LONG, Threat(eps=0.05), generator(0, "training")),
    ],
    ids=["short", "another norm", "training"],
)
def test_elsewhere_every_step_is_made_and_none_more(attack, threat, noise):
    model = Counts(network(dtype=torch.float32))
    x, y = points(model, 8, torch.float32)
    model.images = 0
    attack(model, x, y, threat, noise)
    assert model.images == 8 * attack.steps


def test_validation_comes_to_the_same_verdicts_for_fewer_queries(monkeypatch):
    model, threat = Counts(network(dtype=torch.float32)), Threat(eps=0.01)
    x, y = points(model, 40, torch.float32)
    batches, counts, verdicts = [(x[:20], y[:20]), (x[20:], y[20:])], [], []
    for least in (LEAST, math.inf):
        monkeypatch.setattr("harp.attacks.pgd.LEAST", least)
        model.images = 0
        verdicts.append(correct(model, batches, PGD(steps=50), threat, 0, "validation"))
        counts.append(model.images)
    assert torch.equal(*verdicts)
    assert 0 < verdicts[0].sum() < 40
    assert counts[0] < counts[1] / 1.5


def test_a_zero_and_its_negative_are_two_iterates():
    steps = itertools.count()

    def asked(at, places):
        next(steps)
        return at, -at

    # 0, -0, 0: found after the second step, asked once more by the guard in the third.
    assert settled(asked, lambda at, grad, places: grad, torch.zeros(1, 1), 3).sign().tolist() == [[-0.0]]
    assert next(steps) == 4
