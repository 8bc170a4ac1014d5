import copy
import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from pyautoattack.fab_pt import FABAttack_PT
from torch import nn

from harp.attacks import ATTACKS, FAB, fab as module
from harp.attacks.surrogate import Surrogate
from harp.errors import HarpError
from harp.randomness import Keyed, generator
from harp.threats import Threat
from tests.attacks.linear import WEIGHTS, affine, distances, images, labels, linear
from tests.attacks.test_hyperplanes import slow
from tests.pace import quick

NORMS = [math.inf, 2, 1]
FAR = (-1e3, 1e3)  # a box that never binds


def noise(seed=0):
    return generator(seed, "attack")


def points(n, *shape):
    return torch.rand(n, *shape, generator=generator(0, "points"), dtype=torch.float64)


def network():
    """A convolutional network, images it says five things of, and what it says of them."""
    torch.manual_seed(0)
    features = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*features, nn.Linear(32, 5)).eval()
    x = torch.rand(32, 3, 8, 8, generator=generator(0, "network"))
    return model, x, model(x).argmax(1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 4, 4)])
@pytest.mark.parametrize("targeted", [False, True])
def test_the_distance_to_straight_boundaries_is_margin_over_dual_norm(norm, classes, shape, targeted):
    model, x = affine(classes, shape, 0), points(12, *shape)
    y = model(x).argmax(1)
    attack, threat = FAB(steps=8, targets=classes if targeted else None), Threat(norm, 0.1, *FAR)
    adv, found = attack.nearest(model, x, y, threat, noise())
    assert found.tolist() == pytest.approx(distances(model, x, y, norm).amin(1).tolist(), rel=1e-4)
    assert torch.allclose(threat.distance(adv, x), found)
    assert (model(adv).argmax(1) != y).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("classes", "shape"), [(2, (1, 3, 3)), (4, (1, 3, 3)), (10, (3, 4, 4))])
def test_where_the_box_binds_the_distance_is_that_inside_it(norm, classes, shape):
    model, x = affine(classes, shape, 1), (2 * points(8, *shape) - 0.5).clamp(0, 1)
    y, weight = model(x).argmax(1), model.get_parameter("1.weight").detach()
    best = []
    for row, logits, right in zip(x.flatten(1), model(x), y, strict=True):
        best.append(math.inf)
        for other in range(classes):
            w, lead = weight[other] - weight[right], (logits[other] - logits[right]).item()
            delta = torch.tensor(slow(row.tolist(), w.tolist(), -lead, norm), dtype=torch.float64)
            if other != right and lead + (w @ delta).item() > -1e-9:
                best[-1] = min(best[-1], torch.linalg.vector_norm(delta, norm).item())
    adv, found = FAB(steps=40, targets=classes).nearest(model, x, y, Threat(norm, 0.1), noise())
    # FAB ends half a per cent too far, and pulling back straight moves pixels at the box's edge, too.
    assert found.tolist() == pytest.approx(best, rel=5e-3)
    assert (found >= torch.tensor(best) - 1e-6).all()
    assert torch.equal(adv[found.isinf()], x[found.isinf()])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("targets", [None, 4])
def test_the_verdict_changes_at_the_distance(norm, targets):
    model, x = affine(5, (1, 3, 3), 2), points(16, 1, 3, 3)
    y = model(x).argmax(1)
    for distance, point, label in zip(distances(model, x, y, norm).amin(1).tolist(), x, y, strict=True):
        # FAB ends half a per cent beyond a straight boundary.
        near, far = (Threat(norm, share * distance, *FAR) for share in (0.999, 1.01))
        one = point[None], label[None]
        assert torch.equal(FAB(steps=8, targets=targets)(model, *one, near, noise()), one[0])
        adv = FAB(steps=8, targets=targets)(model, *one, far, noise())
        assert model(adv).argmax(1) != label
        assert far.excess(adv, one[0]) <= 1e-6


@pytest.mark.parametrize("norm", NORMS)
def test_the_likeliest_wrong_classes_come_first(norm):
    model, x = affine(6, (1, 3, 3), 3), points(16, 1, 3, 3)
    y, likeliest = model(x).argmax(1), model(x).argsort(1, descending=True)
    every = distances(model, x, y, norm)
    for targets in (1, 3):
        _, found = FAB(steps=8, targets=targets).nearest(model, x, y, Threat(norm, 0.1, *FAR), noise())
        expected = every.gather(1, likeliest[:, 1 : 1 + targets]).amin(1)
        # Another class's boundary may lie on the way.
        assert (found <= 1.0001 * expected).all()
        assert found.median().item() == pytest.approx(expected.median().item(), rel=1e-3)


