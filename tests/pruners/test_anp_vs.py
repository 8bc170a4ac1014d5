import copy

import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.pruners import AnpVs, AnpVsOptions, Course, Moment
from harp.sparsity import Budget, find_sites, find_units
from harp.training import sgd

X = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def gated(model=None, keep=0.5, **options):
    model = model or network()
    units = find_units(model, X[:1], "channels")
    pruner = AnpVs(units, Budget(keep, "macs"), options=AnpVsOptions(**options), course=Course(5, 20))
    pruner.push(Moment(0))
    return model, pruner


def opened(pruner, raw):
    with torch.no_grad():
        pruner.gates["0.weight"].raw_a.copy_(torch.tensor(raw))


def test_an_attack_meets_the_means_before_the_layer_that_reads():
    model, pruner = gated()
    opened(pruner, [2.0, 2.0, -9.0, 2.0])
    model.eval()
    mean = torch.tensor([0.6802, 0.6802, 0, 0.6802]).repeat_interleave(4)
    inside = model[:4](X)
    assert torch.allclose(model(X), nn.functional.linear(inside * mean, model[4].weight, model[4].bias), atol=1e-4)


def test_a_steps_passes_share_their_draws_and_the_next_ones_do_not():
    model, pruner = gated()
    model.train()
    first, second = model(X).detach(), model(X).detach()
    assert torch.equal(first, second)
    pruner.push(Moment(1))
    assert not torch.equal(model(X).detach(), first)
    _, again = gated()
    again.push(Moment(1))
    assert again._drawn("0.weight", 6).equal(pruner._drawn("0.weight", 6))


def test_the_penalty_is_the_divergence_over_the_images_of_an_epoch():
    model, pruner = gated(beta=3.0)
    model.train()(X)
    # Four gates at a = 2.1269, b = 1, and five steps of six images.
    assert float(pruner.penalty().detach()) == pytest.approx(3 * 4 * 8.9651 / 30, abs=1e-4)
    pruner.penalty().backward()
    assert (pruner.gates["0.weight"].raw_a.grad != 0).all()


def differences(vs, other=X + 0.1, scale=1.0):
    """The gradient of the conv's weight through two passes whose logits count nothing themselves."""
    model, _ = gated(vs=vs)
    model.train()
    loss = (model(X).sum() + model(other).sum()) * 0
    (loss * scale).backward()
    return model[0].weight.grad


def test_features_of_two_passes_are_drawn_together_by_the_weight_of_vs():
    assert not differences(0.0).any()
    one, two = differences(0.5), differences(1.0)
    assert one.any()
    assert torch.allclose(2 * one, two)
    # What scales the loss leaves it alone, and equal passes have nothing to draw together.
    assert torch.equal(differences(0.5, scale=7.0), one)
    assert not differences(0.5, other=X).any()


def test_the_distance_is_the_mean_over_features():
    """METHODS 2.6: of (1, 0) and (.8, .3) it is .25; its slope is sign / 2 for each feature."""
    _, pruner = gated(vs=1.0)
    clean, other = torch.tensor([[1.0, 0]], requires_grad=True), torch.tensor([[0.8, 0.3]], requires_grad=True)
    total = pruner._steadied("4.weight", clean).sum() * 0 + pruner._steadied("4.weight", other).sum() * 0
    total.backward()
    assert clean.grad is not None
    assert other.grad is not None
    assert clean.grad.tolist() == [[0.5, -0.5]]
    assert other.grad.tolist() == [[-0.5, 0.5]]


def test_passes_of_different_losses_are_not_compared():
    model, pruner = gated(vs=1.0)
    model.train()
    model(X).sum().backward()
    model(X + 0.1).sum().backward()
    assert pruner.notes() == []
    pruner.push(Moment(1))
    assert pruner.notes() == [
        "no features were compared: vs needs an objective of clean and adversarial passes, such as trades"
    ]
    (model(X).sum() + model(X).sum()).backward()
    assert pruner.notes() == []


