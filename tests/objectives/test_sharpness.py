import copy
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from harp.attacks import PGD
from harp.data import Images, Resident
from harp.errors import HarpError
from harp.objectives import AWP, LEVEL, OBJECTIVES
from harp.pruners import Course, Harp, Masked, Moment, Pruner
from harp.registry import accepted
from harp.sparsity import Budget, Masks, find_sites
from harp.threats import Threat
from harp.training import fit, sgd
from tests.attacks.linear import images, labels, linear
from tests.pruners.networks import Doubled


def network():
    torch.manual_seed(0)
    features = [nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5)]
    return nn.Sequential(*features, nn.Linear(16, 2)).train()


def loss_of(model, side=2):
    x = torch.rand(8, 1, side, side, generator=torch.Generator().manual_seed(0))
    return lambda: cross_entropy(model(x), labels(8))


def none():
    return {}


def state(model):
    return copy.deepcopy(model.state_dict())


def test_the_step_of_a_linear_model_in_closed_form():
    model, x, y = linear(), images(8), labels(8)
    before = state(model)
    # The gradient of the cross-entropy at the weights: (p - 1[y]) x^T, the mean over the batch.
    wrong = model(x).softmax(1) - nn.functional.one_hot(y, 2)
    d = wrong.T.detach() @ x.flatten(1) / 8
    v = 0.1 * before["1.weight"].norm() * d / d.norm()
    with AWP(gamma=0.1)(model, lambda: cross_entropy(model(x), y), 0, none):
        assert torch.allclose(model.get_parameter("1.weight") - before["1.weight"], v, atol=1e-6)
        assert torch.equal(model.get_parameter("1.bias"), before["1.bias"])
        assert all(param.grad is None for param in model.parameters())
    assert torch.equal(model.get_parameter("1.weight"), before["1.weight"])


def test_the_loss_rises_and_the_gradient_is_that_of_the_moved_weights():
    model = network()
    model[4].p = 0.0
    evaluate, before = loss_of(model, 3), state(model)
    first = copy.deepcopy(model)
    first_loss = loss_of(first, 3)()
    with AWP(gamma=0.05)(model, evaluate, 0, none):
        moved = {name: param.detach().clone() for name, param in model.named_parameters()}
        loss = evaluate()
        loss.backward()
    assert loss > first_loss
    assert {name for name, value in moved.items() if not torch.equal(value, before[name])} == {"0.weight", "5.weight"}
    for name in ("0.weight", "5.weight"):
        assert (moved[name] - before[name]).norm().item() == pytest.approx(0.05 * before[name].norm().item(), rel=1e-4)
        assert torch.equal(model.get_parameter(name), before[name])
    x = torch.rand(8, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.autograd.grad(
        cross_entropy(functional_call(first, {n: p.requires_grad_() for n, p in moved.items()}, (x,)), labels(8)),
        list(moved.values()),
    )
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), expected, strict=True))


def test_buffers_and_dropout_are_as_if_the_extra_evaluation_were_absent():
    model, plain, seen, after = network(), network(), [], []
    model[4].register_forward_hook(lambda module, inputs, output: seen.append(output == 0))
    for net, ascent in ((model, AWP(gamma=0.0)), (plain, LEVEL)):
        torch.manual_seed(1)
        evaluate = loss_of(net, 3)
        with ascent(net, evaluate, 0, none):
            evaluate().backward()
        after.append(torch.get_rng_state())
    assert torch.equal(*after)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in model.state_dict().items())
    assert model[1].num_batches_tracked == 1
    assert torch.equal(*seen)


def test_pruned_entries_stay_zero_and_do_not_count():
    model, x, y = linear(), images(8), labels(8)
    mask = torch.tensor([[True, False, True, False], [False, False, True, True]])
    pruner = Masked(find_sites(model), Masks({"1.weight": mask}))
    pruner.push(Moment(0))
    before = model.get_parameter("1.weight").detach().clone()
    d = torch.autograd.grad(cross_entropy(model(x), y), model.get_parameter("1.weight"))[0] * mask
    v = 0.1 * before.norm() * d / d.norm()
    with AWP(gamma=0.1)(model, lambda: cross_entropy(model(x), y), 0, pruner.kept):
        assert not model.get_parameter("1.weight")[~mask].any()
        assert torch.allclose(model.get_parameter("1.weight") - before, v, atol=1e-6)
    assert torch.equal(model.get_parameter("1.weight"), before)


