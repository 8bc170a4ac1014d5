"""Losses by hand, and attacks that climb what they say they climb."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from harp.attacks import PGD
from harp.attacks.losses import divergence
from harp.errors import HarpError
from harp.objectives import ARD, RSLAD, AdaAD
from harp.randomness import generator
from harp.threats import Threat

ATTACK, THREAT = PGD(steps=5), Threat(eps=0.1)
TAUGHT, GIVEN = (0.7, 0.2, 0.1), (0.5, 0.3, 0.2)
ALL = (ARD, RSLAD, AdaAD)


class Fixed(nn.Module):
    """Answers every image with the same probabilities."""

    def __init__(self, *chances):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(chances).log())

    def forward(self, x):
        return self.logits.expand(len(x), -1)


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)).train()


def batch():
    return torch.rand(6, 3, 2, 2, generator=generator(0, "images")), torch.arange(6) % 3


def closure(objective, model):
    return next(objective(model, *batch(), generator(0, "objective")))


def seen(objective, model):
    """The images that the loss is taken of, in order of the calls."""
    evaluate, found = closure(objective, model), []
    hook = model.register_forward_pre_hook(lambda module, given: found.append(given[0].detach()))
    evaluate()
    hook.remove()
    return found


@pytest.mark.parametrize("kind", ALL)
def test_three_probabilities(kind):
    """METHODS 9.4's example; to a network that answers alike everywhere every image is a clean one."""
    loss = closure(kind(ATTACK, THREAT, Fixed(*TAUGHT)), Fixed(*GIVEN))()
    assert loss.item() == pytest.approx(0.08512, abs=1e-5)


def test_what_ard_leaves_the_labels():
    x, y = batch()
    student = Fixed(*GIVEN)
    loss = closure(ARD(ATTACK, THREAT, Fixed(*TAUGHT), alpha=0.25), student)()
    expected = 0.25 * 0.08512 + 0.75 * cross_entropy(student(x), y).item()
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_temperature_softens_both():
    student, teacher = Fixed(*GIVEN), Fixed(*TAUGHT)
    loss = closure(ARD(ATTACK, THREAT, teacher, temperature=4.0), student)()
    expected = 16 * divergence(student.logits[None] / 4, teacher.logits[None] / 4)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("kind", "passes"), [(ARD, 1), (RSLAD, 2), (AdaAD, 1)])
def test_clean_images_come_where_they_count(kind, passes):
    found = seen(kind(ATTACK, THREAT, network(1)), network(0))
    assert len(found) == passes
    assert torch.equal(found[-1], batch()[0]) == (passes == 2)
    assert len(seen(kind(ATTACK, THREAT, network(1), alpha=0.5), network(0))) == 2
    assert len(seen(kind(ATTACK, THREAT, network(1), alpha=1.0), network(0))) == 1


@pytest.mark.parametrize("kind", ALL)
def test_the_attack_climbs(kind):
    student, teacher, (x, y) = network(0), network(1), batch()
    adv = seen(kind(ATTACK, THREAT, teacher), student)[0]
    climbed = {
        ARD: lambda images: cross_entropy(student(images), y, reduction="none"),
        RSLAD: lambda images: divergence(student(images), teacher(x)),
        AdaAD: lambda images: divergence(student(images), teacher(images)),
    }[kind]
    assert bool((climbed(adv) > climbed(x)).all())
    assert (adv - x).abs().max() <= 0.1 + 1e-6
    assert student.training


@pytest.mark.parametrize("kind", ALL)
def test_the_teacher_is_a_copy_that_never_learns_and_is_known_again(kind):
    teacher = network(1)
    objective = kind(ATTACK, THREAT, teacher)
    student = network(0)
    closure(objective, student)().backward()
    assert all(param.grad is None for param in objective.teacher.parameters())
    assert all(param.grad is not None for param in student.parameters())
    assert not objective.teacher.training
    objective.load_state_dict(kind(ATTACK, THREAT, network(1)).state_dict())
    with pytest.raises(HarpError, match="the teacher is not the one"):
        objective.load_state_dict(kind(ATTACK, THREAT, network(2)).state_dict())
