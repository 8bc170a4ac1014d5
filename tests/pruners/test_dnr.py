import pytest
import torch
from hypothesis import given, settings, strategies as st
from pydantic import ValidationError
from torch import nn

from harp.errors import HarpError
from harp.pruners import DNR, Course, DNROptions, Moment
from harp.pruners.dnr import spread
from harp.sparsity import Budget, find_sites, find_units
from tests.pruners.networks import linear


def rewired(*rows, active, keep=0.5, course=None, lr=0.0, floor=0.0, **options):
    """A pruner of layers of these weights, of which the first `active` are there, and an SGD that stands still."""
    model = nn.Sequential(*[linear([row]) for row in rows])
    settings = {"every": "1it", "drop": 0.5, "drop_end": 0.5, **options}
    pruner = DNR(
        find_sites(model), Budget(keep, floor=floor), options=DNROptions(**settings), course=course or Course(1, 8)
    )
    pruner.move(
        {f"{i}.weight": torch.arange(len(row))[None] < n for i, (row, n) in enumerate(zip(rows, active, strict=True))}
    )
    return model, pruner, torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def step(model, pruner, optimizer, number, *grads):
    for layer, grad in zip(model, grads, strict=True):
        layer.weight.grad = torch.tensor([grad])
    pruner.pull()
    optimizer.step()
    pruner.push(Moment(number, optimizer))


def masks(pruner):
    return [mask[0].int().tolist() for mask in pruner.chosen.values()]


def test_what_is_dropped_is_shared_out_by_mean_momentum():
    """METHODS 2.7's example: mean |v| of .3 and .1, 8 weights removed, 6 and 2 grow."""
    weights = [1.0 + i for i in range(8)] + [0.0] * 24
    model, pruner, optimizer = rewired(weights, weights, active=(8, 8), keep=0.25)
    pruner.push(Moment(0, optimizer))
    step(model, pruner, optimizer, 1, [0.3] * 8 + [0.9] * 24, [-0.1] * 8 + [0.9] * 24)
    assert list(pruner.chosen.counts.values()) == [4 + 6, 4 + 2]


def test_the_smallest_go_and_those_of_largest_momentum_grow_from_zero_and_keep_it():
    model, pruner, optimizer = rewired([0.9, -0.1, 0.4, 0.05, 0, 0, 0, 0], active=(4,), lr=1.0)
    pruner.push(Moment(0, optimizer))
    step(model, pruner, optimizer, 1, [0.0, 0.0, 0.0, 0.0, 0.2, -0.7, 0.1, 0.3])
    assert masks(pruner) == [[1, 0, 1, 0, 0, 1, 0, 1]]
    # The step of 1 moved pruned weights, too; they begin at 0 all the same.
    assert model[0].weight.tolist()[0] == pytest.approx([0.9, 0, 0.4, 0, 0, 0, 0, 0])
    assert optimizer.state[model[0].weight]["momentum_buffer"][0, 5] == pytest.approx(-0.7)


def test_what_was_dropped_may_come_back_at_zero_where_its_momentum_is_largest():
    model, pruner, optimizer = rewired([0.9, 0.1, 0.0, 0.0], active=(2,))
    pruner.push(Moment(0, optimizer))
    step(model, pruner, optimizer, 1, [0.1, 0.8, 0.2, 0.3])
    assert masks(pruner) == [[1, 1, 0, 0]]
    assert model[0].weight.tolist()[0] == pytest.approx([0.9, 0, 0, 0])


def test_what_has_no_momentum_does_not_grow_while_others_can():
    row = [1.0, 0.5, 0, 0, 0, 0, 0, 0]
    model, pruner, optimizer = rewired(row, row, active=(2, 2), keep=0.25)
    pruner.push(Moment(0, optimizer))
    step(model, pruner, optimizer, 1, [9.0] + [0.0] * 7, [0.1] * 8)
    assert list(pruner.chosen.counts.values()) == [1, 3]


def test_a_growing_layer_that_is_nearly_dense_drops_no_more_than_its_sparsity():
    """1 of 10 is pruned: a tenth of 9 instead of a half, rounded up, where momentum is above the mean; else 5."""
    row = [1.0 + i for i in range(10)]
    for slope, dropped in ((0.3, 1), (0.1, 5)):
        model, pruner, optimizer = rewired(row, row, active=(9, 2), keep=0.55)
        pruner.push(Moment(0, optimizer))
        step(model, pruner, optimizer, 1, [slope] * 10, [0.2] * 10)
        assert int((model[0].weight != 0).sum()) == 9 - dropped


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(4, 60), st.floats(0.001, 10)), min_size=2, max_size=5), st.floats(0.3, 0.9))
def test_the_budget_is_met_after_every_move_and_no_layer_is_cut_through(layers, keep):
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(size, 1, bias=False) for size, _ in layers])
    total = sum(size for size, _ in layers)
    pruner = DNR(find_sites(model), Budget(keep), options=DNROptions(every="1it"), course=Course(1, 6))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    pruner.push(Moment(0, optimizer))
    for number in range(1, 7):
        step(model, pruner, optimizer, number, *[(slope * torch.randn(size)).tolist() for size, slope in layers])
        assert pruner.chosen.kept == round(keep * total)
        assert min(pruner.chosen.counts.values()) >= 1
        assert all(not model.get_parameter(name)[~mask].any() for name, mask in pruner.chosen.items())
    assert pruner.settle().kept == round(keep * total)


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(0, 50)), min_size=1, max_size=6))
def test_what_does_not_fit_is_spread_equally(pairs):
    wishes, room = [wish for wish, _ in pairs], [most for _, most in pairs]
    found = spread(wishes, room)
    assert all(share <= most for share, most in zip(found, room, strict=True))
    assert sum(found) == pytest.approx(min(sum(wishes), sum(room)), abs=1e-6)
    gains = [f - w for f, w, most in zip(found, wishes, room, strict=True) if f < most - 1e-9]
    assert all(gain == pytest.approx(gains[0], abs=1e-6) for gain in gains)


