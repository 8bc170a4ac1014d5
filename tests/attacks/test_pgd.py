import copy
import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from harp.attacks import ATTACKS, PGD
from harp.attacks.losses import LOSSES, divergence
from harp.randomness import generator
from harp.threats import Threat
from tests.attacks.linear import WEIGHTS, images, labels, linear, margins

# One row per registered attack that is PGD: the options under which it finds a linear model's optimum.
TABLE = {
    "fgsm": {},
    "pgd": {"steps": 20},
    "cw": {"steps": 20},
}
L1 = sum(abs(w) for w in WEIGHTS)
L2 = math.sqrt(sum(w * w for w in WEIGHTS))


def noise(seed=0):
    return generator(seed, "attack")


def network():
    """A convolution, batch normalisation kept in eval mode, another one in train mode, and dropout."""
    torch.manual_seed(0)
    features = [nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*features, nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 3)).train()
    model[1].eval()
    return model


@pytest.fixture(params=sorted(TABLE))
def attack(request):
    return ATTACKS[request.param](**TABLE[request.param])


def test_every_registered_attack_that_is_pgd_has_a_row():
    assert TABLE.keys() == {name for name in ATTACKS if isinstance(ATTACKS[name](), PGD)}


def test_the_worst_perturbation_for_inf_is_the_sign_of_the_weights(attack):
    model, x, y = linear(), images(6), labels(6)
    adv = attack(model, x, y, Threat(math.inf, 0.1), noise())
    towards = (1 - 2 * y).view(-1, 1, 1, 1) * torch.tensor(WEIGHTS).sign().view(1, 1, 2, 2)
    assert torch.allclose(adv - x, 0.1 * towards, atol=1e-6)
    assert torch.allclose(margins(model, adv, y), margins(model, x, y) - 0.1 * L1, atol=1e-5)


def test_the_worst_perturbation_for_2_is_along_the_weights():
    model, x, y = linear(), images(6), labels(6)
    adv = PGD(steps=10, start="image")(model, x, y, Threat(2, 0.1), noise())
    towards = (1 - 2 * y).view(-1, 1, 1, 1) * torch.tensor(WEIGHTS).view(1, 1, 2, 2) / L2
    assert torch.allclose(adv - x, 0.1 * towards, atol=1e-6)
    assert torch.allclose(margins(model, adv, y), margins(model, x, y) - 0.1 * L2, atol=1e-5)


def test_every_attack_comes_near_the_optimum_for_2(attack):
    model, x, y = linear(), images(6), labels(6)
    adv = attack(model, x, y, Threat(2, 0.1), noise())
    assert (margins(model, x, y) - margins(model, adv, y)).min() > 0.99 * 0.1 * L2


@pytest.mark.parametrize("norm", [math.inf, 2])
def test_a_gradient_too_small_for_its_square_still_moves(norm):
    model, x, y = linear(scale=1e-20), images(2), labels(2)
    adv = PGD(steps=10, loss="margin", start="image")(model, x, y, Threat(norm, 0.1), noise())
    reach = {math.inf: L1, 2: L2}[norm]
    moved = (margins(model, x, y).double() - margins(model, adv, y).double()) / 1e-20
    assert moved.tolist() == pytest.approx([0.1 * reach] * 2, rel=1e-3)


@given(
    st.sampled_from(sorted(TABLE)),
    st.sampled_from([math.inf, 2]),
    st.sampled_from([0.0, 1e-3, 8 / 255, 0.5, 3.0]),
    st.lists(st.sampled_from([0.0, 0.01, 0.5, 1.0]), min_size=8, max_size=8),
)
def test_no_attack_leaves_ball_or_box(name, norm, eps, pixels):
    threat, x, y = Threat(norm, eps), torch.tensor(pixels).view(2, 1, 2, 2), torch.tensor([0, 1])
    adv = ATTACKS[name](**TABLE[name])(linear(), x, y, threat, noise())
    assert adv.shape == x.shape
    assert adv.dtype == x.dtype
    assert (threat.excess(adv, x) <= 1e-6).all()


def test_fgsm_is_the_step_of_the_sign():
    model, x, y, threat = network().eval(), images(4), labels(4), Threat(math.inf, 0.1)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), x)
    expected = (x + 0.1 * grad.sign()).clamp(0, 1).detach()
    assert torch.allclose(ATTACKS["fgsm"]()(model, x.detach(), y, threat, noise()), expected, atol=1e-6)


