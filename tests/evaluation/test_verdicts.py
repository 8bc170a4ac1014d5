import math

import pytest
import torch

from harp.attacks import ATTACKS, PGD
from harp.errors import HarpError
from harp.evaluation import correct
from harp.randomness import Keyed
from harp.threats import Threat
from tests.attacks.linear import images, labels, linear

THREAT = Threat(math.inf, 0.1)
FGSM = ATTACKS["fgsm"]()
# Class 1's margin is x0 - x1 + 0 (x2 + x3), so fgsm takes 0.1 * 2 = 0.2 off any margin.
DIFFERENCE = (1.0, -1.0, 0.0, 0.0)
MARGINS = (0.4, 0.25, 0.15, 0.05, -0.05, -0.3)


def by_hand():
    """A batch whose label is always 1 and whose margins are `MARGINS`."""
    x = torch.full([6, 1, 2, 2], 0.5)
    x[:, 0, 0, 0] += torch.tensor(MARGINS)
    x[:, 0, 0, 1] = 0.5
    return x, torch.ones(6, dtype=torch.long)


def measured(attack, batches=None, model=None, threat=THREAT):
    model = linear(DIFFERENCE) if model is None else model
    return correct(model, [by_hand()] if batches is None else batches, attack, threat, 0, "test")


def test_clean_flags_by_hand():
    assert measured(None).tolist() == [True, True, True, True, False, False]


def test_fgsm_flags_by_hand():
    assert measured(FGSM).tolist() == [True, True, False, False, False, False]


def test_what_is_wrong_clean_is_not_right_under_attack():
    def helpful(model, x, y, threat, noise):
        raised = x.clone()
        raised[:, 0, 0, 0] += 0.1
        return raised

    assert measured(helpful).tolist() == [True, True, True, True, False, False]


def test_only_what_is_right_clean_is_attacked():
    seen = []

    def attack(model, x, y, threat, noise):
        seen.append(len(x))
        return x

    x, y = by_hand()
    assert measured(attack, [(x[:3], y[:3]), (x[3:5], y[3:5]), (x[5:], y[5:])]).sum() == 4
    assert seen == [3, 1]


def test_the_order_and_the_sizes_of_batches_are_kept():
    x, y = by_hand()
    batches = [(x[:1], y[:1]), (x[1:4], y[1:4]), (x[4:], y[4:])]
    assert torch.equal(measured(FGSM, batches), measured(FGSM))


@pytest.mark.parametrize("move", [0.11, 100.0, math.nan])
def test_an_attack_that_leaves_the_ball_is_refused(move):
    with pytest.raises(HarpError, match="left the threat by"):
        measured(lambda model, x, y, threat, noise: x + move)


def test_an_attack_that_leaves_the_box_is_refused():
    x = torch.full([1, 1, 2, 2], 1.0)
    x[0, 0, 0, 1] = 0.0
    with pytest.raises(HarpError, match=r"left the threat by 0\.05"):
        measured(lambda model, x, y, threat, noise: x + 0.05, [(x, torch.ones(1, dtype=torch.long))])


@pytest.mark.parametrize("sizes", [(16,), (8, 8), (1, 5, 10), (1,) * 16])
def test_an_examples_noise_is_its_own_however_it_is_batched(sizes):
    drawn = []

    def attack(model, x, y, threat, noise):
        drawn.append(noise.uniform((2,)))
        return x

    model, y = linear(bias=0.3), labels(16)
    batches = list(zip(images(16).split(sizes), y.split(sizes), strict=True))
    right = correct(model, batches, attack, THREAT, 0, "test")
    assert 0 < right.sum() < 16
    assert torch.equal(torch.cat(drawn), Keyed.of(right.nonzero().squeeze(1), 0, "test").uniform((2,)))


def test_verdicts_do_not_depend_on_the_batches():
    model, threat = linear(bias=0.3), Threat(2, 0.05)
    whole = correct(model, [(images(64), labels(64))], PGD(restarts=2), threat, 0, "test")
    single = list(zip(images(64).split(1), labels(64).split(1), strict=True))
    assert torch.equal(correct(model, single, PGD(restarts=2), threat, 0, "test"), whole)
    assert 0 < whole.sum() < 64


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_logit_that_is_not_finite_is_a_wrong_answer(value):
    def broken(model, x, y, threat, noise):
        model[1].bias.data[1] = value
        return x

    assert measured(None, model=linear(DIFFERENCE)).any()
    assert not measured(broken).any()
    assert not measured(None, model=linear(DIFFERENCE, bias=value)).any()


@pytest.mark.parametrize(("beyond", "fits"), [(2e-7, True), (5e-6, False)])
def test_an_image_may_leave_the_threat_by_a_millionth(beyond, fits):
    def attack(model, x, y, threat, noise):
        return x + (threat.eps + beyond)

    if fits:
        measured(attack)
    else:
        with pytest.raises(HarpError, match="left the threat by"):
            measured(attack)
