"""The same bits from a loop that knows nothing of pruning as from the explicit one."""

import copy
import gc
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harp.errors import HarpError
from harp.pruners import Course, Harp, HarpOptions, Hydra, Masked, Moment, Pruner
from harp.sparsity import Budget, Masks, find_sites
from harp.training import sgd
from tests.pruners.networks import linear

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
    return Harp(sites, Budget(0.1), options=HarpOptions(gamma=0.5), course=Course(2))


def explicit(model, pruner, optimizer):
    pruner.push(Moment(0))
    for step, x in enumerate(X, 1):
        model.zero_grad()
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(model(x), Y) + pruner.penalty())
        pruner.pull()
        optimizer.step()
        pruner.push(Moment(step))


def bits(model, pruner):
    flat = dict(model.state_dict())
    for name, role in pruner.trainables().items():
        flat |= {f"{name}.{number}": param.detach() for number, param in enumerate(role.params)}
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
    optimizer = sgd(model, pruner, lr=0.1)
    return model, pruner, optimizer, pruner.attach(optimizer)


@pytest.mark.parametrize("kind", ["dense", "masked", "hydra", "harp"])
@pytest.mark.parametrize("zeroed", ["model", "optimizer"])
def test_a_loop_that_only_steps_gives_the_explicit_loops_bits(kind, zeroed):
    model, pruner, optimizer, handle = attached(kind)
    for x in X:
        {"model": model, "optimizer": optimizer}[zeroed].zero_grad()
        cross_entropy(model(x), Y).backward()
        optimizer.step()
    assert handle.step == len(X)
    assert same(bits(model, pruner), expected(kind))


@pytest.mark.parametrize("kind", ["masked", "harp"])
@pytest.mark.parametrize("named", [True, False])
def test_so_does_a_loop_whose_backward_pass_is_in_the_closure(kind, named):
    model, pruner, optimizer, _ = attached(kind)
    for x in X:

        def closure(x=x):
            optimizer.zero_grad()
            loss = cross_entropy(model(x), Y)
            loss.backward()
            return loss

        loss = optimizer.step(closure=closure) if named else optimizer.step(closure)
        assert torch.isfinite(loss)
    assert same(bits(model, pruner), expected(kind))


def test_several_backward_passes_make_one_step_with_the_penalty_once():
    model, pruner, optimizer, _ = attached("harp")
    model.eval()  # no batch statistics, so two half batches are the whole one
    twin, other, optimizer2, _ = attached("harp")
    twin.eval()
    for half in (slice(0, 4), slice(4, 8)):
        (cross_entropy(model(X[0][half]), Y[half]) / 2).backward()
    cross_entropy(twin(X[0]), Y).backward()
    optimizer.step(), optimizer2.step()
    for mine, other_s in zip(bits(model, pruner).values(), bits(twin, other).values(), strict=True):
        torch.testing.assert_close(mine, other_s)


def test_clipping_scales_what_is_pulled_and_not_the_penalty():
    model, pruner, optimizer, _ = attached("harp")
    model.eval()
    seen: dict[str, Tensor] = {}
    pull = pruner.pull
    pruner.pull = lambda: (pull(), seen.update(robust=pruner._robust.clone(), size=pruner._size.clone()))

    def step(share):
        cross_entropy(model(X[0]), Y).backward()
        for param in model.parameters():
            param.grad.mul_(share)
        state = copy.deepcopy(optimizer.state_dict())
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        optimizer.step()
        optimizer.load_state_dict(state)
        return dict(seen)

    whole, half = step(1.0), step(0.5)
    torch.testing.assert_close(half["robust"], whole["robust"] / 2)
    assert torch.equal(half["size"], whole["size"])
    assert whole["size"].all()


def test_going_on_at_a_step_is_never_having_stopped():
    model, pruner, optimizer, handle = attached("harp")
    for x in X:
        cross_entropy(model(x), Y).backward()
        optimizer.step()
        optimizer.zero_grad()
        handle.detach()
        handle = pruner.attach(optimizer, start=handle.step)
    assert same(bits(model, pruner), expected("harp"))


