import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from harp.attacks import PGD
from harp.data import Images, Resident
from harp.objectives import OBJECTIVES, FastAT
from harp.pruners import Pruner
from harp.randomness import generator
from harp.threats import Threat
from harp.training import fit, sgd
from tests.attacks.linear import images, labels, linear

EPS = 0.1
THREAT = Threat(math.inf, EPS)
FGSM_RS = PGD(steps=1, step=1.25)


class Valley(nn.Module):
    """Right but for images of one pixel within 0.3 eps of 0.5: its gradient leads there, a long step beyond it.

    What catastrophic overfitting makes of a network: from a uniform start, 1.25 eps land at least 0.3 eps from the
    middle for 95 % of the images, while steps of eps / 4 end within eps / 4 of it for all.
    """

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        margin = self.scale * ((x.flatten(1) - 0.5).abs() - 0.3 * EPS)
        return torch.cat([margin, -margin], 1)


def grey(n=64):
    return torch.full([n, 1, 1, 1], 0.5), torch.zeros(n, dtype=torch.long)


def noise(step=0):
    return generator(0, "attack", step)


def step(objective, model, x, y, number=0):
    (evaluate,) = objective(model, x, y, noise(number))
    return evaluate()


def test_the_loss_is_that_of_the_images_one_step_away():
    model, x, y = linear(), images(8), labels(8)
    adv = FGSM_RS(model, x, y, THREAT, noise())
    assert step(FastAT(THREAT), model, x, y).item() == cross_entropy(model(adv), y).item()
    # From within the ball 1.25 eps reach its edge or stay inside.
    assert (adv - x).abs().max().item() == pytest.approx(EPS, rel=1e-5)


def test_a_collapsed_model_is_noticed():
    objective = FastAT(THREAT, guard_every=1)
    step(objective, Valley(), *grey())
    ((batch, of, right, held),) = objective.collapses
    assert (batch, of, held) == (1, 64, 0)
    assert right > 0.85 * 64
    (note,) = objective.notes()
    assert note.startswith(
        f"catastrophic overfitting in 1 of 1 checks, first in number 1: of 64 training images {right}"
    )


def test_a_model_whose_gradient_tells_the_truth_is_not():
    objective = FastAT(THREAT, guard_every=1)
    for bias in (-0.3, 0.0, 0.3, 0.6):
        step(objective, linear(bias=bias), images(64), labels(64))
    assert objective.batches == 4
    assert objective.notes() == []


@pytest.mark.parametrize(("right", "held", "found"), [(0, 0, 0), (4, 0, 0), (5, 0, 1), (100, 41, 0), (100, 39, 1)])
def test_more_than_half_must_fall_and_not_by_chance(right, held, found):
    """The first pixel tells whether an image is right, the second whether it still is under the guard's attack."""

    class Told(nn.Module):
        def forward(self, x):
            x = x.flatten(1)
            return torch.stack([x[:, 0] - 0.5, 0.5 - x[:, 0]], 1)

    def guard(model, x, y, threat, noise):
        return torch.where(torch.arange(len(x)).view(-1, 1, 1, 1) < held, 1.0, 0.0) * torch.ones_like(x)

    x = torch.where(torch.arange(128).view(-1, 1, 1, 1) < right, 1.0, 0.0) * torch.ones(128, 1, 1, 1)
    objective = FastAT(Threat(eps=0.0), guard_every=1, guard=guard)
    step(objective, Told(), x, torch.zeros(128, dtype=torch.long))
    assert len(objective.collapses) == found


def test_the_guard_looks_every_so_many_batches_and_remembers_across_a_kill():
    objective = FastAT(THREAT, guard_every=3)
    for number in range(4):
        x, y = grey()
        step(objective, Valley(), x, y, number)
    again = FastAT(THREAT, guard_every=3)
    again.load_state_dict(copy.deepcopy(objective.state_dict()))
    for number in range(4, 7):
        x, y = grey()
        step(again, Valley(), x, y, number)
    assert [found[0] for found in again.collapses] == [3, 6]
    assert again.notes()[0].startswith("catastrophic overfitting in 2 of 2 checks, first in number 1: ")
    assert [found[0] for found in objective.collapses] == [3]


def test_the_guard_is_found_at_work_in_training_and_changes_nothing():
    x, y = grey()
    states, notes = [], []
    for every in (2, 1000):
        model, objective = Valley(), FastAT(THREAT, guard_every=every)
        data, pruner = Resident(Images(x, y), 32, seed=0, device="cpu"), Pruner()
        fit(model, data, objective=objective, optimizer=sgd(model, pruner, lr=0.1), pruner=pruner, until=6)
        states.append(model.scale.item())
        notes.append(objective.notes())
    assert states[0] == states[1] != 1.0
    assert "in 3 of 3 checks, first in number 1" in notes[0][0]
    assert notes[1] == []


def test_checks_need_a_frequency():
    objective = OBJECTIVES["fast-at"](THREAT)
    assert isinstance(objective, FastAT)
    assert objective.guard == PGD(steps=10)
    with pytest.raises(ValueError, match="guard_every: expected at least 1, got 0"):
        FastAT(THREAT, guard_every=0)
