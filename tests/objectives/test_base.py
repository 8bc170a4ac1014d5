"""What holds for every objective: one row each."""

import copy
import math

import pytest
import torch
from torch import nn

from harp.attacks import PGD
from harp.objectives import (
    ARD,
    MART,
    OBJECTIVES,
    PGDAT,
    RSLAD,
    TRADES,
    AdaAD,
    Consistency,
    Distillation,
    FastAT,
    FreeAT,
    Gaussian,
    Natural,
    Objective,
    SmoothAdv,
    Stability,
)
from harp.randomness import generator
from harp.threats import Threat
from tests.attacks.linear import images, labels, linear

ATTACK = PGD(steps=3)
NOISY = (Gaussian, Stability, Consistency, SmoothAdv)
INF, TWO = Threat(math.inf, 0.1), Threat(2, 0.15)

# Registered name -> (the objective under a threat, steps a batch, batches that running statistics see a step).
ROWS = {
    "natural": (lambda threat: Natural(), 1, 1),
    "pgd-at": (lambda threat: PGDAT(ATTACK, threat), 1, 1),
    "pgd-at mixed": (lambda threat: PGDAT(ATTACK, threat, "mixed"), 1, 2),
    "trades": (lambda threat: TRADES(ATTACK, threat), 1, 2),
    "mart": (lambda threat: MART(ATTACK, threat), 1, 2),
    "free-at": (lambda threat: FreeAT(threat, replays=3), 3, 1),
    "pwoa": (lambda threat: Distillation(ATTACK, threat, linear(), attacked=1.0), 1, 1),
    "ard": (lambda threat: ARD(ATTACK, threat, linear(), alpha=0.5), 1, 2),
    "rslad": (lambda threat: RSLAD(ATTACK, threat, linear()), 1, 2),
    "adaad": (lambda threat: AdaAD(ATTACK, threat, linear()), 1, 1),
    "gaussian": (lambda threat: Gaussian(), 1, 1),
    "stability": (lambda threat: Stability(), 1, 2),
    "smoothadv": (lambda threat: SmoothAdv(ATTACK, threat), 1, 1),
    "consistency": (lambda threat: Consistency(), 1, 1),
    "fast-at": (lambda threat: FastAT(threat, guard_every=1), 1, 1),
}


@pytest.fixture(params=sorted(ROWS))
def row(request):
    return ROWS[request.param]


def noise():
    return generator(0, "objective")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()


def test_every_registered_objective_has_a_row():
    assert {name.split()[0] for name in ROWS} == set(OBJECTIVES)


def test_an_objective_remembers_and_remarks_nothing_unless_it_says_so():
    objective = Natural()
    objective.load_state_dict({})
    assert (objective.replays, objective.state_dict(), objective.notes()) == (1, {}, [])
    assert isinstance(objective, Objective)


def test_so_many_steps_a_batch_and_so_many_updates_of_running_statistics_a_step(row):
    make, replays, updates = row
    objective, model, steps = make(INF), network(), 0
    for _ in range(2):
        for evaluate in objective(model, images(8), labels(8), noise()):
            evaluate().backward()
            steps += 1
            assert model[1].num_batches_tracked == updates * steps
    assert steps == 2 * replays == 2 * objective.replays


def test_gradients_come_from_the_closure_alone_and_the_model_stays_in_train_mode(row):
    model = network()
    for evaluate in row[0](INF)(model, images(8), labels(8), noise()):
        assert all(param.grad is None for param in model.parameters())
        assert all(module.training for module in model.modules())
        evaluate().backward()
        assert all(param.grad is not None for param in model.parameters())
        model.zero_grad()


def test_a_closure_may_be_evaluated_twice(row):
    model = network()
    for evaluate in row[0](INF)(model, images(8), labels(8), noise()):
        assert evaluate().item() == evaluate().item()


@pytest.mark.parametrize("threat", [INF, TWO], ids=["inf", "2"])
def test_the_model_trains_on_images_that_the_threat_allows(row, threat):
    objective, model, seen = row[0](threat), network(), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()) if module.training else None)
    x = images(8, 0, 1)
    before = x.clone()
    for _ in range(2):
        for evaluate in objective(model, x, labels(8), noise()):
            evaluate().backward()
    assert seen
    assert torch.equal(x, before)
    if isinstance(objective, NOISY):  # noise knows no threat
        assert all((adv.view(-1, *x.shape) != x).any() for adv in seen[-1:])
        return
    assert all((threat.excess(adv, x) <= 1e-6).all() for adv in seen)
    assert isinstance(objective, Natural) or any((adv != x).any() for adv in seen)


def losses(make, killed):
    """Of every step of two batches; `killed`: by a fresh objective each, which has the state of the one before."""
    objective, model, found = make(INF), network(), []
    for y in (labels(8), 1 - labels(8)):
        closures = objective(model, images(8), y, noise())
        for done in range(objective.replays):
            if killed:
                state, objective = copy.deepcopy(objective.state_dict()), make(INF)
                objective.load_state_dict(state)
                closures = objective(model, images(8), y, noise())
                for _ in range(done):
                    next(closures)
            loss = next(closures)()
            loss.backward()
            found.append(loss.item())
    return found, objective.state_dict()


def test_the_state_between_any_two_steps_is_all_that_the_next_depends_on(row):
    (whole, state), (parts, last) = losses(row[0], False), losses(row[0], True)
    assert whole == parts
    assert str(state) == str(last)
