import copy
from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch
from hypothesis import given, strategies as st
from pydantic import ValidationError
from torch import nn

from harp.errors import HarpError
from harp.pruners import RADMM, Course, Moment, RADMMOptions
from harp.sparsity import Budget, find_sites, find_units
from tests.pruners.networks import linear

FIRST = [0.9, -0.2, 0.5, 0.1]


def put(model, row):
    with torch.no_grad():
        model.weight.copy_(torch.tensor([row]))


def admm(row=FIRST, keep=0.5, course=None, **options):
    """A pruner of one layer of four weights, whose Z and U change after each step."""
    model = linear([row])
    settings = {"period": 0.1, "growth": 1.0, "rho": 0.5, **options}
    pruner = RADMM(find_sites(model), Budget(keep), options=RADMMOptions(**settings), course=course or Course(1, 10))
    pruner.push(Moment(0))
    return model, pruner


def slope(model, pruner):
    model.weight.grad = None
    pruner.penalty().backward()
    return model.weight.grad[0]


def after_two_updates(**options):
    model, pruner = admm(**options)
    for step, row in enumerate(([0.8, -0.1, 0.6, 0.3], [0.7, -0.3, 0.5, 0.4]), start=1):
        put(model, row)
        pruner.push(Moment(step))
    return model, pruner


def test_the_first_aim_is_what_the_budget_leaves_and_the_weights_stay_whole():
    model, pruner = admm()
    assert pruner.z["weight"].tolist() == [pytest.approx([0.9, 0, 0.5, 0])]
    assert not pruner.u["weight"].any()
    assert model.weight.tolist() == [pytest.approx(FIRST)]


@pytest.mark.parametrize(("form", "times"), [("repaired", 1), ("published", 3)])
def test_two_updates_and_the_gradient_of_the_penalty(form, times):
    """METHODS 2.2's example."""
    model, pruner = admm(form=form)
    put(model, [0.8, -0.1, 0.6, 0.3])
    pruner.push(Moment(1))
    assert pruner.z["weight"].tolist() == [pytest.approx([0.8, 0, 0.6, 0])]
    assert pruner.u["weight"].tolist() == [pytest.approx([0, -0.1, 0, 0.3])]
    put(model, [0.7, -0.3, 0.5, 0.4])
    pruner.push(Moment(2))
    assert pruner.z["weight"].tolist() == [pytest.approx([0.7, 0, 0, 0.7])]
    assert pruner.u["weight"].tolist() == [pytest.approx([0, -0.4, 0.5, 0])]
    assert slope(model, pruner).tolist() == pytest.approx([0.5 * times * g for g in (0, -0.7, 1.0, -0.3)])
    assert pruner.penalty().item() == pytest.approx(0.25 * (0.49 + 1 + 0.09))


def test_as_published_the_gradient_is_that_of_a_u_that_stays_in_the_graph():
    model, pruner = admm(form="published")
    weight = model.weight
    u, total = torch.zeros(1, 4), 0
    for step in range(1, 6):
        put(model, torch.linspace(0.1 * step, 1, 4).tolist())
        pruner.push(Moment(step))
        u = u + weight - pruner.z["weight"]  # the graph of every W so far
        total = step
    (expected,) = torch.autograd.grad(0.25 * (weight - pruner.z["weight"] + u).square().sum(), weight)
    assert pruner.pulls == total + 1
    assert slope(model, pruner).tolist() == pytest.approx(expected[0].tolist())


@pytest.mark.parametrize(("form", "kept"), [("repaired", 0.5), ("published", 1.0)])
def test_rho_grows_to_its_bound_and_u_is_divided_by_as_much_unless_published(form, kept):
    model, pruner = admm(form=form, rho=0.1, growth=2.0, rho_max=0.2)
    put(model, [0.8, -0.1, 0.6, 0.3])
    pruner.push(Moment(1))
    assert pruner.rho == pytest.approx(0.2)
    before = pruner.u["weight"].clone()  # 0 when rho grew
    put(model, [0.8, -0.1, 0.6, 0.3])
    pruner.push(Moment(2))
    assert pruner.rho == pytest.approx(0.2)
    assert pruner.u["weight"].tolist() == [pytest.approx((2 * before[0]).tolist())]
    model, pruner = admm(form=form, rho=0.1, growth=2.0)
    pruner.u = {"weight": torch.tensor([[0.0, -0.2, 0.0, 0.4]])}
    pruner.push(Moment(1))
    assert pruner.u["weight"].tolist() == [pytest.approx([0, -0.2 * kept - 0.2, 0, 0.4 * kept + 0.1])]


def test_updates_come_at_the_papers_epochs_of_two_hundred():
    _, pruner = admm(course=Course(390, 200 * 390))
    assert [step / 390 for step in range(200 * 390 + 1) if pruner.updates_after(step)] == list(range(20, 200, 20))


@given(st.integers(1, 300), st.floats(0.001, 1.0))
def test_a_stage_has_as_many_updates_as_whole_periods_before_its_end(steps, period):
    _, pruner = admm(course=Course(1, steps), period=period)
    found = [step for step in range(steps + 2) if pruner.updates_after(step)]
    assert all(0 < step < steps for step in found)
    assert all(b - a >= int(period * steps) for a, b in pairwise(found))
    assert bool(pruner.notes()) == (not found)