def test_layers_begin_at_one_density_and_draws_repeat():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 1, bias=False), nn.Linear(100, 1, bias=False))
    first, again = (DNR(find_sites(model), Budget(0.2), course=Course(5, 20)) for _ in range(2))
    assert first.chosen.counts == {"0.weight": 2, "1.weight": 20}
    assert all(torch.equal(first.chosen[name], again.chosen[name]) for name in first.chosen)
    other = DNR(find_sites(model), Budget(0.2), course=Course(5, 20, seed=1))
    assert not torch.equal(first.chosen["1.weight"], other.chosen["1.weight"])


def test_the_penalty_holds_weights_to_where_the_last_move_left_them():
    model, pruner, optimizer = rewired([0.9, 0.4, 0, 0], active=(2,), rho=0.5, every="2it")
    assert pruner.penalty().item() == 0
    pruner.push(Moment(0, optimizer))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.2, 0, 0]]))
    pruner.push(Moment(1, optimizer))
    value = pruner.penalty()
    assert value.item() == pytest.approx(0.25 * (0.01 + 0.04))
    value.backward()
    assert model[0].weight.grad[0].tolist() == pytest.approx([0.05, -0.1, 0, 0])
    step(model, pruner, optimizer, 2, [0.1, 0.1, 0.3, 0.2])
    assert model[0].weight.tolist()[0] == pytest.approx([1.0, 0, 0, 0])
    assert pruner.penalty().item() == 0
    pruner.options = DNROptions(rho=0)
    assert not pruner.penalty().requires_grad


def test_the_share_falls_along_a_cosine_and_the_last_step_moves_nothing():
    _, pruner, _ = rewired([1.0] * 4, active=(2,), course=Course(10, 400), drop_end=0.005, every="1ep")
    assert [pruner.share(number) for number in (0, 200, 400)] == pytest.approx([0.5, 0.2525, 0.005])
    assert [number for number in range(401) if pruner.moves_after(number)] == list(range(10, 400, 10))


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_a_resumed_stage_goes_on_alike(optimizer):
    ends = []
    for stop in (None, 3):
        model, pruner, _ = rewired([0.9, -0.1, 0.4, 0.05, 0, 0, 0, 0], active=(4,))
        trained = optimizer(model.parameters(), lr=0.1, **({"momentum": 0.9} if optimizer is torch.optim.SGD else {}))
        pruner.push(Moment(0, trained))
        for number in range(1, 6):
            if number - 1 == stop:
                again = DNR(find_sites(model), pruner.budget, options=pruner.options, course=pruner.course)
                again.load_state_dict(pruner.state_dict())
                pruner = again
                pruner.push(Moment(stop, trained))
            step(model, pruner, trained, number, torch.sin(number * torch.arange(8.0)).tolist())
        ends.append((str(pruner.state_dict()), model[0].weight.tolist()))
    assert ends[0] == ends[1]


def test_so_it_does_in_somebody_elses_loop():
    model, pruner, optimizer = rewired([0.9, -0.1, 0.4, 0.05, 0, 0, 0, 0], active=(4,), rho=0.0)
    with pruner.attach(optimizer):
        (model[0].weight * torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.2, -0.7, 0.1, 0.3]])).sum().backward()
        optimizer.step()
    assert masks(pruner) == [[1, 0, 1, 0, 0, 1, 0, 1]]


def test_a_stage_too_short_for_any_move_says_so():
    _, pruner, _ = rewired([1.0] * 4, active=(2,), every="8it")
    assert pruner.notes() == ["no weight was dropped or grown: the stage is shorter than every=8it"]


def test_what_it_cannot_do_is_refused():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    units = find_units(model, torch.ones(1, 1, 2, 2), "channels")
    with pytest.raises(HarpError, match="single weights"):
        DNR(units, Budget(0.5, "macs"), course=Course(1, 1))
    with pytest.raises(HarpError, match="needs course="):
        DNR(find_sites(model), Budget(0.5), course=Course(1))
    with pytest.raises(ValidationError, match=r"drop_end 0\.4 is above drop 0\.3"):
        DNROptions(drop=0.3, drop_end=0.4)
    model, pruner, _ = rewired([1.0] * 4, active=(2,))
    with pytest.raises(HarpError, match="the optimizer has none; use SGD with momentum, or AdamW"):
        step(model, pruner, torch.optim.SGD(model.parameters(), lr=0.1), 1, [1.0] * 4)
    named = torch.optim.SGD([{"params": list(model.parameters()), "role": "weights"}], lr=0.1)
    with pytest.raises(HarpError, match="the optimizer has none"):
        pruner.push(Moment(0, named))
