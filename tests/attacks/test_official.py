"""The package's faults, each shown and then repaired; and that its images are its own wherever it has none."""

import copy
import logging
import math
import random
import sys
import warnings

import numpy
import pyautoattack
import pytest
import torch
from torch import nn

from harp.attacks import CWL2, PGD, AttackWarning, Official, Quick, Square, fits
from harp.attacks.guards import Heard
from harp.attacks.official import NORMS
from harp.attacks.surrogate import Surrogate
from harp.attacks.versions import VERSIONS
from harp.errors import HarpError
from harp.evaluation import evaluate
from harp.randomness import generator
from harp.threats import Threat
from tests.attacks.linear import images, labels, linear

NAMES = tuple(VERSIONS["plus"])
INF = Threat(math.inf, 0.05)


def network(classes=10, channels=1, size=8):
    """A convolution and a linear layer, in eval mode."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * size * size, classes)]
    return nn.Sequential(*layers).eval()


def points(model, n=6, channels=1, size=8):
    """Random images and the model's own answers, which are thereby right."""
    x = torch.rand(n, channels, size, size, generator=generator(0, "points"))
    with torch.no_grad():
        return x, model(x).argmax(1)


def version_of(name):
    """The cheapest version that has an attack."""
    return "standard" if name in VERSIONS["standard"] else "plus"


def theirs(name, model, x, y, threat=INF, batch=None, targets=9, **options):
    """The bare package, all faults included, with no more targets than `targets`."""
    norm = NORMS[threat.norm]
    auto = pyautoattack.AutoAttack(model, norm=norm, eps=threat.eps, seed=0, version=version_of(name))
    auto.verbose, auto.attacks_to_run = False, [name]
    auto.fab.n_target_classes = auto.apgd_targeted.n_target_classes = min(auto.apgd_targeted.n_target_classes, targets)
    return auto.run_standard_evaluation(x, y, batch_size=batch or len(x), **options)[0]


def ours(name, model, x, y, threat=INF, batch=None, version=None, quiet=True):
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore", AttackWarning)
        return Official(name, version or version_of(name), batch=batch)(model, x, y, threat, torch.Generator())


def moved(adv, x):
    return (adv != x).flatten(1).any(1)


def wrong(model, adv, y):
    with torch.no_grad():
        return model(adv).argmax(1) != y


# Radii at which no point of the network holds: those that hold cost every step, restart and query there is.
RADII = {math.inf: 0.3, 2: 3.0, 1: 12.0}
ALL = [(name, norm, eps) for norm, eps in RADII.items() for name in VERSIONS["standard" if norm == 1 else "plus"]]
HALF = [("apgd-ce", math.inf, 0.15), ("apgd-t", 2, 0.7)]
FEW = [*HALF, ("square", 1, 12.0), ("fab-t", math.inf, 0.3), ("apgd-dlr", 2, 3.0)]
CASES = [pytest.param(*one, marks=() if one in FEW else pytest.mark.slow) for one in ALL + HALF]


@pytest.mark.parametrize(("name", "norm", "eps"), CASES)
def test_images_are_the_packages_own_bit_for_bit(name, norm, eps):
    model, threat = network(classes=4), Threat(norm, eps)
    (x, y), batch = points(model, n=5), 3 if (name, norm, eps) in HALF else None
    adv, bare = ours(name, model, x, y, threat, batch), theirs(name, model, x, y, threat, batch, targets=3)
    inside = threat.excess(bare, x) <= 1e-6  # all of them, but for rounding under norm 1
    assert inside.all() or norm == 1
    assert torch.equal(adv[inside], bare[inside])
    assert torch.allclose(adv, bare, atol=1e-6)
    assert torch.equal(moved(adv, x), wrong(model, adv, y))
    assert moved(adv, x).all() == ((name, norm, eps) in ALL)
    assert moved(adv, x).any()
    assert (threat.excess(adv, x) <= 1e-6).all()


def test_rand_averages_over_the_networks_own_noise_and_repeats_itself():
    model, x, y = nn.Sequential(Noisy(), *linear()), images(1), labels(1)
    first = ours("apgd-ce", model, x, y, version="rand")
    torch.manual_seed(99)
    assert torch.equal(ours("apgd-ce", model, x, y, version="rand"), first)


