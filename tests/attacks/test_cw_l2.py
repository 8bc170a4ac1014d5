import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from harp.attacks import ATTACKS, CWL2
from harp.attacks.surrogate import Surrogate
from harp.errors import HarpError
from harp.randomness import generator
from harp.threats import Threat
from tests.attacks.linear import affine, distances
from tests.pace import quick

# Fewer steps than by default, and a first c that needs fewer searches. For the models of 2 to 10 classes below
# distances come out at most 5.8e-4 too long; by default 4.2e-4, in three times the time.
QUICK = CWL2(steps=300, searches=6, c=0.1)
SHAPES = [(1, 4, 4), (3, 4, 2), (1, 5, 7)]


def noise():
    return generator(0, "noise")


def problem(classes, shape, n=6):
    """A linear model, images, their labels, and their distances, from 0.1 to 0.2.

    Only images whose nearest boundary is with the class that comes second there, others being a good deal further:
    from elsewhere the descent, which pushes towards the class that leads, may end at another boundary.
    """
    model = affine(classes, shape, seed=classes).float()
    x = 0.3 + 0.4 * torch.rand(600, *shape, generator=generator(0, "x"))
    first, second = model(x).topk(2).indices.unbind(1)
    weight = model.get_parameter("1.weight").detach()
    far, away = distances(model, x, first, 2), weight[first] - weight[second]
    wanted = 0.1 + 0.1 * torch.rand(600, generator=generator(1, "x"))
    shift = (wanted - far.gather(1, second[:, None]).squeeze(1)) / away.norm(dim=1)
    x = x + (shift[:, None] * away).view_as(x)
    far, order = distances(model, x, first, 2).sort(1)
    clear = (order[:, 0] == second) & (far[:, 1] > 0.35) & (model(x).argmax(1) == first)
    clear &= ((x > 0.1) & (x < 0.9)).flatten(1).all(1)
    assert clear.sum() >= n
    return model, x[clear][:n], first[clear][:n], far[clear][:n, 0]


def wrong(model, adv, y):
    return model(adv).argmax(1) != y


@pytest.mark.parametrize("classes", quick([2, 5, 10], range(2, 11)))
def test_the_nearest_image_is_as_far_as_the_boundary(classes):
    model, x, y, far = problem(classes, SHAPES[classes % 3])
    adv, distance = QUICK.nearest(model, x, y, Threat(2, 0.01), noise())
    assert wrong(model, adv, y).all()
    assert torch.allclose(distance, (adv - x).flatten(1).norm(dim=1), atol=1e-7)
    assert (distance > far - 1e-6).all()
    assert (distance < far + 1e-3).all()


@pytest.mark.parametrize("classes", [2, 10])
def test_the_verdict_is_that_of_the_distance(classes):
    model, x, y, far = problem(classes, (1, 4, 4), n=12)
    threat = Threat(2, far.median().item() + 1e-3)
    adv = QUICK(model, x, y, threat, noise())
    assert torch.equal(wrong(model, adv, y), far < threat.eps)
    assert torch.equal((adv != x).flatten(1).any(1), far < threat.eps)
    assert (threat.excess(adv, x) <= 1e-6).all()


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.2, 0.8)])
def test_the_box_is_the_threats(low, high):
    model, x, y, far = problem(3, (1, 4, 4))
    adv, distance = QUICK.nearest(model, x, y, Threat(2, 0.01, low=low, high=high), noise())
    assert ((adv >= low) & (adv <= high)).all()
    # Steps are of tanh's argument, and so twice as long in a box of twice the width.
    assert torch.allclose(distance, far, atol=5e-3)


def test_a_pixel_at_the_edge_cannot_help():
    # The margin x0 + x1 - 2 falls short by 0.3, x0 is 1 already: x1 alone must rise by 0.3.
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    model[1].weight.data = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    model[1].bias.data = torch.tensor([0.0, -1.8])
    x = torch.tensor([1.0, 0.5]).view(1, 1, 1, 2)
    adv, distance = QUICK.nearest(model, x, torch.tensor([0]), Threat(2, 1), noise())
    assert distance.item() == pytest.approx(0.3, abs=1e-3)
    assert ((adv >= 0) & (adv <= 1)).all()