def test_after_the_with_the_optimizer_is_its_own_again():
    model = network()
    pruner = pruner_of("masked", model)
    optimizer = sgd(model, pruner, lr=0.1)
    before = dict(vars(optimizer))
    with pruner.attach(optimizer) as handle:
        pass
    handle.detach()
    assert vars(optimizer).keys() == before.keys()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_an_optimizer_without_the_scores_is_refused():
    model = network()
    with pytest.raises(HarpError, match=r"does not train the pruner's scores; harp.sgd"):
        pruner_of("harp", model).attach(torch.optim.SGD(model.parameters(), lr=0.1))


def test_an_optimizer_that_trains_what_is_computed_is_refused():
    model = network()
    pruner = pruner_of("hydra", model)
    params = [*model.parameters(), *pruner.trainables()["scores"].params]
    with pytest.raises(HarpError, match=r"trains 0\.weight, which the pruner computes"):
        pruner.attach(torch.optim.SGD(params, lr=0.1))


@pytest.mark.parametrize("unscaled", [True, False])
def test_a_gradient_scaler_is_refused(unscaled):
    model, _, optimizer, handle = attached("harp")
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(cross_entropy(model(X[0]), Y)).backward()
    if unscaled:
        scaler.unscale_(optimizer)
    with pytest.raises(HarpError, match="GradScaler"):
        scaler.step(optimizer)
    assert handle.step == 0


def test_a_step_inside_autocast_is_refused_and_one_after_it_is_not():
    model, _, optimizer, handle = attached("harp")
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(model(X[0]), Y)
    loss.backward()
    optimizer.step()
    assert handle.step == 1
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(HarpError, match="step inside autocast"):
        optimizer.step()


def test_an_optimizer_that_evaluates_twice_is_refused():
    model = network()
    pruner = pruner_of("dense", model)
    optimizer = torch.optim.LBFGS(model.parameters())

    def closure():
        optimizer.zero_grad()
        loss = cross_entropy(model(X[0]), Y)
        loss.backward()
        return loss

    with pruner.attach(optimizer), pytest.raises(HarpError, match="LBFGS evaluates its closure more than once"):
        optimizer.step(closure)


CLIPPED = [[0.4, 1.2, 0.0]]  # the weights below less the gradient at those that stay, (3, 4), clipped to length 1


def masked(pruned):
    """Weights 1, 2 and, pruned, 0; the gradients of the loss at them are 3, 4 and `pruned`."""
    model = linear([[1.0, 2.0, 0.0]])
    pruner = Masked(find_sites(model), Masks({"weight": torch.tensor([[True, True, False]])}))
    inputs = torch.tensor([[3.0, 4.0, pruned]])
    return model, pruner, lambda: model(inputs).sum()


def clip(model):
    return float(nn.utils.clip_grad_norm_(model.parameters(), 1.0))


@pytest.mark.parametrize("pruned", [0.0, 1.0, 1e6, torch.inf, torch.nan])
@pytest.mark.parametrize("way", ["attached", "closure", "accumulated", "explicit"])
def test_clipped_fine_tuning_moves_the_weights_that_are_left_as_if_there_were_no_others(pruned, way):
    model, pruner, ask = masked(pruned)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    def closure():
        optimizer.zero_grad()
        loss = ask()
        loss.backward()
        assert clip(model) == pytest.approx(5)
        return loss

    if way == "explicit":
        pruner.push(Moment(0))
        ask().backward()
        pruner.pull()
        assert clip(model) == pytest.approx(5)
        optimizer.step()
        pruner.push(Moment(1))
    else:
        pruner.attach(optimizer)
        if way == "closure":
            optimizer.step(closure)
        else:
            for share in [0.5, 0.5] if way == "accumulated" else [1.0]:
                (share * ask()).backward()
            assert clip(model) == pytest.approx(5)
            optimizer.step()
    torch.testing.assert_close(model.weight, torch.tensor(CLIPPED))


