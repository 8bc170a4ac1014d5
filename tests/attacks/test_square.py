import copy
import math

import pytest
import torch
from pyautoattack.square import SquareAttack
from torch import nn

from harp.attacks import ATTACKS, Square
from harp.attacks.square import HALVINGS
from harp.errors import HarpError
from harp.randomness import Keyed, generator
from harp.threats import Threat
from tests.attacks.linear import affine, distances

NORMS = [math.inf, 2, 1]
NAMES = {math.inf: "Linf", 2: "L2", 1: "L1"}
# Radii at which the network below is broken for about half of the images.
RADII = {math.inf: 0.05, 2: 0.5, 1: 2.5}


class Recorder(nn.Module):
    """A network that remembers what it was asked."""

    def __init__(self, model):
        super().__init__()
        self.model, self.asked = model, []

    def forward(self, x):
        assert not torch.is_grad_enabled()
        self.asked.append(x.clone())
        return self.model(x)


def network(side=8):
    torch.manual_seed(0)
    features = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*features, nn.Dropout(), nn.Linear(8 * ((side - 1) // 2) ** 2, 4))


def problem(n, side=8):
    """A network, images and its own answers to them."""
    model, x = network(side).eval(), torch.rand(n, 3, side, side, generator=generator(0, "images"))
    return model, x, model(x).argmax(1)


def points(n):
    return Keyed.of(torch.arange(n), 0, "square")


def broken(model, adv, y):
    return model(adv).argmax(1) != y


def uphill(classes, shape, seed):
    """A linear model of 0 for class 0 whose other logits all grow with the same signs of the pixels, and the signs."""
    numbers, size = generator(seed, "uphill"), math.prod(shape)
    signs = torch.randint(0, 2, [size], generator=numbers) * 2.0 - 1
    model = nn.Sequential(nn.Flatten(), nn.Linear(size, classes)).double()
    with torch.no_grad():
        model.get_parameter("1.weight").copy_(signs * (0.5 + torch.rand(classes, size, generator=numbers)))
        model.get_parameter("1.bias").copy_(-torch.rand(classes, generator=numbers) - size)
        model.get_parameter("1.weight")[0], model.get_parameter("1.bias")[0] = 0, 0
    return model, signs.double().view(1, *shape)


@pytest.mark.parametrize("classes", range(2, 11))
def test_the_verdict_for_inf_is_that_of_the_corner(classes):
    # The corner of the ball along the signs is the worst image for every class at once, and of two images that differ
    # in one pixel the one nearer to it has the smaller margin. So a run is there once each pixel was drawn alone with
    # the right signs, 1 chance in at most 32 a move: of 750 such moves, with a probability of 1 - 1e-8 or so.
    shape = [(1, 3, 3), (2, 2, 3), (1, 1, 7), (3, 2, 2)][classes % 4]
    model, signs = uphill(classes, shape, seed=classes)
    x, eps = torch.rand(8, *shape, generator=generator(0, "x"), dtype=torch.double), 0.2
    y = torch.zeros(8, dtype=torch.long)
    wanted = eps * torch.tensor([0.999, 1.001] * 4, dtype=torch.double)
    # Along the signs the distance falls exactly as fast as one goes.
    x = x + (distances(model, x, y, math.inf).amin(1) - wanted).view(-1, 1, 1, 1) * signs
    threat = Threat(math.inf, eps, low=-9, high=9)
    adv = Square(queries=800)(model, x, y, threat, generator(0, "noise"))
    assert torch.equal(broken(model, adv, y), wanted < eps)
    assert torch.equal((adv != x).flatten(1).any(1), wanted < eps)
    assert (threat.excess(adv, x) <= 1e-6).all()


@pytest.mark.parametrize("norm", [2, 1])
@pytest.mark.parametrize(("classes", "shape"), [(2, (1, 6, 6)), (5, (3, 5, 9)), (10, (2, 8, 8))])
def test_for_2_and_1_what_is_near_breaks_and_what_is_far_does_not(classes, shape, norm):
    model = affine(classes, shape, seed=classes)
    x = torch.rand(24, *shape, generator=generator(0, "x"), dtype=torch.double)
    y = model(x).argmax(1)
    far = distances(model, x, y, norm).amin(1)
    threat = Threat(norm, float(far.median()))
    adv = Square(queries=300)(model, x, y, threat, points(24))
    found = broken(model, adv, y)
    assert not found[far > threat.eps].any()
    assert found[far < threat.eps / 3].all()
    assert (far < threat.eps / 3).sum() >= 2
    assert (threat.excess(adv, x) <= 1e-6).all()


@pytest.mark.parametrize("norm", NORMS)
def test_the_authors_attack_breaks_as_many(norm):
    model, x, y = problem(300)
    threat = Threat(norm, RADII[norm])
    here = broken(model, Square(queries=60)(model, x, y, threat, points(300)), y)
    with torch.random.fork_rng():
        attack = SquareAttack(model, norm=NAMES[norm], n_queries=60, eps=threat.eps, resc_schedule=False)
        there = broken(model, attack.perturb(x, y), y)
    assert 0.1 < here.float().mean() < 0.9
    # Two binomial counts of the same rate differ by a deviation of at most sqrt(300 / 2) = 12.
    assert abs(here.sum() - there.sum()) < 3 * 12.3


@pytest.mark.parametrize("norm", NORMS)
def test_a_point_has_its_own_images_whatever_the_batch(norm):
    model, x, y = problem(12)
    threat, noise = Threat(norm, RADII[norm]), points(12)
    whole = Square(queries=20, restarts=2)(model, x, y, threat, noise)
    assert 0 < broken(model, whole, y).sum() < 12
    for batch, parts in ((None, 2), (1, 1), (5, 1), (None, 12)):
        attack = Square(queries=20, restarts=2, batch=batch)
        advs = [attack(model, x[part], y[part], threat, noise.take(part)) for part in torch.arange(12).chunk(parts)]
        assert torch.allclose(torch.cat(advs), whole, atol=1e-6)


def test_the_same_noise_gives_the_same_images_and_other_noise_others():
    model, x, y = problem(16)
    first, again, other = (
        Square(queries=40)(model, x, y, Threat(math.inf, 0.1), generator(seed, "noise")) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("batch", [None, 3])
def test_what_is_found_costs_no_more_queries(batch):
    # Labels 0 the model never gives, labels 1 always.
    constant = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    nn.init.zeros_(constant.get_parameter("1.weight"))
    constant[1].bias.data = torch.tensor([0.0, 1.0])
    model, x, y = Recorder(constant), torch.rand(10, 1, 2, 2), torch.arange(10) % 2
    adv = Square(queries=15, restarts=2, batch=batch)(model, x, y, Threat(math.inf, 0.1), points(10))
    # A query and a verdict for each label 0, every query for each label 1.
    assert sum(map(len, model.asked)) == 5 * 2 + 5 * 15 * 2
    assert torch.equal((adv != x).flatten(1).any(1), y == 0)


def test_a_tie_is_for_the_judge_to_decide_and_no_number_is_wrong():
    even = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    nn.init.zeros_(even.get_parameter("1.weight"))
    nn.init.zeros_(even.get_parameter("1.bias"))
    x, threat = torch.rand(2, 1, 2, 2), Threat(math.inf, 0.1)
    adv = Square(queries=5)(even, x, torch.tensor([0, 1]), threat, points(2))
    assert (adv != x).flatten(1).any(1).tolist() == [False, True]
    nn.init.constant_(even.get_parameter("1.bias"), math.nan)
    assert (Square(queries=5)(even, x, torch.tensor([0, 1]), threat, points(2)) != x).flatten(1).any(1).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_run_changes_windows_of_its_best_image_which_only_gets_better(norm):
    side, queries = 12, 70
    linear = affine(2, (1, side, side), seed=1).float()
    linear.get_parameter("1.bias").data += torch.tensor([1000.0, 0.0])
    model, x, y = Recorder(linear), torch.rand(1, 1, side, side), torch.zeros(1, dtype=torch.long)
    Square(queries=queries)(model, x, y, Threat(norm, 1.0, low=-9, high=9), points(1))
    assert len(model.asked) == queries
    best = model.asked[0]
    for move, adv in enumerate(model.asked[1:]):
        share = 0.8 / 2 ** sum(move > halving for halving in HALVINGS)
        longest = round(math.sqrt(share) * side)
        changed = (adv - best).abs().gt(1e-6).nonzero()
        if norm == math.inf and len(changed):
            assert (changed.amax(0) - changed.amin(0)).max() < max(longest, 1)
        value, top = (linear(image).diff().item() for image in (adv, best))
        best = adv if value > top else best
    assert linear(best).diff() > linear(model.asked[0]).diff() + 1


def test_every_restart_begins_anew():
    linear = affine(2, (1, 4, 6), seed=0).float()
    linear.get_parameter("1.bias").data += torch.tensor([1000.0, 0.0])
    model, x = Recorder(linear), torch.full([3, 1, 4, 6], 0.5)
    Square(queries=1, restarts=6)(model, x, torch.zeros(3, dtype=torch.long), Threat(math.inf, 0.1), points(3))
    starts = torch.stack(model.asked)  # [restart, point, ...]
    assert torch.equal(starts, starts[:, :, :, :1].expand_as(starts))
    assert torch.allclose((starts - 0.5).abs(), torch.full_like(starts, 0.1))
    assert len({tuple(start.flatten().tolist()) for start in starts.flatten(0, 1)}) > 10


def test_modes_weights_and_gradients_are_left_as_they_were():
    model, x, y = problem(6)
    model.train()
    model[1].eval()
    state, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    before = x.clone()
    Square(queries=10)(model, x, y, Threat(math.inf, 0.1), generator(0, "noise"))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.equal(x, before)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(HarpError, match="at least 1 query"):
        Square(queries=0)
    with pytest.raises(HarpError, match="p_init"):
        Square(p_init=1.5)
    with pytest.raises(HarpError, match=r"n, c, h, w"):
        Square()(nn.Linear(4, 2), torch.rand(3, 4), torch.zeros(3, dtype=torch.long), Threat(), points(3))


def test_the_registered_attack():
    assert ATTACKS["square"]() == Square(queries=5000, restarts=1, p_init=0.8)
    assert ATTACKS["square"](queries=10, restarts=3) == Square(queries=10, restarts=3)
