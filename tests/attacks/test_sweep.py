"""A search that walks right until the model changes its mind, or its steps are spent."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from harp.attacks.surrogate import Surrogate
from harp.attacks.sweep import State, sweep
from harp.randomness import Keyed
from tests.attacks.linear import images, labels, linear

STEPS = 5


@dataclass
class Walk:
    """Finds at a step of each point's own: one of its random numbers, or never."""

    sizes: list[int]

    def begin(self, x, y, noise) -> State:
        goal = noise.uniform((), 1, 2 * STEPS).long()
        return {"x": x, "y": y, "goal": goal, "taken": torch.zeros_like(goal), "adv": x}

    def step(self, state: State) -> State:
        self.sizes.append(len(state["x"]))
        taken = state["taken"] + 1
        # Far to the other class's side: m = x . (1, -2, 0.5, -0.25).
        far = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 2, 2).expand_as(state["x"])
        far = torch.where(state["y"].view(-1, 1, 1, 1) == 0, 5 * far, -5 * far)
        found = taken == state["goal"]
        return {**state, "taken": taken, "adv": far, "found": found, "spent": taken == STEPS}


@pytest.mark.parametrize("batch", [None, 1, 3, 16, 100])
def test_every_point_gets_its_own_result_whatever_the_batch(batch):
    x, y, noise = images(40), labels(40), Keyed.of(torch.arange(40), 0, "test")
    walk = Walk([])
    result = sweep(walk, linear(), x, y, noise, batch)
    moved = (result != x).flatten(1).any(1)
    assert torch.equal(moved, noise.uniform((), 1, 2 * STEPS).long() <= STEPS)
    assert max(walk.sizes) == min(batch or 40, 40)
    # Places that fall free are refilled: fewer steps than batches begun one after the other.
    assert sum(walk.sizes) == int(noise.uniform((), 1, 2 * STEPS).long().clamp(max=STEPS).sum())


def test_the_original_of_a_surrogate_judges():
    x, y = images(8), labels(8)
    model = linear(bias=100.0)  # says 1 of every image within reach, so nothing labelled 1 can be broken
    quick = Surrogate(linear(), x)
    quick.__dict__["original"] = model
    result = sweep(Walk([]), quick, x, y, Keyed.of(torch.arange(8), 0, "test"))
    assert torch.equal(result[y == 1], x[y == 1])


class Undefined(nn.Module):
    """Right within a distance of 2, and not a number beyond."""

    def forward(self, x):
        far = x.flatten(1).abs().amax(1, keepdim=True) > 2
        return torch.where(far, torch.nan, torch.tensor([1.0, 0.0]))


def test_an_answer_that_is_not_a_number_counts_as_wrong():
    x, y = images(8), torch.zeros(8, dtype=torch.long)
    result = sweep(Walk([]), Undefined(), x, y, Keyed.of(torch.arange(8), 0, "test"))
    found = Keyed.of(torch.arange(8), 0, "test").uniform((), 1, 2 * STEPS).long() <= STEPS
    assert 0 < found.sum() < 8
    assert torch.equal((result != x).flatten(1).any(1), found)


def test_the_model_is_left_as_it_was():
    model = linear()
    model.get_parameter("1.bias").requires_grad_(False)
    model[0].eval()
    sweep(Walk([]), model, images(4), labels(4), torch.Generator())
    assert model.training
    assert not model[0].training
    assert [p.requires_grad for p in model.parameters()] == [True, False]
    assert all(p.grad is None for p in model.parameters())
