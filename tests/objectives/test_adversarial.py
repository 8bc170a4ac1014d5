import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from harp.attacks import PGD
from harp.modes import evaluating
from harp.objectives import OBJECTIVES, PGDAT, Natural
from harp.randomness import generator
from harp.threats import Threat
from tests.attacks.linear import images, labels, linear

THREAT = Threat(math.inf, 0.1)
ATTACK = PGD(steps=3)


def noise():
    return generator(0, "objective")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()


def closures(objective, model, n=8):
    return list(objective(model, images(n), labels(n), noise()))


def test_the_registered_objectives():
    assert OBJECTIVES["natural"]() == Natural()
    assert OBJECTIVES["pgd-at"](ATTACK, THREAT) == PGDAT(ATTACK, THREAT, "adversarial")


def test_natural_is_the_crossentropy_of_the_images():
    model, x, y = linear(), images(8), labels(8)
    (evaluate,) = closures(Natural(), model)
    assert evaluate().item() == cross_entropy(model(x), y).item()


def test_pgd_at_is_the_crossentropy_of_the_crafted_images():
    model, x, y = network(), images(8), labels(8)
    adv = ATTACK(model, x, y, THREAT, noise())
    expected = cross_entropy(model(adv), y)
    (evaluate,) = closures(PGDAT(ATTACK, THREAT), model)
    assert evaluate().item() == expected.item()


def test_pgd_at_of_a_linear_model_in_closed_form():
    # Margin w.x for class 1, so the attacked margin of each label is lower by eps |w|_1 = 0.375.
    model, x, y = linear(), images(8), labels(8)
    (evaluate,) = closures(PGDAT(PGD(steps=20), THREAT), model)
    margin = (2 * y - 1) * (x.flatten(1) @ torch.tensor([1.0, -2.0, 0.5, -0.25])) - 0.375
    assert evaluate().item() == pytest.approx(torch.log1p(torch.exp(-margin)).mean().item(), rel=1e-5)


def test_mixed_statistics_are_those_of_the_clean_and_then_the_adversarial_batch():
    model, x = network(), images(8)
    network_after_clean = network()
    network_after_clean(x)
    adv = ATTACK(network_after_clean, x, labels(8), THREAT, noise())
    (evaluate,) = closures(PGDAT(ATTACK, THREAT, "mixed"), model)
    evaluate()
    # Momentum 0.1, from a mean of 0.
    expected = 0.9 * 0.1 * x.flatten(1).mean(0) + 0.1 * adv.flatten(1).mean(0)
    assert torch.allclose(model[1].running_mean, expected, atol=1e-6)


def test_the_attack_sees_the_statistics_that_the_clean_forward_left():
    model, seen = network(), []

    def attack(model, x, y, threat, noise):
        seen.append(model[1].running_mean.clone())
        return x

    list(PGDAT(attack, THREAT, "mixed")(model, images(8), labels(8), noise()))
    assert torch.allclose(seen[0], 0.1 * images(8).flatten(1).mean(0))


@pytest.mark.parametrize("batch_norm", ["adversarial", "mixed"])
def test_the_clean_forward_changes_no_loss(batch_norm):
    model = network()
    (evaluate,) = closures(PGDAT(ATTACK, THREAT, batch_norm), model)
    (plain,) = closures(PGDAT(ATTACK, THREAT), network())
    assert evaluate().item() == plain().item()


def test_the_attack_sees_the_model_in_eval_mode():
    model, seen = network(), []

    def attack(model, x, y, threat, noise):
        with evaluating(model):
            seen.append(model.training)
        return x

    (evaluate,) = closures(PGDAT(attack, THREAT), model)
    assert seen == [False]
    assert model.training
    assert evaluate().requires_grad