def test_a_stage_without_an_update_says_so():
    _, pruner = admm(course=Course(1, 4), period=1.0)
    assert pruner.notes() == ["Z and U never changed: a stage of 4 steps has no whole period of 1 before its end"]


def test_the_end_is_the_projection_of_the_weights_and_a_look_at_it_changes_nothing():
    model, pruner = after_two_updates()
    before, state = model.weight.detach().clone(), copy.deepcopy(pruner.state_dict())
    with pruner.settled():
        assert model.weight.tolist() == [pytest.approx([0.7, 0, 0.5, 0])]
    assert torch.equal(model.weight, before)
    assert str(state) == str(pruner.state_dict())
    pruner.pull()
    assert pruner.settle()["weight"].tolist() == [[True, False, True, False]]
    assert model.weight.tolist() == [pytest.approx([0.7, 0, 0.5, 0])]
    assert pruner.ended
    with pytest.raises(HarpError, match=r"settle\(\) ended the search.*harp\.Masked"):
        pruner.pull()


def test_a_stage_that_is_resumed_goes_on_alike():
    _, whole = after_two_updates(form="published", growth=1.3)
    model, pruner = admm(form="published", growth=1.3)
    put(model, [0.8, -0.1, 0.6, 0.3])
    pruner.push(Moment(1))
    again = RADMM(find_sites(model), Budget(0.5), options=pruner.options, course=pruner.course)
    again.load_state_dict(pruner.state_dict())
    again.push(Moment(1))  # a second time, which changes nothing
    put(model, [0.7, -0.3, 0.5, 0.4])
    again.push(Moment(2))
    assert str(again.state_dict()) == str(whole.state_dict())
    assert torch.equal(again.penalty(), whole.penalty())


@pytest.mark.parametrize("form", ["repaired", "published"])
def test_so_it_does_in_somebody_elses_loop(form):
    ends = []
    for attached in (False, True):
        model, pruner = admm(form=form, growth=1.3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        with pruner.attach(optimizer) if attached else nullcontext():
            for step in range(1, 6):
                optimizer.zero_grad()
                loss = (model(torch.linspace(-1, step, 4)) - step).square().sum()
                (loss if attached else loss + pruner.penalty()).backward()
                optimizer.step()
                if not attached:
                    pruner.push(Moment(step, optimizer))
        ends.append((pruner.updates, model.weight.tolist()))
    assert ends[0][0] == ends[1][0] == 5
    assert ends[0][1] == [pytest.approx(ends[1][1][0])]


def test_the_budget_is_exact_by_any_allocation_and_no_layer_is_cut_through():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 3))
    with torch.no_grad():
        model.get_parameter("1.weight").mul_(1e-3)
    for allocation in ("uniform", "global", "lamp"):
        pruner = RADMM(
            find_sites(model), Budget(0.1), options=RADMMOptions(allocation=allocation), course=Course(1, 10)
        )
        pruner.push(Moment(0))
        masks, left = pruner.project([torch.randn_like(site.param) for site in pruner.sites])
        assert masks.kept == 66
        assert min(masks.counts.values()) >= 1
        assert [int((weight != 0).sum()) for weight in left] == list(masks.counts.values())


def test_channels_are_projected_by_their_norms():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        for channel, size in enumerate([0.1, 3.0, 0.2, 2.0]):
            model.get_parameter("3.weight")[:, 4 * channel : 4 * channel + 4] = size
    units = find_units(model, torch.ones(1, 1, 2, 2), "channels")
    pruner = RADMM(units, Budget(0.5, "macs"), course=Course(1, 10))
    pruner.push(Moment(0))
    stays = torch.tensor([False, True, False, True]).repeat_interleave(4)
    assert torch.equal(pruner.z["3.weight"] != 0, stays.expand(3, 16))
    (mask,) = pruner.settle().values()
    assert mask.tolist() == [False, True, False, True]


def test_everything_trains_and_nothing_is_masked():
    model, pruner = admm()
    assert pruner.companions == "all"
    assert pruner.trainables()["weights"].params == [model.weight]
    assert pruner.kept() == {}


def test_the_record_tells_rho_and_the_distance_to_z():
    _, pruner = admm([0.6, -0.8, 0, 0], keep=0.25)
    assert pruner.record(Moment(0)) == {"density": 1.0, "rho": 0.5, "distance": pytest.approx(0.6)}


def test_what_it_cannot_do_is_refused():
    model = linear([FIRST])
    with pytest.raises(HarpError, match="needs course="):
        RADMM(find_sites(model), Budget(0.5))
    with pytest.raises(HarpError, match="no allocation 'unifrom'"):
        admm(allocation="unifrom")
    with pytest.raises(ValidationError, match="rho 2 is above rho_max 1"):
        RADMMOptions(rho=2)
    fresh = RADMM(find_sites(model), Budget(0.5), course=Course(1, 10))
    with pytest.raises(HarpError, match="nothing was pushed yet"):
        fresh.penalty()
    fresh.load_state_dict(fresh.state_dict())
    with pytest.raises(HarpError, match="the state is that of another network"):
        fresh.load_state_dict({**fresh.state_dict(), "z": {"other": torch.ones(1)}})