def test_learned_masks_are_those_of_the_network_in_training():
    model = network()
    pruner = Harp(find_sites(model), Budget(0.3), course=Course(4))
    pruner.push(Moment(0))
    kept = pruner.kept()
    counts = pruner.counts()
    assert {site.name: int(kept[site.param].sum()) for site in pruner.sites} == counts
    with AWP(gamma=0.1)(model, loss_of(model, 3), 0, pruner.kept):
        assert {site.name: int(site.param.count_nonzero()) for site in pruner.sites} == counts


def test_latents_are_pulled_the_gradient_of_the_moved_weights():
    model = nn.Linear(2, 1, bias=False)
    pruner = Doubled(find_sites(model))
    pruner.push(Moment(0))
    with AWP(gamma=0.1)(model, lambda: model.weight.pow(2).sum() / 2, 0, pruner.kept):
        (model.weight.pow(2).sum() / 2).backward()
        pruner.pull()
    # The loss's gradient is the weight itself: 7, and 7.7 uphill.
    assert model.weight.tolist() == [[7, 7]]
    assert pruner.v.grad is not None
    assert pruner.w.grad is not None
    assert pruner.v.grad.tolist() == [pytest.approx([7.7, 7.7])]
    assert pruner.w.grad.tolist() == [pytest.approx([15.4, 15.4])]


def test_a_loss_that_is_flat_or_knows_nothing_of_a_weight_moves_nothing():
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "unused": nn.Linear(2, 1)})
    before = state(model)

    def loss(scale):
        return scale * model["used"](torch.ones(1, 2)).sum()

    for scale in (0.0, 1.0):
        with AWP(gamma=0.1)(model, partial(loss, scale), 0, none):
            assert torch.equal(model.get_parameter("unused.weight"), before["unused.weight"])
            assert torch.equal(model.get_parameter("used.weight"), before["used.weight"]) == (scale == 0)


@pytest.mark.parametrize("scale", [1.0, 1e-25])
def test_the_size_of_the_gradient_does_not_matter(scale):
    model = linear()
    evaluate = loss_of(model)
    before = model.get_parameter("1.weight").detach().clone()
    with AWP(gamma=0.1)(model, lambda: scale * evaluate(), 0, none):
        length = (model.get_parameter("1.weight") - before).norm()
    assert length.item() == pytest.approx(0.1 * before.norm().item(), rel=1e-4)


def test_weights_are_put_back_when_a_step_fails():
    model = linear()
    before = state(model)

    def step():
        with AWP(gamma=0.1)(model, loss_of(model), 0, none):
            raise HarpError("the loss became nan")

    with pytest.raises(HarpError, match="nan"):
        step()
    assert torch.equal(model.get_parameter("1.weight"), before["1.weight"])


def test_autocast_around_it_is_refused():
    model = linear()
    with (
        pytest.raises(HarpError, match="inside the closure"),
        torch.autocast("cpu", torch.bfloat16),
        AWP()(model, loss_of(model), 0, none),
    ):
        pass


def trained(objective, ascent, make=Pruner, until=5):
    model = network()
    x = torch.rand(32, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    data = Resident(Images(x, torch.arange(32) % 2), 8, seed=0, device="cpu")
    factory = OBJECTIVES[objective]
    options = {"attack": PGD(steps=2), "threat": Threat(math.inf, 0.1), "teacher": network()}
    pruner = make(find_sites(model))
    fit(
        model,
        data,
        objective=factory(**accepted(factory, options)),
        ascent=ascent,
        optimizer=sgd(model, pruner, lr=0.1),
        pruner=pruner,
        until=until,
    )
    return model.state_dict()


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def harp(sites):
    return Harp(sites, Budget(0.3), course=Course(4))


@pytest.mark.parametrize("make", [Pruner, harp])
@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_moving_by_nothing_trains_the_same_bits_with_every_objective(objective, make):
    level = trained(objective, LEVEL, make)
    assert same(trained(objective, AWP(gamma=0.0), make), level)
    assert not same(trained(objective, AWP(gamma=0.1), make), level)


def test_warm_up_counts_steps():
    runs = {warmup: trained("natural", AWP(gamma=0.1, warmup=warmup)) for warmup in (0, 4, 5)}
    level = trained("natural", LEVEL)
    assert same(runs[5], level)
    assert not same(runs[4], level)
    assert not same(runs[0], runs[4])
