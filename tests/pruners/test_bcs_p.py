import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.pruners import BCSP, BCSPOptions, Course, Moment
from harp.sparsity import Budget, find_sites, find_units
from harp.training import sgd

LR = 0.1


def one(strengths, keep=0.5, signs=None, **options):
    """A pruner of a single layer with these strengths, and its optimizer with momentum, after the first push."""
    model = nn.Linear(len(strengths), 1, bias=False)
    pruner = BCSP(find_sites(model), Budget(keep), options=BCSPOptions(**{"noise": 0.0, **options}), course=Course(4))
    pruner.strengths = {"weight": torch.tensor([strengths])}
    pruner.signs = {"weight": torch.tensor([signs or [1.0] * len(strengths)])}
    pruner.move({"weight": pruner.strengths["weight"] > 0})
    optimizer = sgd(model, pruner, lr=LR)
    pruner.push(Moment(0, optimizer))
    return model, pruner, optimizer


def step(model, pruner, optimizer, number, grad):
    model.weight.grad = torch.tensor([grad])
    pruner.pull()
    optimizer.step()
    pruner.push(Moment(number, optimizer))


@pytest.mark.parametrize("form", ["repaired", "published"])
@pytest.mark.parametrize("signs", [[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, 1.0, -1.0]])
def test_strengths_shrink_and_follow_and_what_falls_below_zero_is_drawn_anew(form, signs):
    """METHODS 2.3's example: .3 * .9995 - .1 * .1, and .0002 * .9995 - .1 * .01, which is below 0."""
    model, pruner, optimizer = one([0.3, 0.0002, 0.0, 0.0], signs=signs, form=form)
    step(model, pruner, optimizer, 1, [0.1 * signs[0], 0.01 * signs[1], 7.0, 7.0])
    strengths = pruner.strengths["weight"][0]
    assert strengths[0].item() == pytest.approx(0.28985, abs=1e-7)
    (drawn,) = (index for index in (1, 2, 3) if strengths[index] == 1e-12)
    rest = {"repaired": 0.0, "published": -0.0008001}[form]
    assert [strengths[i].item() for i in (1, 2, 3) if i != drawn] == pytest.approx(
        [rest if i == 1 else 0.0 for i in (1, 2, 3) if i != drawn], abs=1e-9
    )
    assert model.weight[0].tolist() == pytest.approx(
        [signs[0] * 0.28985, *(signs[i] * 1e-12 * (i == drawn) for i in (1, 2, 3))], abs=1e-7
    )
    assert torch.equal(model.weight != 0, pruner.chosen["weight"])


def test_decay_is_not_times_the_learning_rate_but_falls_as_it_does():
    """1,000 steps of 5e-4 leave .6065 (METHODS 2.3); at a tenth of the rate a tenth is lost."""
    model, pruner, optimizer = one([1.0, 1.0])
    optimizer.param_groups[0]["initial_lr"] = LR
    for number in range(1, 1001):
        step(model, pruner, optimizer, number, [0.0, 0.0])
    assert pruner.strengths["weight"][0].tolist() == pytest.approx([0.6065] * 2, abs=1e-4)
    optimizer.param_groups[0]["lr"] = LR / 10
    step(model, pruner, optimizer, 1001, [0.0, 0.0])
    assert pruner.strengths["weight"][0, 0].item() == pytest.approx(0.60637 * (1 - 5e-5), abs=1e-4)


def test_momentum_brings_back_what_was_cut_in_the_published_form_alone():
    """Cut at -.1 with a momentum of -3: the next step adds .27 without any gradient."""
    ends = {}
    for form in ("repaired", "published"):
        model, pruner, optimizer = one([1.0, 0.2, 0.0, 0.0], form=form, decay=0.0)
        step(model, pruner, optimizer, 1, [0.0, 3.0, 0.0, 0.0])
        optimizer.state[model.weight]["momentum_buffer"].neg_()
        drawn = int((pruner.strengths["weight"][0] == 1e-12).nonzero()[0, 0])
        step(model, pruner, optimizer, 2, [0.0, 0.0, 0.0, 0.0])
        ends[form] = pruner.strengths["weight"][0, 1].item(), drawn, pruner.chosen.kept
    assert ends["published"][0] == pytest.approx(0.27 - (0.1 if ends["published"][1] != 1 else 0.0), abs=1e-6)
    assert ends["repaired"][0] in (0.0, pytest.approx(1e-12))
    assert ends["repaired"][2] == 2


