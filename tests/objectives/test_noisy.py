"""Losses under noise by hand."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from harp.attacks import PGD
from harp.attacks.losses import crossentropy
from harp.objectives import Consistency, Gaussian, SmoothAdv, Stability
from harp.randomness import generator, normal
from harp.threats import Threat


class Fixed(nn.Module):
    """Answers images in turn with the given probabilities; `seen` is what it was asked last."""

    def __init__(self, *rows):
        super().__init__()
        self.rows = torch.tensor(rows).log()

    def forward(self, x):
        self.seen = x
        return self.rows[torch.arange(len(x)) % len(self.rows)]


def loss(objective, model, n=1):
    x, y = torch.full((n, 1, 100, 100), 0.5), torch.zeros(n, dtype=torch.int64)
    return next(iter(objective(model, x, y, generator(0, "noisy"))))()


def test_noise_has_its_deviation_and_leaves_the_box():
    model = Fixed([0.5, 0.5])
    assert loss(Gaussian(sigma=0.5), model).item() == pytest.approx(math.log(2))
    assert float((model.seen - 0.5).std()) == pytest.approx(0.5, rel=0.05)
    assert float(model.seen.max()) > 1


def test_stability_is_how_far_the_noisy_answer_is_from_the_clean_one():
    """KL of (.7, .2, .1) from (.5, .3, .2) is .08512."""

    class Two(Fixed):
        def forward(self, x):
            return self.rows[1:] if float(x.std()) > 0 else self.rows[:1]

    made = loss(Stability(beta=2.0), Two([0.7, 0.2, 0.1], [0.5, 0.3, 0.2]))
    assert made.item() == pytest.approx(-math.log(0.7) + 2 * 0.08512, abs=1e-4)


def test_consistency_of_two_answers():
    """(.8, .2) and (.4, .6): q is (.6, .4)."""
    p, q = torch.tensor([[0.8, 0.2], [0.4, 0.6]]), torch.tensor([0.6, 0.4])
    apart = sum(float((q * (q / row).log()).sum()) for row in p) / 2
    entropy = -float((q * q.log()).sum())
    crossed = -(math.log(0.8) + math.log(0.4)) / 2
    made = loss(Consistency(beta=3.0), Fixed(*p.tolist()))
    assert made.item() == pytest.approx(crossed + 3 * apart + 0.5 * entropy, abs=1e-5)


def test_equal_answers_cost_no_consistency():
    model = Fixed([0.8, 0.2])
    expected = cross_entropy(model.rows, torch.tensor([0])) - 0.5 * (0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    assert loss(Consistency(), model, 3).item() == pytest.approx(expected.item(), abs=1e-5)


class Curved(nn.Module):
    """Three logits of two pixels."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x):
        return self.layer(x.flatten(1)).sin()


def test_smoothadv_trains_where_the_mean_answer_is_worst_under_the_noise_it_was_attacked_with():
    """Against PGD written out, step by step, on the mean of the probabilities."""
    torch.manual_seed(0)
    model, x, y = Curved().train(), torch.rand(5, 1, 1, 2), torch.randint(3, (5,))
    objective = SmoothAdv(PGD(steps=4, step=0.5), Threat(2, 0.2), sigma=0.3, draws=3)
    made = next(iter(objective(model, x, y, generator(0, "noisy"))))()

    noise = generator(0, "noisy")
    drawn = [0.3 * normal(noise, x) for _ in range(3)]
    adv = x.clone()
    for _ in range(4):
        adv.requires_grad_()
        mean = torch.stack([model(adv + each).softmax(1) for each in drawn]).mean(0)
        (grad,) = torch.autograd.grad(-mean.gather(1, y[:, None]).log().sum(), adv)
        move = grad / grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1) * 0.1
        delta = adv.detach() + move - x
        delta *= (0.2 / delta.flatten(1).norm(dim=1)).clamp(max=1).view(-1, 1, 1, 1)
        adv = (x + delta).clamp(0, 1)
    expected = torch.stack([crossentropy(model(adv + each), y) for each in drawn]).mean()
    assert made.item() == pytest.approx(expected.item(), abs=1e-5)
    assert (adv != x).any()


def test_smoothadv_says_where_its_norm_is_not_that_of_certificates():
    attack = PGD()
    assert SmoothAdv(attack, Threat(2, 0.5)).notes() == []
    assert SmoothAdv(attack, Threat()).notes() == [
        "smoothadv attacked within L-inf, eps 8/255; certificates by smoothing are of the 2-norm"
    ]
