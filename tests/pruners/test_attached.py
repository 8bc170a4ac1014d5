"""The same bits from a loop that knows nothing of pruning as from the explicit one."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from harp.errors import HarpError
from harp.pruners import Harp, Hydra, Masked, Pruner
from harp.sparsity import Budget, Masks, find_sites
from harp.training import sgd

X = torch.rand(6, 8, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 3


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def pruner_of(kind, model):
    sites = find_sites(model)
    if kind == "dense":
        return Pruner(sites)
    if kind == "masked":
        return Masked(sites, Masks({site.name: site.param.abs() > 0.1 for site in sites}))
    if kind == "hydra":
        return Hydra(sites, Budget(0.3))
    return Harp(sites, Budget(0.1), steps_per_epoch=2, gamma=0.5)


def explicit(model, pruner, optimiser):
    pruner.push(0)
    for step, x in enumerate(X, 1):
        model.zero_grad()
        optimiser.zero_grad()
        torch.autograd.backward(cross_entropy(model(x), Y) + pruner.penalty())
        pruner.pull()
        optimiser.step()
        pruner.push(step)


def bits(model, pruner):
    flat = dict(model.state_dict())
    for role, params in pruner.trainables().items():
        flat |= {f"{role}.{number}": param.detach() for number, param in enumerate(params)}
    return {name: value.clone() for name, value in flat.items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def expected(kind):
    model = network()
    pruner = pruner_of(kind, model)
    explicit(model, pruner, sgd(model, pruner, lr=0.1))
    return bits(model, pruner)


def attached(kind):
    model = network()
    pruner = pruner_of(kind, model)
    optimiser = sgd(model, pruner, lr=0.1)
    return model, pruner, optimiser, pruner.attach(optimiser)


@pytest.mark.parametrize("kind", ["dense", "masked", "hydra", "harp"])
@pytest.mark.parametrize("zeroed", ["model", "optimiser"])
def test_a_loop_that_only_steps_gives_the_explicit_loops_bits(kind, zeroed):
    model, pruner, optimiser, handle = attached(kind)
    for x in X:
        {"model": model, "optimiser": optimiser}[zeroed].zero_grad()
        cross_entropy(model(x), Y).backward()
        optimiser.step()
    assert handle.step == len(X)
    assert same(bits(model, pruner), expected(kind))


@pytest.mark.parametrize("kind", ["masked", "harp"])
@pytest.mark.parametrize("named", [True, False])
def test_so_does_a_loop_whose_backward_pass_is_in_the_closure(kind, named):
    model, pruner, optimiser, _ = attached(kind)
    for x in X:

        def closure(x=x):
            optimiser.zero_grad()
            loss = cross_entropy(model(x), Y)
            loss.backward()
            return loss

        loss = optimiser.step(closure=closure) if named else optimiser.step(closure)
        assert torch.isfinite(loss)
    assert same(bits(model, pruner), expected(kind))


def test_several_backward_passes_make_one_step_with_the_penalty_once():
    model, pruner, optimiser, _ = attached("harp")
    model.eval()  # no batch statistics, so two half batches are the whole one
    twin, other, optimiser2, _ = attached("harp")
    twin.eval()
    for half in (slice(0, 4), slice(4, 8)):
        (cross_entropy(model(X[0][half]), Y[half]) / 2).backward()
    cross_entropy(twin(X[0]), Y).backward()
    optimiser.step(), optimiser2.step()
    for mine, other_s in zip(bits(model, pruner).values(), bits(twin, other).values(), strict=True):
        torch.testing.assert_close(mine, other_s)


def test_clipping_scales_what_is_pulled_and_not_the_penalty():
    model, pruner, optimiser, _ = attached("harp")
    model.eval()
    seen = {}
    pull = pruner.pull
    pruner.pull = lambda: (pull(), seen.update(robust=pruner._robust.clone(), size=pruner._size.clone()))

    def step(share):
        cross_entropy(model(X[0]), Y).backward()
        for param in model.parameters():
            param.grad.mul_(share)
        state = copy.deepcopy(optimiser.state_dict())
        for group in optimiser.param_groups:
            group["lr"] = 0.0
        optimiser.step()
        optimiser.load_state_dict(state)
        return dict(seen)

    whole, half = step(1.0), step(0.5)
    torch.testing.assert_close(half["robust"], whole["robust"] / 2)
    assert torch.equal(half["size"], whole["size"])
    assert whole["size"].all()


def test_going_on_at_a_step_is_never_having_stopped():
    model, pruner, optimiser, handle = attached("harp")
    for x in X:
        cross_entropy(model(x), Y).backward()
        optimiser.step()
        optimiser.zero_grad()
        handle.detach()
        handle = pruner.attach(optimiser, start=handle.step)
    assert same(bits(model, pruner), expected("harp"))


def test_after_the_with_the_optimiser_is_its_own_again():
    model = network()
    pruner = pruner_of("masked", model)
    optimiser = sgd(model, pruner, lr=0.1)
    before = dict(vars(optimiser))
    with pruner.attach(optimiser) as handle:
        pass
    handle.detach()
    assert vars(optimiser).keys() == before.keys()
    assert not optimiser._optimizer_step_pre_hooks
    assert not optimiser._optimizer_step_post_hooks


def test_an_optimiser_without_the_scores_is_refused():
    model = network()
    with pytest.raises(HarpError, match=r"does not train the pruner's scores; harp.sgd"):
        pruner_of("harp", model).attach(torch.optim.SGD(model.parameters(), lr=0.1))


def test_an_optimiser_that_trains_what_is_computed_is_refused():
    model = network()
    pruner = pruner_of("hydra", model)
    params = [*model.parameters(), *pruner.trainables()["scores"]]
    with pytest.raises(HarpError, match=r"trains 0\.weight, which the pruner computes"):
        pruner.attach(torch.optim.SGD(params, lr=0.1))


@pytest.mark.parametrize("unscaled", [True, False])
def test_a_gradient_scaler_is_refused(unscaled):
    model, _, optimiser, handle = attached("harp")
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(cross_entropy(model(X[0]), Y)).backward()
    if unscaled:
        scaler.unscale_(optimiser)
    with pytest.raises(HarpError, match="GradScaler"):
        scaler.step(optimiser)
    assert handle.step == 0


def test_a_step_inside_autocast_is_refused_and_one_after_it_is_not():
    model, _, optimiser, handle = attached("harp")
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(model(X[0]), Y)
    loss.backward()
    optimiser.step()
    assert handle.step == 1
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(HarpError, match="step inside autocast"):
        optimiser.step()


def test_an_optimiser_that_evaluates_twice_is_refused():
    model = network()
    pruner = pruner_of("dense", model)
    optimiser = torch.optim.LBFGS(model.parameters())

    def closure():
        optimiser.zero_grad()
        loss = cross_entropy(model(X[0]), Y)
        loss.backward()
        return loss

    with pruner.attach(optimiser), pytest.raises(HarpError, match="LBFGS evaluates its closure more than once"):
        optimiser.step(closure)
