import math

import pytest
import torch
from torch import nn

from harp.attacks import ATTACKS, PGD
from harp.errors import HarpError
from harp.evaluation import evaluate
from harp.evaluation.doubts import DOUBTS, Evidence, examine
from harp.threats import Threat
from tests.attacks.linear import images, labels, linear
from tests.evaluation.defences import (
    THREAT,
    Dropping,
    LookedUp,
    Loud,
    Probable,
    Rounded,
    digits,
    network,
)
from tests.pace import quick

HONEST = [
    ("dense", 0),
    ("dense", 1),
    ("dense", 2),
    ("dense-natural", 0),
    ("dense-natural", 1),
    ("convolutional", 0),
    ("convolutional-natural", 0),
    ("pruned", 0),
]
STILL = {"zero-gradients", "loss-does-not-rise", "large-eps", "black-box-wins"}
DEFENCES = {
    "rounding": (Rounded, STILL),
    "softmax": (Probable, {"softmax-outputs"}),
    "dropout": (Dropping, {"randomness"}),
    "table": (LookedUp, STILL),
    "times 1e4": (Loud, {"saturated-loss"}),
    "times 1e6": (lambda model: Loud(model, 1e6), {"saturated-loss"}),
}


def names(model, x, y, threat, **options):
    return {doubt.name for doubt in examine(model, x, y, threat, Evidence(**options))}


@pytest.mark.parametrize("honest", quick([("dense", 0), ("pruned", 0)], HONEST), ids=str)
def test_an_honest_network_raises_no_doubt(honest):
    name, seed = honest
    assert examine(network(name, seed), *digits(), THREAT) == []


@pytest.mark.parametrize("threat", [Threat(2, 0.5), Threat(1, 2.0)], ids=["2", "1"])
@pytest.mark.parametrize("name", ["dense", "dense-natural"])
def test_nor_under_other_norms(name, threat):
    assert examine(network(name), *digits(64), threat) == []


@pytest.mark.parametrize("base", ["dense", "dense-natural"])
@pytest.mark.parametrize("defence", DEFENCES)
def test_a_defence_that_protects_nothing_is_called_by_its_name(defence, base):
    around, expected = DEFENCES[defence]
    assert names(around(network(base)).eval(), *digits(64), THREAT) >= expected


@pytest.mark.parametrize("seed", quick([0], [0, 1]))
def test_so_are_winners_who_take_all(seed):
    assert "misleading-gradients" in names(network("winners", seed), *digits(64), THREAT)


@pytest.mark.parametrize("threat", [Threat(2, 0.5), Threat(1, 2.0)], ids=["2", "1"])
def test_defences_are_seen_through_under_other_norms(threat):
    x, y = digits(64)
    assert names(Rounded(network("dense")), x, y, threat) >= {"zero-gradients", "loss-does-not-rise", "large-eps"}
    assert names(Loud(network("dense")), x, y, threat) == {"saturated-loss"}


def test_the_evaluation_that_stopped_too_soon_is_doubted_and_a_longer_one_is_not():
    model, (x, y) = network("dense"), digits()
    short = evaluate(model, [(x, y)], {"fgsm": ATTACKS["fgsm"]()}, THREAT).flags
    strong = {"pgd": PGD(50, 0.1, 3), "margin": PGD(50, 0.1, 3, loss="margin")}
    assert names(model, x, y, THREAT, flags=short) == {"unconverged"}
    assert names(model, x, y, THREAT, flags=evaluate(model, [(x, y)], strong, THREAT).flags) == set()


def test_flags_of_more_images_are_read_at_the_samples_places():
    model, (x, y) = network("dense"), digits()
    places = torch.arange(0, 128, 2)
    beaten = torch.zeros(128, dtype=torch.bool)
    others = torch.ones(128, dtype=torch.bool)
    others[places] = False
    for right, expected in ((beaten, set()), (others, set()), (~others, {"unconverged"})):
        assert names(model, x[places], y[places], THREAT, flags={"none": right}, places=places) == expected