@pytest.mark.parametrize(("norm", "eps"), [(math.inf, 0.02), (2, 0.15), (1, 0.8)])
@pytest.mark.parametrize("targets", quick([2], [None, 2]))
def test_verdicts_do_not_depend_on_the_batch(norm, eps, targets):
    model, x, y = network()
    threat, keys = Threat(norm, eps), Keyed.of(torch.arange(32), 0, "test")
    attack = {batch: FAB(steps=6, restarts=2, targets=targets, batch=batch) for batch in (None, 1, 5)}
    whole = attack[None](model, x, y, threat, keys)
    broken = model(whole).argmax(1) != y
    assert 4 <= broken.sum() <= 28
    assert (threat.excess(whole, x) <= 1e-6).all()
    assert torch.equal(whole[~broken], x[~broken])
    parts = [torch.arange(16), torch.arange(16, 32)]
    halves = torch.cat([attack[None](model, x[part], y[part], threat, keys.take(part)) for part in parts])
    for other in (halves, attack[1](model, x, y, threat, keys), attack[5](model, x, y, threat, keys)):
        assert torch.equal(model(other).argmax(1) != y, broken)


def test_the_same_noise_gives_the_same_images_and_other_noise_others():
    model, x, y = network()
    threat, attack = Threat(2, 0.2), FAB(steps=3, restarts=3)
    first, second, third = (attack.nearest(model, x, y, threat, noise(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


@pytest.mark.parametrize(("norm", "eps"), [(math.inf, 1.0), (2, 5.0), (1, 20.0)])
def test_more_restarts_find_more_and_nearer(norm, eps):
    model, x, y = network()
    one, four = (FAB(steps=2, restarts=n).nearest(model, x, y, Threat(norm, eps), noise())[1] for n in (1, 4))
    assert (four <= one * 1.0001).all()
    assert (four < 0.999 * one).any()


@pytest.mark.parametrize(("name", "norm"), [("Linf", math.inf), ("L2", 2), ("L1", 1)])
@pytest.mark.parametrize("targets", [None, 2])
def test_distances_are_those_of_its_authors_implementation(monkeypatch, name, norm, targets):
    monkeypatch.setattr("harp.attacks.nearest.HALVINGS", 0)  # theirs has no final search
    model, x, y = network()
    threat, theirs = Threat(norm, 0.1), torch.full([32], torch.inf)
    reference = FABAttack_PT(model, norm=name, n_iter=10, targeted=targets is not None, device="cpu")
    for target in range(2, 2 + (targets or 1)):
        reference.target_class = target
        adv = reference.attack_single_run(x, y, is_targeted=targets is not None)
        broken = model(adv).argmax(1) != y
        theirs = torch.where(broken, threat.distance(adv, x), torch.inf).minimum(theirs)
    _, ours = FAB(steps=10, targets=targets).nearest(model, x, y, threat, noise())
    assert theirs.isfinite().all()
    assert (ours / theirs).median().item() == pytest.approx(1, abs=1e-4)
    assert (ours / theirs).max() < 1.01


def test_images_that_are_wrong_already_and_images_out_of_reach():
    # Margins 1 + x . (1, -2, 0.5, -0.25) of class 1: no image of the box can be said to be 0 once the bias is 9.
    x = images(4)
    adv, found = FAB(steps=3).nearest(linear(bias=9.0), x, torch.tensor([0, 1, 0, 1]), Threat(), noise())
    assert found.tolist() == [0, math.inf, 0, math.inf]
    assert torch.equal(adv, x)
    assert torch.equal(FAB(steps=3)(linear(bias=9.0), x, torch.tensor([0, 1, 0, 1]), Threat(), noise()), x)
    empty = FAB().nearest(linear(), x[:0], labels(0), Threat(), noise())
    assert [len(part) for part in empty] == [0, 0]


class Counted(nn.Module):
    """A network that counts the images it is asked about, without a gradient and with one."""

    def __init__(self, network):
        super().__init__()
        self.network, self.asked = network, [0, 0]

    def forward(self, x):
        self.asked[x.requires_grad] += len(x)
        return self.network(x)


def test_where_nothing_is_found_a_step_is_one_query():
    model = Counted(linear(bias=9.0))
    FAB(steps=20)(model, images(3), torch.ones(3, dtype=torch.long), Threat(), noise())
    # Beside the gradients: the images themselves, the first step and the last.
    assert model.asked == [3 * 3, 3 * 20]


def test_what_is_found_leaves_at_once():
    model = Counted(linear())
    x = images(6)
    y = model(x).argmax(1)
    FAB(steps=20)(model, x, y, Threat(math.inf, 2.0), noise())
    assert model.asked[1] == 6


def test_a_point_on_the_boundary_is_not_there_for_good():
    x, y = torch.tensor([0.1, 0.1, 0.1, 0.1]).view(1, 1, 2, 2), torch.tensor([0])
    model = linear(weights=(1.0, 0.0, 0.0, 0.0), bias=-0.25)
    search = module._Walk(FAB(), model, Threat(math.inf, 0.3), 0.3)
    point = x.clone()
    point[0, 0, 0, 0] = 0.25  # logits alike, which is class 0
    state = search.step({**search.begin(x, y, Keyed.of(torch.arange(1), 0, "test")), "point": point})
    assert state["found"].tolist() == [True]


def test_the_original_of_a_surrogate_judges():
    # Its boundary is a little further than the surrogate's: first steps cross both, the nearest of later ones do not.
    x, model = images(32), linear(bias=-0.004)
    quick = Surrogate(linear(), x)
    quick.__dict__["original"] = model
    y, margin = model(x).argmax(1), x.flatten(1) @ torch.tensor(WEIGHTS)
    adv, found = FAB(steps=30).nearest(quick, x, y, Threat(), noise())
    assert torch.equal(model(adv).argmax(1) != y, found.isfinite())
    far = margin.abs() > 0.1
    assert far.sum() >= 8
    assert found[far].isfinite().all()


def test_the_original_of_a_surrogate_judges_in_eval_mode_and_is_left_as_it_was():
    model, x, y = network()
    quick = Surrogate(model, x)
    model.train()
    before = copy.deepcopy(model.state_dict())
    FAB(steps=3).nearest(quick, x, y, Threat(), noise())
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Overflowing(nn.Module):
    """A linear model whose logits are not numbers beyond its boundary."""

    def forward(self, x):
        return linear()(x) + torch.where(x.flatten(1)[:, :1] < 0.4, torch.nan, 0.0)


@pytest.mark.parametrize("norm", NORMS)
def test_logits_that_are_no_numbers_are_wrong_and_lead_nowhere(norm):
    x, y = torch.tensor([0.9, 0.1, 0.5, 0.5]).view(1, 1, 2, 2), torch.tensor([1])
    adv, found = FAB(steps=20).nearest(Overflowing(), x, y, Threat(norm, 0.1), noise())
    assert adv.isfinite().all()
    assert found.isfinite().all()
    assert (Threat(norm, 10.0).excess(adv, x) <= 1e-6).all()


def test_the_model_and_the_global_generator_are_left_as_they_were():
    model, x, y = network()
    model.train()
    model[1].eval()
    before = copy.deepcopy(model.state_dict()), torch.get_rng_state(), x.clone()
    with torch.no_grad():
        adv, _ = FAB(steps=3, restarts=2).nearest(model, x, y, Threat(), noise())
    assert [part.training for part in model] == [True, False, True, True, True, True, True]
    assert all(torch.equal(value, before[0][name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.equal(x, before[2])
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not adv.requires_grad


def test_an_attack_is_a_value():
    assert ATTACKS["fab-t"]() == FAB(steps=100, restarts=1, targets=9)
    assert ATTACKS["fab"]() == FAB(steps=100, restarts=5, targets=None)
    with pytest.raises(FrozenInstanceError):
        FAB().steps = 3  # type: ignore[misc]


@pytest.mark.parametrize("name", ["steps", "restarts", "targets", "batch"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(HarpError, match=f"fab, {name}: expected at least 1, got 0"):
        FAB(**{name: 0})


def test_a_model_of_one_class_is_refused():
    with pytest.raises(HarpError, match="at least 2 classes"):
        FAB()(nn.Sequential(nn.Flatten(), nn.Linear(4, 1)), images(2), torch.zeros(2).long(), Threat(), noise())