def test_modes_buffers_and_gradients_are_left_as_they_were(attack):
    model, x, y = network(), images(4), labels(4)
    modes = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    before = x.clone()
    adv = attack(model, x, y, Threat(math.inf, 0.1), noise())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(param.grad is None for param in model.parameters())
    assert x.grad is None
    assert not x.requires_grad
    assert torch.equal(x, before)
    assert not adv.requires_grad


def test_gradients_already_there_stay(attack):
    model = linear()
    model.get_parameter("1.weight").grad = torch.full([2, 4], 3.0)
    attack(model, images(2), labels(2), Threat(), noise())
    grad = model.get_parameter("1.weight").grad
    assert grad is not None
    assert grad.eq(3).all()


def test_frozen_weights_and_no_grad_do_not_stop_an_attack(attack):
    model, x, y = linear().requires_grad_(False), images(2), labels(2)
    with torch.no_grad():
        adv = attack(model, x, y, Threat(math.inf, 0.1), noise())
    assert torch.allclose(margins(model, adv, y), margins(model, x, y) - 0.1 * L1, atol=1e-5)


def test_the_same_noise_gives_the_same_images(attack):
    model, x, y = network(), images(4), labels(4)
    first, second = (attack(model, x, y, Threat(), noise(3)) for _ in range(2))
    assert torch.equal(first, second)