class Counted(nn.Module):
    """Counts the images that go forward and those whose gradients come back."""

    def __init__(self, model):
        super().__init__()
        self.model, self.passes = model, 0

    def forward(self, x):
        logits = self.model(x)
        self.passes += len(x)
        if logits.requires_grad:
            logits.register_hook(self.count)
        return logits

    def count(self, grad):
        self.passes += len(grad)


def test_the_cost_is_what_it_says():
    model = Counted(Loud(linear(), 1e-3))
    x, y = images(16), (linear()(images(16))[:, 1] > 0).long()
    examine(model, x, y, Threat(eps=1e-6))  # a radius at which all points hold, the dearest case
    assert 1100 * 16 < model.passes <= 1200 * 16


def test_everything_is_left_as_it_was():
    model = Dropping(nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout())).train()
    model.model.get_parameter("1.bias").requires_grad_(False)
    (x, y), before = digits(8), torch.get_rng_state()
    first = examine(model, x, y, THREAT)
    torch.rand(3)
    assert examine(model, x, y, THREAT) == first
    torch.set_rng_state(before)
    examine(model, x, y, THREAT)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == [True, False]
    assert all(p.grad is None for p in model.parameters())


def test_batches_change_nothing():
    x, y = digits(16)
    whole, parts = (examine(Rounded(network("dense")), x, y, THREAT, batch=batch) for batch in (None, 7))
    assert [doubt.name for doubt in whole] == [doubt.name for doubt in parts]


def test_a_network_that_is_always_wrong_raises_no_doubt():
    x, _ = digits(32)
    wrong = (network("dense")(x).argmax(1) + 1) % 10
    assert examine(network("dense"), x, wrong, THREAT) == []


@pytest.mark.parametrize("norm", [math.inf, 2, 1])
def test_no_radius_no_crash(norm):
    assert examine(network("dense"), *digits(32), Threat(norm, 0.0)) == []


@pytest.mark.parametrize(
    ("flags", "places", "message"),
    [
        ({"pgd": torch.ones(8)}, None, "flags of 'pgd' are torch.float32"),
        ({"pgd": torch.ones(7, dtype=torch.bool)}, None, "at least 8"),
        ({"pgd": torch.ones(8, dtype=torch.bool)}, torch.arange(1, 9), "at least 9"),
        ({}, torch.arange(3), r"places are torch.int64 of shape \(3,\)"),
        ({}, torch.arange(-1, 7), "negative"),
    ],
)
def test_what_does_not_fit_is_refused(flags, places, message):
    with pytest.raises(HarpError, match=message):
        examine(linear(), images(8), labels(8), THREAT, Evidence(flags, places))


def test_images_outside_the_box_and_labels_without_a_class_are_refused():
    with pytest.raises(HarpError, match="image 0 has a pixel of"):
        examine(linear(), images(8) + 1, labels(8), THREAT)
    with pytest.raises(HarpError, match="image 1 has label 5"):
        examine(linear(), images(8), 5 * labels(8), THREAT)


def test_another_attack_without_gradients_may_be_brought_along():
    seen = []

    def spy(model, x, y, threat, noise):
        seen.append(len(x))
        return threat.start(x, noise)

    assert examine(network("dense"), *digits(), THREAT, Evidence(black_box=spy)) == []
    assert len(seen) == 1
    assert 0 < seen[0] < 128


def test_every_doubt_has_a_name_and_a_line():
    assert set(DOUBTS) == {
        *("zero-gradients", "saturated-loss", "misleading-gradients", "loss-does-not-rise", "unconverged"),
        *("black-box-wins", "large-eps", "non-monotone", "non-finite", "constant-output", "softmax-outputs"),
        *("randomness", "test-time-optimisation", "constant-answer", "chance", "batch-dependence", "batch-size"),
        *("moving-gradients", "generator-reset", "changing-state", "averaged-gradients-win", "transfer-wins"),
        "jump-beyond-eps",
    }
    assert all(20 < len(DOUBTS.summary(name)) < 120 for name in DOUBTS)
    with pytest.raises(HarpError, match="did you mean 'large-eps'"):
        DOUBTS["large-epz"]
