import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.pruners import Course, Moment, SearchWarning, TwinRep, TwinRepOptions
from harp.sparsity import Budget, find_channels, find_sites, find_units, remove, trace_macs
from harp.training import sgd
from tests.pruners.networks import linear

U, V = [0.5, -0.2, 0.1, 0.4], [0.4, 0.5, -0.1, 0.3]


def set_to(pruner, u=U, v=V, name="weight"):
    with torch.no_grad():
        pruner.u[name].copy_(torch.tensor([u]))
        pruner.v[name].copy_(torch.tensor([v]))


def twin(keep=0.5, after="2it", **options):
    model = linear([[1.0, 1.0, 1.0, 1.0]])
    pruner = TwinRep(
        find_sites(model), Budget(keep, floor=0.0), options=TwinRepOptions(after=after, **options), course=Course(4, 8)
    )
    set_to(pruner)
    return model, pruner


def test_the_largest_products_stay_from_the_cut_on():
    """METHODS 2.10's example: UV = (.2, -.1, -.01, .12), half of which stay."""
    model, pruner = twin()
    for step in (0, 1):
        pruner.push(Moment(step))
        assert model.weight[0].tolist() == pytest.approx([0.2, -0.1, -0.01, 0.12])
        assert pruner.record(Moment(step)) == {"density": 1}
    pruner.push(Moment(2))
    assert model.weight[0].tolist() == pytest.approx([0.2, 0, 0, 0.12])
    assert pruner.record(Moment(2)) == {"density": 0.5}
    set_to(pruner, [0.1, 9, 9, 0.1], [0.1, 9, 9, 0.1])
    pruner.push(Moment(3))
    assert model.weight[0].tolist() == pytest.approx([0.01, 0, 0, 0.01])
    assert pruner.settle()["weight"].tolist() == [[True, False, False, True]]


def test_each_factor_learns_by_the_other_and_the_pruned_learn_nothing():
    model, pruner = twin()
    pruner.push(Moment(2))
    model(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).sum().backward()
    pruner.pull()
    assert pruner.u["weight"].grad[0].tolist() == pytest.approx([0.4, 0, 0, 1.2])
    assert pruner.v["weight"].grad[0].tolist() == pytest.approx([0.5, 0, 0, 1.6])


def test_decay_of_equal_factors_is_that_of_an_l1_penalty():
    """At U = V = sqrt(W) a step shrinks W by (1 - lr decay)^2, and (U^2 + V^2) / 2 is W."""
    model, pruner = twin()
    set_to(pruner, [0.2**0.5] * 4, [0.2**0.5] * 4)
    optimizer = sgd(model, pruner, lr=0.1, momentum=0.0, weight_decay=0.5)
    assert (pruner.u["weight"] ** 2 + pruner.v["weight"] ** 2).div(2).tolist()[0] == pytest.approx([0.2] * 4)
    pruner.push(Moment(0, optimizer))
    (model.weight.sum() * 0).backward()
    pruner.pull()
    optimizer.step()
    pruner.push(Moment(1, optimizer))
    assert model.weight[0].tolist() == pytest.approx([0.2 * 0.95**2] * 4)


def test_one_threshold_for_all_layers_and_at_least_one_weight_in_each():
    model = nn.Sequential(nn.Linear(6, 1, bias=False), nn.Linear(6, 1, bias=False))
    pruner = TwinRep(find_sites(model), Budget(0.5), options=TwinRepOptions(after="1it"), course=Course(1))
    set_to(pruner, [1.0, 2, 3, 4, 5, 6], [1.0] * 6, "0.weight")
    set_to(pruner, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [1.0] * 6, "1.weight")
    pruner.push(Moment(1))
    assert pruner.chosen is not None
    assert {name: int(mask.sum()) for name, mask in pruner.chosen.items()} == {"0.weight": 5, "1.weight": 1}
    assert pruner.settle().counts == {"0.weight": 5, "1.weight": 1}