def test_a_point_leaves_at_the_first_image_within_eps():
    class Counter(nn.Module):
        rows = 0

        def forward(self, x):
            Counter.rows += len(x)
            return model(x)

    model, x, y, far = problem(2, (1, 4, 4))
    QUICK(Counter(), x, y, Threat(2, 0.01), noise())
    every, Counter.rows = Counter.rows, 0
    assert wrong(model, QUICK(Counter(), x, y, Threat(2, 1.5 * far.max().item()), noise()), y).all()
    assert Counter.rows < every / 3


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_a_point_has_its_own_image_whatever_the_batch(batch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(36, 3)).double().eval()
    x = torch.rand(10, 1, 5, 5, generator=generator(0, "x"), dtype=torch.double)
    y, attack = model(x).argmax(1), CWL2(steps=40, searches=4, c=0.1, lr=0.05)
    part = replace(attack, batch=batch)
    nearest, distance = attack.nearest(model, x, y, Threat(2, 1), noise())
    threat = Threat(2, distance.median().item() + 0.01)
    whole = attack(model, x, y, threat, noise())
    assert 0 < wrong(model, whole, y).sum() < 10
    for half in (slice(5), slice(5, 10)):
        assert torch.allclose(part(model, x[half], y[half], threat, noise()), whole[half], atol=1e-6)
        images, distances = part.nearest(model, x[half], y[half], threat, noise())
        assert torch.allclose(images, nearest[half], atol=1e-6)
        assert torch.allclose(distances, distance[half], atol=1e-6)


def test_wrong_already_is_at_no_distance_and_never_wrong_at_an_infinite_one():
    model, x, y, _ = problem(2, (1, 4, 4))
    adv, distance = QUICK.nearest(model, x, 1 - y, Threat(2, 1), noise())
    assert torch.equal(adv, x)
    assert distance.tolist() == [0] * 6
    constant = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    nn.init.zeros_(constant.get_parameter("1.weight"))
    y = constant(x).argmax(1)
    adv, distance = QUICK.nearest(constant, x, y, Threat(2, 1), noise())
    assert torch.equal(adv, x)
    assert distance.tolist() == [math.inf] * 6
    assert torch.equal(QUICK(constant, x, y, Threat(2, 1), noise()), x)


def test_an_image_has_the_margin_of_the_confidence():
    model, x, y, far = problem(2, (1, 4, 4))
    adv, distance = replace(QUICK, confidence=0.1).nearest(model, x, y, Threat(2, 1), noise())
    logits = model(adv)
    lead = (logits.gather(1, 1 - y[:, None]) - logits.gather(1, y[:, None])).squeeze(1)
    assert (lead >= 0.1 - 1e-6).all()
    length = (model[1].weight[0] - model[1].weight[1]).norm()
    assert torch.allclose(distance, far + 0.1 / length, atol=1e-3)


def test_no_number_is_an_answer_and_no_gradient():
    class Hole(nn.Module):
        """Class 0, less so the brighter; above 0.6 no numbers at all."""

        def forward(self, x):
            mean = x.flatten(1).mean(1)
            logits = torch.stack([1 - mean, mean - 1], 1)
            return torch.where(mean[:, None] > 0.6, torch.nan, logits)

    x, y = torch.full([2, 1, 2, 2], 0.5), torch.zeros(2, dtype=torch.long)
    adv, distance = QUICK.nearest(Hole(), x, y, Threat(2, 1), noise())
    # 0.1 on each of four pixels.
    assert distance.tolist() == pytest.approx([0.2, 0.2], abs=5e-3)
    assert (adv.flatten(1).mean(1) > 0.6).all()


def test_of_a_surrogate_the_original_is_measured():
    model, x, y, far = problem(2, (1, 4, 4))
    quick = Surrogate(affine(2, (1, 4, 4), seed=9).float(), x)
    quick.__dict__["original"] = model
    _, distance = QUICK.nearest(quick, x, y, Threat(2, 1), noise())
    assert torch.allclose(distance, far, atol=1e-3)


def test_modes_weights_and_gradients_are_left_as_they_were():
    model, x, y, _ = problem(2, (1, 4, 4))
    model.train()
    model[0].eval()
    state, before = copy.deepcopy(model.state_dict()), x.clone()
    CWL2(steps=5, searches=2).nearest(model, x, y, Threat(2, 1), noise())
    CWL2(steps=5, searches=2)(model, x, y, Threat(2, 1), noise())
    assert [module.training for module in model] == [False, True]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.equal(x, before)


@pytest.mark.parametrize("norm", [math.inf, 1])
def test_other_norms_are_refused(norm):
    model, x, y = nn.Linear(4, 2), torch.rand(2, 4), torch.zeros(2, dtype=torch.long)
    for verb in (CWL2(), CWL2().nearest):
        with pytest.raises(HarpError, match="expected norm 2"):
            verb(model, x, y, Threat(norm, 0.1), noise())


def test_what_makes_no_sense_is_refused():
    with pytest.raises(HarpError, match="at least 1 step"):
        CWL2(steps=0)
    with pytest.raises(HarpError, match="at least 1 step and 1 search"):
        CWL2(searches=0)


def test_the_registered_attack():
    assert ATTACKS["cw-l2"]() == CWL2(steps=1000, searches=9, lr=0.01, c=1e-3, confidence=0)
