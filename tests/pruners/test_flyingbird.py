import pytest
import torch
from pydantic import ValidationError
from torch import nn

from harp.errors import HarpError
from harp.pruners import Course, FlyingBird, FlyingBirdOptions, Moment
from harp.sparsity import Budget, find_sites, find_units

WEIGHTS = [0.9, -0.1, 0.4, 0.05, 0, 0, 0, 0]
ACTIVE = [True] * 4 + [False] * 4


def bird(weights=WEIGHTS, course=None, **options):
    """A pruner of one layer of eight weights, the first four of them there, and the optimizer with momentum."""
    model = nn.Linear(8, 1, bias=False)
    settings = {"every": "2it", "drop": 0.5, "drop_end": 0.5, **options}
    pruner = FlyingBird(
        find_sites(model), Budget(0.5), options=FlyingBirdOptions(**settings), course=course or Course(4, 8)
    )
    pruner.move({"weight": torch.tensor([ACTIVE])})
    with torch.no_grad():
        model.weight.copy_(torch.tensor([weights]))
    optimizer = torch.optim.SGD([model.weight], lr=0.0, momentum=0.9)
    return model, pruner, optimizer


def step(model, pruner, optimizer, number, grad=(1.0,) * 8):
    model.weight.grad = torch.tensor([grad])
    pruner.pull()
    optimizer.step()
    pruner.push(Moment(number, optimizer))


def test_the_smaller_half_goes_and_as_many_others_grow_at_zero():
    """METHODS 2.8's example, repaired: what was dropped does not come back at once."""
    model, pruner, optimizer = bird()
    pruner.push(Moment(0, optimizer))
    step(model, pruner, optimizer, 1)
    assert pruner.chosen["weight"].tolist() == [ACTIVE]
    step(model, pruner, optimizer, 2)
    mask = pruner.chosen["weight"][0]
    assert mask[:4].tolist() == [True, False, True, False]
    assert mask[4:].sum() == 2
    assert model.weight.tolist()[0] == pytest.approx([0.9, 0, 0.4, 0, 0, 0, 0, 0])
    momentum = optimizer.state[model.weight]["momentum_buffer"][0]
    assert (momentum != 0).tolist() == [True, False, True, False, False, False, False, False]


def test_the_largest_gradients_grow():
    """METHODS 9.12's example."""
    model, pruner, optimizer = bird(grow="gradient")
    pruner.push(Moment(0, optimizer))
    step(model, pruner, optimizer, 1)
    step(model, pruner, optimizer, 2, (9.0, 9.0, 9.0, 9.0, 0.2, -0.7, 0.1, 0.3))
    assert pruner.chosen["weight"].int().tolist() == [[1, 0, 1, 0, 0, 1, 0, 1]]


def test_so_they_do_in_somebody_elses_loop_over_several_backward_passes():
    model, pruner, optimizer = bird(grow="gradient")
    slopes = torch.tensor([[9.0, 9.0, 9.0, 9.0, 0.2, -0.7, 0.1, 0.3]])
    with pruner.attach(optimizer):
        for _ in range(2):
            for _ in range(2):
                (model.weight * slopes / 2).sum().backward()
            optimizer.step()
    assert pruner.chosen["weight"].int().tolist() == [[1, 0, 1, 0, 0, 1, 0, 1]]


def test_the_share_falls_along_a_cosine():
    """METHODS 2.8: .4275, .2525, .0775 at a quarter, a half, three quarters."""
    _, pruner, _ = bird(course=Course(10, 400), drop=0.5, drop_end=0.005)
    assert [pruner.share(number) for number in (0, 100, 200, 300, 400)] == pytest.approx(
        [0.5, 0.4275, 0.2525, 0.0775, 0.005], abs=1e-4
    )


def test_what_a_layer_keeps_never_changes_and_layers_share_as_an_ideal_gas():
    """F = 0.054416 for layers of 10 and 100 weights at 20 %: shares .6476 and .1552 (METHODS 2.15)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 1, bias=False), nn.Linear(100, 1, bias=False))
    options = FlyingBirdOptions(every="1it")
    pruner = FlyingBird(find_sites(model), Budget(0.2, floor=0.0), options=options, course=Course(5, 20))
    kept = pruner.chosen.counts
    assert kept == {"0.weight": 6, "1.weight": 16}
    for number in range(21):
        pruner.push(Moment(number))
        assert pruner.chosen.counts == kept
    assert pruner.settle().kept == 22


def test_draws_repeat_and_a_resumed_stage_goes_on_alike():
    ends = []
    for stop in (None, 4):
        model, pruner, optimizer = bird()
        pruner.push(Moment(0, optimizer))
        for number in range(1, 8):
            if number - 1 == stop:
                state = pruner.state_dict()
                pruner = bird()[1].__class__(
                    find_sites(model), Budget(0.5), options=pruner.options, course=pruner.course
                )
                pruner.load_state_dict(state)
                pruner.push(Moment(stop, optimizer))
            step(model, pruner, optimizer, number)
        ends.append(pruner.chosen["weight"].tolist())
    assert ends[0] == ends[1]


def test_a_stage_too_short_for_any_move_says_so():
    _, pruner, _ = bird(course=Course(4, 8), every="8it")
    assert pruner.notes() == ["no weight was dropped or grown: the stage is shorter than every=8it"]
    assert bird()[1].notes() == []


def test_what_it_cannot_do_is_refused():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    units = find_units(model, torch.ones(1, 1, 2, 2), "channels")
    with pytest.raises(HarpError, match="single weights"):
        FlyingBird(units, Budget(0.5, "macs"), course=Course(1, 1))
    with pytest.raises(HarpError, match="needs course="):
        FlyingBird(find_sites(model), Budget(0.5), course=Course(1))
    with pytest.raises(ValidationError, match=r"drop_end 0\.4 is above drop 0\.3"):
        FlyingBirdOptions(drop=0.3, drop_end=0.4)


def test_from_dense_weights_the_largest_stay_where_the_allocation_says():
    model = nn.Linear(8, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([WEIGHTS]))
    options = FlyingBirdOptions(begin="dense", start="kept", every="2it")
    pruner = FlyingBird(find_sites(model), Budget(0.25), options=options, course=Course(4, 8))
    assert pruner.chosen["weight"].tolist() == [[True, False, True, False, False, False, False, False]]
    assert FlyingBird.begins_with(options) == "dense"
    assert FlyingBird.begins_with(FlyingBirdOptions()) == "untrained"