def test_factors_start_within_one_over_the_root_of_the_fan_in_and_scaled_as_large_as_the_network_was():
    torch.manual_seed(0)
    model = nn.Linear(100, 50, bias=False)
    built = model.weight.detach().norm()
    drawn = TwinRep(find_sites(model), Budget(0.5), course=Course(1))
    assert 0.099 < drawn.u["weight"].abs().max() <= 0.1
    assert not torch.equal(drawn.u["weight"], drawn.v["weight"])
    assert float(drawn.weights()[0].detach().std()) == pytest.approx(1 / 300, rel=0.05)
    again = TwinRep(find_sites(model), Budget(0.5), course=Course(1))
    assert torch.equal(again.u["weight"], drawn.u["weight"])
    scaled = TwinRep(find_sites(model), Budget(0.5), options=TwinRepOptions(start="scaled"), course=Course(1))
    assert float(scaled.weights()[0].detach().norm()) == pytest.approx(float(built))


def test_a_stage_too_short_for_the_cut_is_cut_at_its_end_and_says_so():
    model, pruner = twin(after="9ep")
    pruner.push(Moment(8))
    before = model.weight.detach().clone()
    with pruner.settled():
        assert model.weight[0].tolist() == pytest.approx([0.2, 0, 0, 0.12])
    assert torch.equal(model.weight, before)
    assert pruner.chosen is None
    with pytest.warns(SearchWarning, match="from before after=9ep"):
        assert pruner.settle().counts == {"weight": 2}
    assert not model.weight.signbit()[0, 1]


def test_a_resumed_search_holds_the_same_factors_and_masks():
    model, pruner = twin()
    pruner.push(Moment(2))
    other, again = twin()
    set_to(again, [9.0] * 4, [9.0] * 4)
    again.load_state_dict(pruner.state_dict())
    again.push(Moment(2))
    assert torch.equal(other.weight, model.weight)
    assert torch.equal(again.chosen["weight"], pruner.chosen["weight"])


def channels(model, image, budget, filters):
    """What is left of each group once the channels' filters were so large."""
    units = find_units(model, image, "channels")
    pruner = TwinRep(units, budget, options=TwinRepOptions(after="1it"), course=Course(1))
    with torch.no_grad():
        for name, sizes in filters.items():
            pruner.u[name].copy_(
                torch.tensor(sizes).view(-1, *[1] * (pruner.u[name].ndim - 1)).expand_as(pruner.u[name])
            )
            pruner.v[name].fill_(-1)
    pruner.push(Moment(1))
    assert pruner.chosen is not None
    return pruner.settle()


def test_a_budget_of_multiply_accumulates_counts_those_of_the_smaller_network():
    """METHODS 9.11's example: of 16,128 a first convolution of 3 filters for 4 leaves 12,096, which is 75 %."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    image = torch.rand(1, 3, 8, 8)
    assert sum(trace_macs(model, image).values()) == 16_128
    masks = channels(model, image, Budget(0.75, "macs"), {"0.weight": [3.0, 1.0, 2.0, 4.0]})
    assert {name: mask.int().tolist() for name, mask in masks.items()} == {"0.weight": [1, 0, 1, 1]}
    small = remove(model, find_channels(model, image).groups, masks)
    assert sum(trace_macs(small, image).values()) == 12_096


def test_tied_filters_count_together_and_every_layer_is_a_product():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(1, 2, 3, padding=1, bias=False)
            self.last = nn.Linear(2, 3)

        def forward(self, x):
            return self.last((self.first(x) + self.second(x)).relu().mean((2, 3)))

    # Filters of 1 and 9 weights: 25 and 1 beside 1 and 4 give means of (25 + 9) / 10 and (1 + 36) / 10.
    filters = {"first.weight": [5.0, 1.0], "second.weight": [1.0, 2.0]}
    model = Tied()
    masks = channels(model, torch.rand(1, 1, 4, 4), Budget(0.5), filters)
    assert [mask.int().tolist() for mask in masks.values()] == [[0, 1]]
    assert model.first.weight.flatten().tolist() == [-5, -1]


def test_what_it_cannot_do_is_refused():
    model = linear([[1.0, 2.0]])
    with pytest.raises(HarpError, match="needs course="):
        TwinRep(find_sites(model), Budget(0.5))
    model.weight.requires_grad_(False)
    with pytest.raises(HarpError, match="weight is frozen"):
        TwinRep(find_sites(model, ["weight"]), Budget(0.5), course=Course(1))