def test_what_came_back_over_budget_is_cut_by_settle_weakest_first():
    model, pruner, _ = one([0.5, 0.4, 0.3, 0.0], form="published")
    assert pruner.notes() == ["momentum brought back 1 connections above budget; settle cut as many"]
    with pruner.settled():
        assert (model.weight[0] != 0).tolist() == [True, True, False, False]
    assert pruner.chosen.kept == 3
    assert pruner.settle()["weight"].tolist() == [[True, True, False, False]]
    assert model.weight[0].tolist() == pytest.approx([0.5, 0.4, 0.0, 0.0])


def test_noise_is_on_connections_alone_and_repeats():
    runs = []
    for _ in range(2):
        model, pruner, optimizer = one([1.0] * 50 + [0.0] * 50, noise=0.01, decay=0.0)
        step(model, pruner, optimizer, 1, [0.0] * 100)
        runs.append(pruner.strengths["weight"][0])
    assert torch.equal(*runs)
    assert 0.5e-3 < float((runs[0][:50] - 1).std()) < 2e-3  # the rate .1 times .01
    assert not runs[0][50:].any()


def test_a_network_begins_at_random_and_at_its_budget_and_stays_there_while_layers_change():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 10))
    pruner = BCSP(find_sites(model), Budget(0.2), options=BCSPOptions(decay=0.3), course=Course(5))
    optimizer = sgd(model, pruner, lr=1.0)
    pruner.push(Moment(0, optimizer))
    weight = model.get_parameter("0.weight").detach()
    spread = weight[weight != 0].abs()
    assert float(spread.square().mean()) == pytest.approx(2 / 40, rel=0.3)
    assert 0.4 < float((weight[weight != 0] > 0).float().mean()) < 0.6
    counts = []
    for number in range(1, 9):
        optimizer.zero_grad()
        model(torch.randn(16, 40)).square().sum().backward()
        pruner.pull()
        optimizer.step()
        pruner.push(Moment(number, optimizer))
        counts.append(tuple(pruner.chosen.counts.values()))
        assert sum(counts[-1]) == round(0.2 * 1500)
        assert all(torch.equal(model.get_parameter(n) != 0, mask) for n, mask in pruner.chosen.items())
    assert len(set(counts)) > 1


def test_a_layer_that_lost_all_is_filled_to_its_floor_and_a_full_one_gets_no_more():
    model = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Linear(100, 1, bias=False), nn.Linear(1, 2, bias=False))
    pruner = BCSP(find_sites(model), Budget(0.5), course=Course(1))
    given = pruner._missing([0, 40, 2], 3)
    assert given[0] >= 1
    assert given[2] == 0
    assert sum(given) == 53 - 42


def test_a_stage_that_is_resumed_goes_on_bit_for_bit():
    ends = []
    for stop in (None, 3):
        model, pruner, optimizer = one([0.3, 0.01, 0.0, 0.0, 0.2, 0.0], noise=0.1, form="published")
        for number in range(1, 7):
            if number - 1 == stop:
                state = {**pruner.state_dict()}
                fresh = BCSP(pruner.sites, pruner.budget, options=pruner.options, course=pruner.course)
                fresh.load_state_dict(state)
                fresh.push(Moment(stop, optimizer))
                pruner = fresh
            step(model, pruner, optimizer, number, [0.5, 0.3, -1.0, 0.0, 0.1, 0.2])
        ends.append(pruner.strengths["weight"])
    assert torch.equal(*ends)


def test_what_it_cannot_do_is_refused():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    with pytest.raises(HarpError, match="single weights"):
        BCSP(find_units(model, torch.ones(1, 1, 2, 2), "channels"), Budget(0.5, "macs"))
    with pytest.raises(HarpError, match="a budget of parameters, not macs"):
        BCSP(find_units(model, torch.ones(1, 1, 2, 2)), Budget(0.5, "macs"))
