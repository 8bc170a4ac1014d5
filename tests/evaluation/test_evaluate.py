import math

import pytest
import torch
from torch import nn

from harp.attacks import ATTACKS, PGD
from harp.errors import HarpError
from harp.evaluation import correct, evaluate, summary, wilson
from harp.evaluation.evaluate import evaluation_noise, worst
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
    return correct(model, [by_hand()] if batches is None else batches, attack, threat, evaluation_noise(0, "test"))


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
    ticks = []
    correct(linear(DIFFERENCE), batches, None, THREAT, evaluation_noise(0, "test"), ticks.append)
    assert ticks == [1, 3, 2]


@pytest.mark.parametrize("move", [0.11, 100.0, math.nan])
def test_an_attack_that_leaves_the_ball_is_refused(move):
    with pytest.raises(HarpError, match="left the threat by"):
        measured(lambda model, x, y, threat, noise: x + move)


def test_an_attack_that_leaves_the_box_is_refused():
    x = torch.full([1, 1, 2, 2], 1.0)
    x[0, 0, 0, 1] = 0.0
    with pytest.raises(HarpError, match=r"left the threat by 0\.05"):
        measured(lambda model, x, y, threat, noise: x + 0.05, [(x, torch.ones(1, dtype=torch.long))])


def test_modes_come_back_and_statistics_stay():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)).train()
    model[1].eval()
    evaluate(model, [(images(8), labels(8))], {"pgd": PGD(steps=2)}, THREAT)
    assert [module.training for module in model.modules()] == [True, True, False, True, True]
    assert model[1].num_batches_tracked == 0
    assert all(param.grad is None for param in model.parameters())


def test_evaluate_gives_every_measure_and_the_worst_of_them():
    flags = evaluate(linear(bias=0.3), [(images(64), labels(64))], {"fgsm": FGSM, "pgd": PGD()}, Threat(2, 0.05))
    assert list(flags) == ["clean", "fgsm", "pgd", "worst"]
    assert all(right.dtype is torch.bool and right.shape == (64,) for right in flags.values())
    assert torch.equal(flags["worst"], flags["clean"] & flags["fgsm"] & flags["pgd"])
    assert 0 < flags["worst"].sum() < flags["clean"].sum()


def test_worst_is_right_under_all():
    flags = {"a": torch.tensor([True, True, False]), "b": torch.tensor([True, False, False])}
    assert worst(flags).tolist() == [True, False, False]


def test_an_eps_of_zero_is_the_clean_measure():
    flags = evaluate(linear(), [(images(32), labels(32))], {"pgd": PGD()}, Threat(math.inf, 0.0))
    assert torch.equal(flags["pgd"], flags["clean"])


def test_the_noise_depends_on_seed_name_and_batch_alone():
    model, batches = linear(bias=0.3), [(images(16), labels(16)), (images(16), labels(16))]
    drawn = []

    def attack(model, x, y, threat, noise):
        drawn.append(float(torch.rand((), generator=noise)))
        return x

    for seed, names in ((0, ["a", "b"]), (0, ["b"]), (1, ["a"])):
        evaluate(model, batches, dict.fromkeys(names, attack), THREAT, seed)
    a, b, alone, other = drawn[:2], drawn[2:4], drawn[4:6], drawn[6:]
    assert alone == b
    assert len({*a, *b, *other}) == 6


def test_the_summary_gives_accuracy_interval_and_n():
    (row,) = summary({"clean": torch.tensor([True] * 83 + [False] * 17)}).values()
    low, high = wilson(83, 100)
    assert row == {"accuracy": 0.83, "low": low, "high": high, "n": 100}