def test_gates_learn_faster_by_a_factor():
    model, pruner = gated(gate_lr=7.0)
    groups = {group["role"]: group for group in sgd(model, pruner, lr=0.1).param_groups}
    assert groups["gates"]["lr"] == pytest.approx(0.7)
    assert groups["weights"]["lr"] == 0.1


def test_the_most_open_channels_stay_whole_and_the_gates_are_gone():
    model, pruner = gated()
    opened(pruner, [1.0, 3.0, -1.0, 2.0])
    before = model[4].weight.detach().clone()
    with pruner.settled():
        looked = model.eval()(X)
    assert torch.equal(model[4].weight, before)
    (mask,) = pruner.settle().values()
    assert mask.tolist() == [False, True, False, True]
    plain = network().eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(X), plain(X))
    assert torch.equal(model(X), looked)
    assert not model[4]._forward_pre_hooks
    pruner.push(Moment(1))
    assert not model[4]._forward_pre_hooks


def test_the_density_is_that_of_gates_that_are_open():
    _, pruner = gated()
    opened(pruner, [2.0, -9.0, -9.0, 2.0])
    assert pruner.record(Moment(0)) == {"density": 0.5}


def test_a_resumed_search_has_the_same_gates_and_a_copy_its_own():
    model, pruner = gated()
    opened(pruner, [1.0, 3.0, -1.0, 2.0])
    _, again = gated()
    again.load_state_dict(pruner.state_dict())
    assert torch.equal(again.gates["0.weight"].raw_a, pruner.gates["0.weight"].raw_a)
    model.train()(X)
    other, copied = copy.deepcopy((model, pruner))
    opened(copied, [-9.0] * 4)
    assert not torch.equal(other.eval()(X), model.eval()(X))


def test_what_it_cannot_do_is_refused():
    with pytest.raises(HarpError, match="needs granularity channels, not weights"):
        AnpVs(find_sites(network()), Budget(0.5), course=Course(1))
    with pytest.raises(HarpError, match="needs course="):
        AnpVs(find_units(network(), X[:1], "channels"), Budget(0.5, "macs"))


def test_in_the_published_form_passes_draw_for_themselves_and_only_the_later_one_is_pulled():
    model, pruner = gated(form="published", vs=1.0)
    model.train()
    images = [X.clone().requires_grad_() for _ in range(2)]
    passes = [model(x) for x in images]
    assert not torch.equal(*(logits.detach() for logits in passes))
    (sum(logits.sum() for logits in passes) * 0).backward()
    first, second = (x.grad for x in images)
    assert first is not None
    assert not first.any()
    assert second is not None
    assert second.any()  # equal images, and yet features differ: by their gates
    pruner.push(Moment(1))
    assert not torch.equal(model(X).detach(), passes[0].detach())


def test_parts_of_a_batch_have_the_gates_and_the_penalty_of_the_whole():
    x = torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    model, pruner = gated(vs=0.0)
    model(x)
    penalty = pruner.penalty()
    for rank in (0, 1):
        model = network()
        units = find_units(model, X[:1], "channels")
        course = Course(5, 20, part=(rank, 2))
        part = AnpVs(units, Budget(0.5, "macs"), options=AnpVsOptions(vs=0.0), course=course)
        part.push(Moment(0))
        whole = pruner._drawn("0.weight", 4)[2 * rank : 2 * rank + 2]
        torch.testing.assert_close(part._drawn("0.weight", 2), whole)
        assert part.penalty() == penalty


def test_batches_worked_through_in_parts_are_refused():
    _, pruner = gated()
    pruner.check_passes(1, False)
    with pytest.raises(HarpError, match="which accumulate 2 cuts up; expected 1"):
        pruner.check_passes(2, False)
    with pytest.raises(HarpError, match="which would be there twice; expected recompute false"):
        pruner.check_passes(1, True)