def test_shards_have_the_images_of_one_call_where_theirs_cannot_be_resumed(tmp_path):
    model = network()
    x, y = points(model, n=8)
    whole = theirs("apgd-ce", model, x, y, batch=4, state_path=tmp_path / "state")
    assert wrong(model, whole, y).any()
    with pytest.raises(ValueError, match="You are probably using the wrong state file"):
        theirs("apgd-ce", model, x, y, batch=4, state_path=tmp_path / "state")
    shards = [ours("apgd-ce", model, x[part], y[part], batch=4) for part in (slice(4), slice(4, 8))]
    assert torch.equal(torch.cat(shards), whole)


class Noisy(nn.Module):
    def forward(self, x):
        return x + 0.01 * torch.randn_like(x)


def in_train_mode():
    model = nn.Sequential(*network()[:2], nn.BatchNorm2d(4), nn.Dropout(), *network()[2:]).train()
    model[0].eval()
    return model


def test_a_network_in_train_mode_keeps_modes_and_statistics():
    model, judge = in_train_mode(), in_train_mode().eval()
    x, y = points(judge)
    state = copy.deepcopy(model.state_dict())
    adv = ours("apgd-ce", model, x, y)
    assert [module.training for module in model] == [False, *[True] * 5]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(adv, theirs("apgd-ce", judge, x, y))
    theirs("apgd-ce", model, x, y)
    assert not torch.equal(model[2].running_mean, state["2.running_mean"])


@pytest.mark.parametrize("name", ["fab", "fab-t"])
def test_gradients_of_weights_stay_as_they_were(name):
    model = network()
    x, y = points(model, n=2)
    model[0].bias.requires_grad_(False)
    model[3].weight.grad = torch.full_like(model[3].weight, 3.0)
    ours(name, model, x, y)
    assert model[0].weight.grad is None
    assert model[3].weight.grad.eq(3).all()
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True]
    theirs(name, model, x, y)
    assert not model[3].weight.grad.eq(3).all()


def centred(classes):
    """A linear model of images [n, 1, 2, 2] whose logits are all 0 at the grey image."""
    torch.manual_seed(classes)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, classes)).eval().requires_grad_(False)
    model.get_parameter("1.bias").copy_(-0.5 * model.get_parameter("1.weight").sum(1))
    return model


def reach(model, x, y):
    """The least inf-norm that makes a linear model wrong, [n]."""
    gap = model(x).gather(1, y[:, None]) - model(x)
    least = gap / (model[1].weight[y][:, None] - model[1].weight).abs().sum(2)
    return least.scatter(1, y[:, None], math.inf).amin(1)


# Those whose bare self fails: no target is that far down, or DLR has no such logit.
FAULTY = {2: ("apgd-dlr", "apgd-t", "fab-t"), 3: ("apgd-t", "fab-t"), 5: ("apgd-t", "fab-t")}


@pytest.mark.parametrize(("name", "classes"), [(name, classes) for classes in FAULTY for name in FAULTY[classes]])
def test_a_small_head_is_attacked_in_full(name, classes):
    model, x = centred(classes), images(8, 0.4, 0.6)
    y = model(x).argmax(1)
    near = reach(model, x, y)
    threat, expected = Threat(math.inf, float(near.sort()[0][5:7].mean())), near <= near.sort()[0][5]
    with pytest.raises(IndexError):
        theirs(name, model, x, y, threat)
    adv = ours(name, model, x, y, threat)
    assert torch.equal(wrong(model, adv, y), expected)
    assert torch.equal(moved(adv, x), expected)


@pytest.mark.parametrize(("name", "classes"), [("apgd-dlr", 2), ("apgd-t", 2), ("apgd-t", 3)])
def test_a_loss_that_stands_in_for_another_is_told(name, classes):
    model = network(classes)
    x, y = points(model, n=1)
    with pytest.warns(AttackWarning, match=f"^{name}, classes: its loss is not defined for {classes}; the margin"):
        ours(name, model, x, y, quiet=False)


def test_one_class_is_refused():
    with pytest.raises(HarpError, match="two classes at least; got 1"):
        ours("apgd-ce", centred(1), images(2), labels(2))


def generators():
    numbers = numpy.random.get_state(legacy=False)["state"]["key"]
    return random.getstate(), numbers.tolist(), torch.get_rng_state().tolist()