def test_an_ascent_by_the_gradient_as_sam_makes_it_leaves_the_pruned_at_zero():
    model, pruner, ask = masked(1e6)
    pruner.attach(torch.optim.SGD(model.parameters(), lr=1.0))
    ask().backward()
    with torch.no_grad():
        model.weight.add_(model.weight.grad / model.weight.grad.norm())
    torch.testing.assert_close(model.weight, torch.tensor([[1.6, 2.8, 0]]))


def test_clipping_in_a_search_sees_the_pruned_too_and_no_score_yet():
    model = linear([[1.0, 2.0, 0.5]])
    pruner = Hydra(find_sites(model), Budget(2 / 3))
    optimizer = sgd(model, pruner, lr=1.0)
    pruner.attach(optimizer)
    model(torch.tensor([[3.0, 4.0, 12.0]])).sum().backward()
    assert model.weight.tolist() == [[1, 2, 0]]
    assert clip(model) == pytest.approx(13)
    assert all(param.grad is None for group in optimizer.param_groups for param in group["params"])


@pytest.mark.parametrize("end", ["detach", "with", "optimizer"])
def test_afterwards_the_model_is_a_plain_one(end):
    model, pruner, ask = masked(7.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    # A schedule ties the optimizer into a cycle.
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    if end == "with":
        with pruner.attach(optimizer):
            pass
    else:
        handle = pruner.attach(optimizer)
        if end == "detach":
            handle.detach()
        del optimizer, schedule, handle
        gc.collect()
    ask().backward()
    assert model.weight.grad.tolist() == [[3, 4, 7]]


def test_copies_and_pickles_of_an_attached_model_know_nothing_of_harp():
    model, pruner, ask = masked(7.0)
    pruner.attach(torch.optim.SGD(model.parameters(), lr=1.0))
    ask().backward()
    assert b"harp" not in pickle.dumps(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        twin.zero_grad()
        twin(torch.tensor([[3.0, 4.0, 7.0]])).sum().backward()
        assert twin.weight.grad.tolist() == [[3, 4, 7]]


@pytest.mark.parametrize("kind", ["masked", "hydra", "harp"])
def test_a_second_attachment_is_refused_until_the_first_ends(kind):
    model, pruner, optimizer, handle = attached(kind)
    other = sgd(model, pruner, lr=0.1)
    for again in (optimizer, other):
        with pytest.raises(HarpError, match=r"^0\.weight has a \w+ attached to a SGD already; detach\(\) that first"):
            pruner.attach(again)
    rival = pruner_of("masked", copy.deepcopy(model))
    pruner_of("masked", model.requires_grad_(True))
    second = Masked(find_sites(model), rival.masks)
    with pytest.raises(HarpError, match="attached to a SGD already"):
        second.attach(sgd(model, second, lr=0.1))
    handle.detach()
    pruner.attach(other).detach()
    second.attach(sgd(model, second, lr=0.1))


def test_what_is_over_stands_in_nobodys_way():
    model = network()
    dense = pruner_of("dense", model)
    dense.attach(sgd(model, dense, lr=0.1))
    first = sgd(model, dense, lr=0.1)
    dense.attach(first)  # does nothing to weights or gradients, so it may stay
    search = pruner_of("harp", model)
    loop = sgd(model, search, lr=0.1)
    search.attach(loop)
    kept = Masked(search.sites, search.settle())
    tuned = sgd(model, kept, lr=0.1)
    kept.attach(tuned)
    # The search's own loop is refused should it go on.
    cross_entropy(model(X[0]), Y).backward()
    with pytest.raises(HarpError, match=r"settle\(\) ended the search"):
        loop.step()
    schedule = torch.optim.lr_scheduler.ConstantLR(tuned)
    del tuned, schedule
    # An optimizer that nobody holds any more needs no detach.
    kept.attach(sgd(model, kept, lr=0.1))


def test_two_pruners_of_different_sites_may_share_an_optimizer():
    def pruners(model):
        sites = find_sites(model)
        return Hydra(sites[:1], Budget(0.3)), Masked(sites[1:], Masks({"3.weight": model[3].weight.abs() > 0.1}))

    def optimizer_of(model, first, second):
        return torch.optim.SGD([*first.trainables()["scores"].params, *second.trainables()["weights"].params], lr=0.1)

    model = network()
    first, second = pruners(model)
    optimizer = optimizer_of(model, first, second)
    before = dict(vars(optimizer))
    handles = first.attach(optimizer), second.attach(optimizer)
    twin = network()
    third, fourth = pruners(twin)
    other = optimizer_of(twin, third, fourth)
    third.push(Moment(0)), fourth.push(Moment(0))
    for step, x in enumerate(X, 1):
        cross_entropy(model(x), Y).backward()
        optimizer.step()
        twin.zero_grad(), other.zero_grad()
        cross_entropy(twin(x), Y).backward()
        third.pull(), fourth.pull()
        other.step()
        third.push(Moment(step)), fourth.push(Moment(step))
    assert same(bits(model, first), bits(twin, third))
    handles[0].detach()
    assert optimizer._step_supports_amp_scaling
    handles[1].detach()
    assert vars(optimizer).keys() == before.keys()


KINDS = ["dense", "masked", "hydra", "harp", "exact"]


def of_kind(kind, model):
    if kind != "exact":
        return pruner_of(kind, model)
    return Harp(find_sites(model), Budget(0.1), options=HarpOptions(mode="exact"), course=Course(2, 6))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [torch.nan, torch.inf])
def test_a_loss_that_is_no_number_is_refused_before_it_touches_a_weight(kind, factor):
    model = network()
    pruner = of_kind(kind, model)
    optimizer = sgd(model, pruner, lr=0.1)
    handle = pruner.attach(optimizer)
    twin = network()
    second = of_kind(kind, twin)
    other = sgd(twin, second, lr=0.1)
    second.attach(other)
    before = bits(model, pruner)
    model.eval()  # or the running statistics would move
    (cross_entropy(model(X[0]), Y) * factor).backward()
    with pytest.raises(HarpError, match=r"the gradient of 0\.weight is NaN or infinite at step 1, so the step was not"):
        optimizer.step()
    assert same(bits(model, pruner), before)
    assert handle.step == 0
    # Who catches it may go on.
    for net, o in ((model, optimizer), (twin, other)):
        net.train()
        for x in X[1:]:
            o.zero_grad()
            cross_entropy(net(x), Y).backward()
            o.step()
    assert same(bits(model, pruner), bits(twin, second))


def test_one_parameter_outside_the_sites_is_enough_and_named_by_its_role():
    model, _, optimizer, _ = attached("hydra")
    cross_entropy(model(X[0]), Y).backward()
    model[1].bias.grad[3] = torch.nan
    with pytest.raises(HarpError, match="the gradient of norms is NaN or infinite at step 1"):
        optimizer.step()


def test_weights_that_came_in_while_attached_are_not_thrown_away():
    model, _, optimizer, _ = attached("harp")
    loaded = nn.Linear(4, 16)
    model[0].load_state_dict(loaded.state_dict())
    cross_entropy(model(X[0]), Y).backward()
    with pytest.raises(HarpError, match=r"^0\.weight is neither what this Harp copied"):
        optimizer.step()
    assert torch.equal(model[0].weight, loaded.weight)


def test_a_checkpoint_loaded_after_the_pruner_was_made_is_not_thrown_away():
    model, pretrained = nn.Linear(20, 10), nn.Linear(20, 10)
    search = Harp(find_sites(model), Budget(0.5), course=Course(1))
    optimizer = sgd(model, search, lr=0.1)
    model.load_state_dict(pretrained.state_dict())
    with pytest.raises(HarpError, match=r"^weight is neither what this Harp copied .* make the pruner after that"):
        search.attach(optimizer)
    assert torch.equal(model.weight, pretrained.weight)
