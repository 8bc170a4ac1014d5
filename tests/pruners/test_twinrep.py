import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.pruners import Course, Moment, SearchWarning, TwinRep, TwinRepOptions
from harp.sparsity import Budget, find_sites, find_units
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


def test_channels_go_by_the_root_mean_square_of_what_reads_them():
    """A channel read by 25 weights of size 1 has the 2-norm 5, one read by 3 of size 2 has 3.5: the first goes."""
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 25), nn.ReLU(), nn.Linear(25, 3))
    units = find_units(model, torch.ones(1, 2), "channels")
    pruner = TwinRep(units, Budget(0.5), options=TwinRepOptions(after="1it"), course=Course(1))
    with torch.no_grad():
        for name, size in {"2.weight": 1.0, "4.weight": 2.0}.items():
            pruner.u[name].copy_(size + torch.arange(pruner.u[name].shape[1]) / 100)
            pruner.v[name].fill_(-1)
    pruner.push(Moment(1))
    # 2 a + a b + 3 b weights of at most 92: the floor of the 4 channels, and what the rest buys of the 25.
    assert pruner.chosen is not None
    assert {name: int(mask.sum()) for name, mask in pruner.chosen.items()} == {"0.weight": 1, "2.weight": 22}


def test_what_it_cannot_do_is_refused():
    model = linear([[1.0, 2.0]])
    with pytest.raises(HarpError, match="needs course="):
        TwinRep(find_sites(model), Budget(0.5))
    model.weight.requires_grad_(False)
    with pytest.raises(HarpError, match="weight is frozen"):
        TwinRep(find_sites(model, ["weight"]), Budget(0.5), course=Course(1))