def test_every_global_generator_stays_where_it_was(monkeypatch):
    model = network()
    seeds: list[int] = []
    x, y = points(model, n=2)
    torch.manual_seed(5)
    before = generators()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    ours("apgd-ce", model, x, y)
    assert generators() == before
    assert seeds[-1] == 5  # at which a CUDA that begins later would begin
    theirs("apgd-ce", model, x, y)
    assert generators() != before


def test_the_trace_function_stays():
    model, before = network(), sys.gettrace()
    x, y = points(model, n=1)

    def trace(frame, event, arg):
        return None

    try:
        sys.settrace(trace)
        ours("apgd-ce", model, x, y)
        assert sys.gettrace() is trace
        theirs("apgd-ce", model, x, y)
        assert sys.gettrace() is None
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_gradient_mode_stays_and_does_not_matter(enabled):
    model = network()
    x, y = points(model, n=3)
    with torch.set_grad_enabled(enabled):
        adv = ours("fab-t", model, x.clone().requires_grad_(enabled), y)
        assert torch.is_grad_enabled() == enabled
    assert torch.equal(adv, theirs("fab-t", model, x, y))
    assert not adv.requires_grad


class Failing(nn.Module):
    """Answers a few times, then no more."""

    def __init__(self, model, answers):
        super().__init__()
        self.model, self.answers = model, answers

    def forward(self, x):
        self.answers -= 1
        if self.answers < 0:
            raise RuntimeError("out of answers")
        return self.model(x)


@pytest.mark.parametrize("answers", [0, 7, 30])  # clean logits, the check that traces, the attack
def test_an_error_inside_leaves_everything_as_it_was(answers):
    model = in_train_mode()
    x, y = points(copy.deepcopy(model).eval(), n=2)
    torch.manual_seed(5)
    before, trace = generators(), sys.gettrace()
    with pytest.raises(RuntimeError, match="out of answers"):
        ours("apgd-ce", Failing(model, answers), x, y)
    assert generators() == before
    assert sys.gettrace() is trace
    assert [module.training for module in model] == [False, *[True] * 5]
    assert all(p.requires_grad for p in model.parameters())


def test_the_device_is_that_of_the_images(monkeypatch):
    seen = []

    class Spied(pyautoattack.AutoAttack):
        def __init__(self, *args, device, **options):
            seen.append(device)
            super().__init__(*args, device=device, **options)

    monkeypatch.setattr(pyautoattack, "AutoAttack", Spied)
    model = network()
    x, y = points(model, n=1)
    ours("apgd-ce", model, x, y)
    assert seen == [x.device]


class Dynamic(nn.Module):
    """Computes a gradient on the way to its answer."""

    def forward(self, x):
        with torch.enable_grad():
            inner = x.detach().requires_grad_()
            torch.autograd.grad(inner.sum(), inner)
        return x


# What is put before or behind the network, and what is said of it.
SUSPECT = {
    "randomized": lambda: nn.Sequential(Noisy(), *network(4)),
    "logits": lambda: nn.Sequential(*network(4), nn.Softmax(1)),
    "dynamic": lambda: nn.Sequential(Dynamic(), *network(4)),
    "gradients": lambda: nn.Sequential(nn.Hardtanh(2.0, 3.0), *network(4)),
}


@pytest.mark.parametrize("check", SUSPECT)
def test_what_they_log_per_batch_is_warned_of_once(check, caplog):
    model = SUSPECT[check]()
    x, _ = points(network(), n=2)
    y = model(x).argmax(1)
    with caplog.at_level(logging.WARNING, "auto-attack"), warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs("apgd-t", model, x, y, batch=1, targets=3)
        assert len(caplog.records) >= (2 if check == "gradients" else 1)
        caplog.clear()
    with caplog.at_level(logging.WARNING, "auto-attack"), pytest.warns(AttackWarning) as record:
        ours("apgd-t", model, x, y, batch=1, quiet=False)
    assert not caplog.records
    texts = [str(warning.message) for warning in record]
    assert [text.startswith(f"apgd-t, {check}: ") for text in texts].count(True) == 1
    assert len(set(texts)) == len(texts)


