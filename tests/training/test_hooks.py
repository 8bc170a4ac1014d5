"""What a method may ask for beside pull and push, each seen to be given."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from harp.attacks import PGD
from harp.data import Loader
from harp.objectives import PGDAT, FreeAT
from harp.pruners import Moment, Pruner, Scoring
from harp.sparsity import find_sites
from harp.threats import Threat
from harp.training import Tracker, attacked, fit, losses, sgd

DATA = [(torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(n)), torch.arange(8) % 3) for n in range(3)]
OBJECTIVE = PGDAT(PGD(steps=1), Threat(eps=0.1))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


class Told(Pruner):
    """Notes what it is told; is done after `enough` steps."""

    def __init__(self, sites, enough=10):
        super().__init__(sites)
        self.enough, self.step, self.told = enough, 0, []

    @property
    def done(self):
        return self.step >= self.enough

    def push(self, moment):
        self.step = moment.step
        self.told.append(("push", moment.step, moment.lr is not None))

    def pull(self):
        self.told.append("pull")

    def hear(self, measures):
        self.told.append(("hear", measures["robust"]))

    @contextmanager
    def around(self, evaluate):
        self.told.append(("before", float(evaluate().detach()) > 0))
        yield
        self.told.append("after")


def train(model, pruner, until, on=()):
    data = Loader(DATA, "cpu")
    fit(model, data, objective=OBJECTIVE, optimizer=sgd(model, pruner, lr=0.1), pruner=pruner, until=until, on=on)


def test_around_a_step_come_its_evaluation_and_the_pull_and_then_the_push():
    model = network()
    pruner = Told(find_sites(model))
    train(model, pruner, 1)
    assert pruner.told == [("push", 0, True), ("before", True), "pull", "after", ("push", 1, True)]


def test_a_method_that_is_done_ends_its_stage():
    model = network()
    pruner, seen = Told(find_sites(model), enough=4), []
    train(model, pruner, 9, on=[lambda moment: seen.append(moment.step)])
    assert seen == [1, 2, 3, 4]
    train(model, pruner, 9, on=[lambda moment: seen.append(moment.step)])
    assert len(seen) == 8  # a new stage begins at 0, and the method tells of the step it was told


def test_a_stage_that_ends_early_is_measured_and_tells_its_last_step(tmp_path):
    model = network()
    pruner = Told(find_sites(model), enough=4)
    stage = Tracker(
        tmp_path,
        model,
        pruner,
        sgd(model, pruner, lr=0.1),
        objective=OBJECTIVE,
        per_epoch=3,
        until=9,
        every=3,
        checkpoint=3,
        validate=lambda model: {"robust": 0.25, "clean": 0.5},
    )
    train(model, pruner, 9, on=[stage])
    assert [said for said in pruner.told if said[0] == "hear"] == [("hear", 0.25), ("hear", 0.25)]
    assert stage.last == 4
    assert [record["step"] for record in stage.metrics] == [3, 4]


@pytest.mark.parametrize("objective", [OBJECTIVE, FreeAT(Threat(eps=0.1), replays=2)], ids=lambda o: type(o).__name__)
def test_scoring_sees_every_batch_and_leaves_all_as_it_was(objective):
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scoring = Scoring(model, lambda: losses(model, objective, Loader(DATA, "cpu"), 0, "prune"))
    slopes = []
    for loss in scoring.losses():
        model.zero_grad()
        loss().backward()
        slopes.append(model[4].weight.grad.abs().sum())
    assert len(slopes) == len(DATA)
    assert all(slope > 0 for slope in slopes)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert objective.state_dict().keys() == type(objective).state_dict(objective).keys()


def test_scoring_gives_the_images_of_the_attack_whatever_the_objective():
    model, threat = network().train(), Threat(eps=0.1)
    data = Loader(DATA, "cpu")
    scoring = Scoring(model, lambda: iter(()), lambda: attacked(model, PGD(steps=3), threat, data, 0, "prune"))
    seen = 0
    for (x, y), (adv, labels) in zip(DATA, scoring.batches(), strict=True):
        assert not model.training
        assert torch.equal(y, labels)
        assert 0 < float((adv - x).abs().max()) <= 0.1 + 1e-6
        assert cross_entropy(model(adv), y) > cross_entropy(model(x), y)
        seen += 1
    assert seen == len(DATA)
    assert model.training
    again = attacked(model, PGD(steps=3), threat, data, 0, "prune")
    assert torch.equal(adv, list(again)[-1][0])


def test_a_moment_without_an_optimizer_is_no_moment_of_training():
    pruner = Told(())
    pruner.push(Moment(0))
    assert pruner.told == [("push", 0, False)]