def test_the_global_generator_neither_matters_nor_moves(attack):
    model, x, y = network(), images(4), labels(4)
    first = attack(model, x, y, Threat(), noise())
    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert torch.equal(attack(model, x, y, Threat(), noise()), first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_halves_of_a_batch_get_the_verdict_of_the_whole(loss):
    model, x, y = network(), images(16), labels(16)
    attack, threat = PGD(steps=5, loss=loss, start="image"), Threat(math.inf, 0.2)
    whole = attack(model, x, y, threat, noise())
    halves = torch.cat([attack(model, x[part], y[part], threat, noise()) for part in (slice(8), slice(8, 16))])
    model.eval()
    assert torch.equal(model(whole).argmax(1), model(halves).argmax(1))
    assert torch.allclose(whole, halves, atol=1e-6)


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_the_best_restart_counts_whatever_the_size_of_the_logits(loss, scale):
    # A short step from a random start: every restart ends elsewhere. Of two classes a wrong answer has the higher loss.
    model, x, y = linear(bias=0.3, scale=scale), images(32), labels(32)
    threat, single, shared = Threat(math.inf, 0.1), PGD(steps=1, step=0.1, loss=loss), noise()
    with torch.no_grad():
        alone = torch.stack([LOSSES[loss](model(single(model, x, y, threat, shared)), y) for _ in range(4)])
        adv = PGD(steps=1, step=0.1, restarts=4, loss=loss)(model, x, y, threat, noise())
        assert torch.allclose(LOSSES[loss](model(adv), y), alone.amax(0), rtol=1e-4, atol=3e-5)


def test_more_restarts_are_never_worse():
    model, x, y, threat = network(), images(32), labels(32), Threat(math.inf, 0.2)
    right = []
    for restarts in (1, 2, 5):
        adv = PGD(steps=2, restarts=restarts)(model, x, y, threat, noise())
        model.eval()
        right.append(model(adv).argmax(1) == y)
        model.train()
    assert not (right[1] & ~right[0]).any()
    assert not (right[2] & ~right[1]).any()


class Step(nn.Module):
    """Logits of class 0 first: wrong with a loss of 0.74 above one half, right with a loss of 1.03 below."""

    def forward(self, x):
        wrong, right = torch.tensor([0.0, 0.1, -9.0]), torch.tensor([0.1, 0.0, 0.0])
        return torch.where(x.flatten(1)[:, :1] > 0.5, wrong, right)


class Hole(nn.Module):
    """Class 0 above one half, and no numbers at all below."""

    def forward(self, x):
        return torch.where(x.flatten(1)[:, :1] > 0.5, torch.tensor([0.1, 0.0]), torch.nan)


def test_no_number_counts_as_a_wrong_answer():
    model, x, y = Hole(), torch.full([16, 1, 1, 1], 0.5), torch.zeros(16, dtype=torch.long)
    adv = PGD(steps=0, restarts=40)(model, x, y, Threat(math.inf, 0.1), noise())
    assert (adv <= 0.5).all()


def test_a_wrong_answer_beats_a_higher_loss():
    model, x, y = Step(), torch.full([16, 1, 1, 1], 0.5), torch.zeros(16, dtype=torch.long)
    # Without steps each restart is a random start, wrong with probability 1/2; of 40 one is.
    adv = PGD(steps=0, restarts=40)(model, x, y, Threat(math.inf, 0.1), noise())
    assert (model(adv).argmax(1) != y).all()


@pytest.mark.parametrize("norm", [math.inf, 2])
def test_kl_goes_from_a_gaussian_start_to_the_nearer_end_and_needs_no_label(norm):
    model, x, y, threat = linear(), images(16), labels(16), Threat(norm, 0.1)
    attack = PGD(steps=20, loss="kl", start="gaussian")
    adv = attack(model, x, y, threat, noise())
    assert torch.equal(adv, attack(model, x, 1 - y, threat, noise()))
    # The divergence grows from 0 at the image to both sides.
    start = torch.empty(16, 4).normal_(generator=noise()) @ torch.tensor(WEIGHTS)
    moved = (adv - x).flatten(1) @ torch.tensor(WEIGHTS)
    reach = {math.inf: L1, 2: L2}[norm]
    assert moved.tolist() == pytest.approx((0.1 * reach * start.sign()).tolist(), rel=1e-4)


def test_the_best_restart_counts_for_kl():
    # Of an image's two ends the one beyond the boundary, or the more surprising one: some restart finds it.
    model, x, y, threat = linear(bias=0.5), images(16), labels(16), Threat(math.inf, 0.1)
    with torch.no_grad():
        y = model(x).argmax(1)
        best = PGD(steps=20, loss="kl", start="gaussian", restarts=12)(model, x, y, threat, noise())
        m = model(x)[:, 1] - model(x)[:, 0]
        ends = torch.stack([m - 0.1 * L1, m + 0.1 * L1])
        logits = torch.stack([-ends / 2, ends / 2], -1)
        surprise = torch.stack([divergence(end, model(x)) for end in logits])
        assert divergence(model(best), model(x)).tolist() == pytest.approx(surprise.amax(0).tolist(), rel=1e-4)


def test_a_gaussian_start_is_a_thousandth_of_normal_noise_inside_the_threat():
    x, attack = images(64), PGD(steps=0, start="gaussian")
    adv = attack(linear(), x, labels(64), Threat(math.inf, 0.1), noise())
    assert torch.allclose(adv - x, 1e-3 * torch.empty_like(x).normal_(generator=noise()), atol=1e-7)
    for norm in (math.inf, 2):
        threat = Threat(norm, 5e-4)
        assert (threat.excess(attack(linear(), x, labels(64), threat, noise()), x) <= 1e-7).all()


def test_an_attack_is_a_value():
    assert ATTACKS["pgd"](steps=20) == PGD(steps=20)
    assert ATTACKS["cw"]() == PGD(steps=20, loss="margin")
    assert ATTACKS["fgsm"]() == PGD(steps=1, step=1.0, start="image")
    with pytest.raises(FrozenInstanceError):
        PGD().steps = 3  # type: ignore[misc]


@pytest.mark.parametrize("start", ["random", "gaussian"])
@pytest.mark.parametrize("norm", [math.inf, 2])
def test_a_start_may_leave_the_box_until_the_first_step(start, norm):
    threat, seen = Threat(norm, 0.5), []
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    x, y = torch.ones(64, 1, 2, 2), torch.zeros(64, dtype=torch.int64)
    for inside in (True, False):
        seen.clear()
        adv = PGD(steps=2, start=start, start_in_box=inside)(model, x, y, threat, generator(0, "start"))
        assert (seen[0].max() <= 1) == inside
        assert max(float(images.max()) for images in (*seen[1:], adv)) <= 1


def test_without_a_step_the_start_stays_in_the_box():
    x, y = torch.ones(8, 1, 2, 2), torch.zeros(8, dtype=torch.int64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    adv = PGD(steps=0, start_in_box=False)(model, x, y, Threat(eps=0.5), generator(0, "start"))
    assert float(adv.max()) <= 1


def test_without_noise_the_same_call_gives_the_same_images():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(8, 3)), torch.rand(4, 2, 2, 2)
    y = torch.zeros(4, dtype=torch.int64)
    first, again = (PGD(steps=2)(model, x, y, Threat(eps=0.1)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, x)