def test_a_sound_network_gets_no_warning_even_after_a_dynamic_one(caplog):
    model = network()
    x, y = points(model, n=1)
    ours("apgd-ce", SUSPECT["dynamic"](), x, y % 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours("apgd-ce", model, x, y, quiet=False)
    theirs("apgd-ce", SUSPECT["dynamic"](), x, y % 4)
    caplog.clear()
    theirs("apgd-ce", model, x, y)
    assert "dynamic defense" in caplog.text


def test_a_warning_that_is_new_is_passed_on():
    heard = Heard()
    heard.warning("something else")
    heard.warning("something else")
    heard.info("not this")
    assert heard.notes == ["something else"]


@pytest.mark.parametrize(
    ("options", "threat", "dtype", "said"),
    [
        ({"name": "apgd-ce"}, Threat(2, 1.0, low=-1.0), torch.float32, r"no other box; got \[-1.0, 1.0\]"),
        ({"name": "apgd-ce"}, INF, torch.float64, r"float32; got images of torch.float64: use .float\(\)"),
        ({"name": "apgd-ce", "version": "plus"}, Threat(1, 1.0), torch.float32, "for norm 1 there is: standard"),
        ({"name": "square"}, Threat(2, 1.0), torch.float32, "five rows at least; got 2"),
        ({"name": "apgd-tt"}, INF, torch.float32, "no attack 'apgd-tt'; did you mean 'apgd-t'"),
        ({"name": "fab"}, INF, torch.float32, "'standard' has no attack 'fab'; did you mean 'fab-t'"),
        ({"name": "apgd-ce", "version": "std"}, INF, torch.float32, "no version 'std' of AutoAttack; .*standard"),
    ],
)
def test_what_the_package_does_not_know_is_refused(options, threat, dtype, said):
    with pytest.raises(HarpError, match=said):
        Official(**options)(linear(), images(2).to(dtype), labels(2), threat, torch.Generator())


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(HarpError, match=r"^AutoAttack needs pyautoattack; install it with .*harp-pruning\[attacks\]"):
        ours("apgd-ce", linear(), images(2), labels(2))


def test_squares_on_fewer_than_five_rows_divide_by_zero():
    with pytest.raises(ZeroDivisionError):
        theirs("square", linear(bias=3.0), images(2), torch.ones(2, dtype=torch.long), Threat(2, 0.1))


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_no_point_and_a_single_one(name, n):
    model, threat = network(), Threat(math.inf, 0.1)
    x, y = points(model)
    adv = ours(name, model, x[:n], y[:n], threat)
    assert adv.shape == (n, 1, 8, 8)
    assert wrong(model, adv, y[:n]).all()
    if not n:
        with pytest.raises((RuntimeError, IndexError)):
            theirs(name, model, x[:n], y[:n], threat)


def test_the_last_batch_may_hold_one_point():
    model = network()
    x, y = points(model, n=3)
    assert torch.equal(ours("apgd-t", model, x, y, batch=2), theirs("apgd-t", model, x, y, batch=2))


@pytest.mark.parametrize("norm", RADII, ids=str)
@pytest.mark.parametrize("name", VERSIONS["standard"])
def test_a_radius_of_0_gives_the_images_back(name, norm):
    model = network()
    x, y = points(model)
    assert torch.equal(ours(name, model, x, y, Threat(norm, 0.0)), x)


LAYOUTS = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["apgd-ce", "square"])
def test_the_layout_of_the_images_does_not_matter(name, layout):
    model, threat = network(channels=3), Threat(2, 3.0)
    x, y = points(model, channels=3)
    turned = LAYOUTS[layout](x)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        theirs(name, model, turned, y, threat)
    assert torch.equal(ours(name, model, turned, y, threat), ours(name, model, x, y, threat))


class Bursting(nn.Module):
    """The network's logits, all NaN where the image's first pixel is above 0.9."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).masked_fill(x[:, 0, :1, 0] > 0.9, math.nan)


def test_points_without_finite_logits_come_back_unchanged_and_the_others_are_attacked(caplog):
    model, threat = network(), Threat(math.inf, 0.1)
    x, y = points(model)
    x[:, 0, 0, 0] = 0.5
    y = model(x).argmax(1)
    x[1, 0, 0, 0] = 1.0
    y[1] = 0  # where argmax finds the first NaN: right, to the package
    with pytest.warns(AttackWarning, match="apgd-ce, logits: some are not finite; those points are not attacked"):
        adv = ours("apgd-ce", Bursting(model), x, y, threat, quiet=False)
    assert moved(adv, x).tolist() == [True, False, True, True, True, True]
    with pytest.warns(AttackWarning, match="not finite"):
        adv = ours("apgd-ce", Bursting(model), x[1:2], y[1:2], threat, quiet=False)
    assert torch.equal(adv, x[1:2])
    assert not wrong(Bursting(model), theirs("apgd-ce", Bursting(model), x, y, threat), y)[1]
    assert not caplog.records  # robust, and not a word


class Rooted(nn.Module):
    """The identity, with a gradient of NaN."""

    def forward(self, x):
        return x + (0 * x[:, :, :1, :1]).sqrt()


def test_an_image_of_nan_is_no_result():
    model = nn.Sequential(Rooted(), *network())
    x, y = points(model)
    assert theirs("apgd-ce", model, x, y, Threat(2, 0.1)).isnan().any()
    with pytest.warns(AttackWarning, match="apgd-ce, threat: images that were not numbers"):
        adv = ours("apgd-ce", model, x, y, Threat(2, 0.1), quiet=False)
    assert torch.equal(adv, x)


def test_images_just_outside_the_1_ball_are_drawn_in():
    model, threat = network(channels=3, size=32), Threat(1, 12.0)
    x, y = points(model, n=3, channels=3, size=32)
    bare = theirs("apgd-t", model, x, y, threat)
    assert ((bare - x).double().abs().flatten(1).sum(1) > 12 + 2e-5).any()
    adv = ours("apgd-t", model, x, y, threat)
    assert (threat.excess(adv, x) <= 1e-6).all()
    assert wrong(model, adv, y).all()
    assert torch.allclose(adv, bare, atol=1e-6)


def test_the_original_of_a_surrogate_is_attacked():
    model = network()
    x, y = points(model, n=3)
    quick = Surrogate(linear(), images(2))
    quick.__dict__["original"] = model
    assert torch.equal(ours("apgd-ce", quick, x, y), ours("apgd-ce", model, x, y))


class Severed(nn.Module):
    """The network's logits, to which autograd knows no way from the image."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).detach()


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "fab-t"])
def test_where_no_gradient_leads_back_attacks_by_gradient_say_so_and_the_others_run(name):
    model = Severed(network(4))
    x, y = points(model)
    with pytest.raises(RuntimeError):
        theirs(name, model, x, y, targets=3)
    with pytest.warns(AttackWarning, match=f"^{name}, gradients: autograd knows no way .* the attack was not run"):
        adv = ours(name, model, x, y, quiet=False)
    assert torch.equal(adv, x)


def test_square_needs_no_gradient():
    model, threat = network(4), Threat(math.inf, 0.3)
    x, y = points(model)
    adv = ours("square", Severed(model), x, y, threat)
    assert torch.equal(adv, ours("square", model, x, y, threat))
    assert wrong(model, adv, y).all()


class Resetting(Severed):
    """Sets torch's generator at each pass."""

    def forward(self, x):
        torch.manual_seed(0)
        return self.model(x)


@pytest.mark.slow
def test_a_network_that_sets_the_generator_does_not_make_square_repeat_itself():
    model, threat = network(4), Threat(math.inf, 0.2)
    x, y = points(model)
    plain = ours("square", model, x, y, threat)
    with pytest.warns(AttackWarning, match="square, randomness: the network sets torch's generator at each pass"):
        adv = ours("square", Resetting(model), x, y, threat, quiet=False)
    assert torch.equal(adv, plain)
    assert wrong(model, adv, y).any()


def test_what_a_call_refuses_is_known_before_any_attack_runs():
    x, attack = images(2), Official("square")
    with pytest.raises(HarpError, match="five rows at least; got 2"):
        fits(attack, x, Threat(2, 1.0))
    with pytest.raises(HarpError, match="five rows at least; got 2"):
        evaluate(linear(), [(x, labels(2))], {"never": never, "square": attack}, Threat(2, 1.0))
    fits(attack, x, INF)
    fits(never, x, INF)
    with pytest.raises(HarpError, match="square: expected images"):
        fits(Quick(Square()), x.flatten(1), INF)
    with pytest.raises(HarpError, match="know norms inf and 2"):
        fits(PGD(), x, Threat(1, 1.0))
    with pytest.raises(HarpError, match="cw-l2: expected norm 2"):
        fits(CWL2(), x, INF)


def never(model, x, y, threat, noise):
    raise AssertionError("ran before what cannot run was refused")


def test_an_attack_is_a_value():
    assert Official("apgd-ce") == Official("apgd-ce", "standard", seed=0, batch=None)
    assert len({Official("apgd-ce"), Official("apgd-ce"), Official("square")}) == 2
