import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.pruners import Course, Magnitude, MagnitudeOptions, Moment
from harp.sparsity import Budget, find_sites, find_units

A, B = [0.9, 0.8, 0.7, 0.05], [0.3, 0.02, 0.2, 0.01]


def network(*rows):
    model = nn.Sequential(*[nn.Linear(len(row), 1, bias=False) for row in rows])
    with torch.no_grad():
        for layer, row in zip(model, rows, strict=True):
            layer.get_parameter("weight").copy_(torch.tensor([row]))
    return model


def magnitude(model, keep=0.5, course=None, floor=0.0, **options):
    budget = Budget(keep, floor=floor)
    return Magnitude(find_sites(model), budget, options=MagnitudeOptions(**options), course=course)


def left(model):
    return [[int(w != 0) for w in layer.weight[0]] for layer in model]


@pytest.mark.parametrize(
    ("allocation", "expected"),
    [("uniform", [[1, 1, 0, 0], [1, 0, 1, 0]]), ("global", [[1, 1, 1, 0], [1, 0, 0, 0]])],
)
def test_the_largest_stay_in_each_layer_or_in_all(allocation, expected):
    """METHODS 2.13's example."""
    model = network(A, B)
    pruner = magnitude(model, allocation=allocation)
    pruner.push(Moment(0))
    assert left(model) == expected
    masks = pruner.settle()
    assert masks.kept == 4
    assert left(model) == expected
    assert model[0].weight[0, 0] == torch.tensor(0.9)


def test_at_once_needs_no_step():
    course = Course(10, 100)
    assert Magnitude.steps(MagnitudeOptions(), course) == 0
    assert Magnitude.steps(MagnitudeOptions(schedule="gradual"), course) == 100
    assert Magnitude.steps(MagnitudeOptions(schedule="iterative"), course) == 100


def test_rounds_cut_a_share_of_the_rest():
    """Half of the rest a round: three rounds to an eighth, at steps 0, 4 and 8 of 12."""
    pruner = magnitude(network([0.1] * 16), keep=0.125, course=Course(2, 12), schedule="iterative", share=0.5)
    assert [pruner.density(step) for step in range(12)] == [0.5] * 4 + [0.25] * 4 + [0.125] * 4


def test_the_last_round_cuts_less_where_the_budget_is_no_power():
    pruner = magnitude(network([0.1] * 10), keep=0.3, course=Course(1, 4), schedule="iterative", share=0.5)
    assert [pruner.density(step) for step in range(4)] == [0.5, 0.5, 0.3, 0.3]


def test_gradual_is_a_cubic_by_epochs():
    """From 1 to 0.1 over half of eight epochs: 0.1 + 0.9 (1 - e / 4)^3."""
    pruner = magnitude(network([0.1] * 10), keep=0.1, course=Course(2, 16), schedule="gradual")
    assert [pruner.density(2 * epoch) for epoch in range(6)] == pytest.approx(
        [1.0, 0.1 + 0.9 * 27 / 64, 0.1 + 0.9 / 8, 0.1 + 0.9 / 64, 0.1, 0.1]
    )
    assert pruner.density(1) == pruner.density(0)


def test_what_grew_between_cuts_is_ordered_anew_and_what_is_gone_stays():
    model = network([0.9, 0.8, 0.7, 0.6])
    pruner = magnitude(model, keep=0.25, course=Course(1, 2), schedule="iterative", share=0.5)
    pruner.push(Moment(0))
    assert left(model) == [[1, 1, 0, 0]]
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, 0.8, 5.0, 5.0]]))  # an optimizer's push at pruned weights
    pruner.push(Moment(1))
    assert left(model) == [[0, 1, 0, 0]]


def test_a_stage_that_is_resumed_cuts_nothing_twice():
    model = network([0.9, 0.8, 0.7, 0.6])
    pruner = magnitude(model, keep=0.25, course=Course(1, 2), schedule="iterative", share=0.5)
    pruner.push(Moment(0))
    state = pruner.state_dict()
    with torch.no_grad():
        model[0].weight[0, 0] = 0.01
    again = magnitude(model, keep=0.25, course=Course(1, 2), schedule="iterative", share=0.5)
    again.load_state_dict(state)
    again.push(Moment(0))
    assert left(model) == [[1, 1, 0, 0]]


def test_candidates_before_the_end_meet_the_budget_and_leave_all_as_it_was():
    model = network([0.9, 0.8, 0.7, 0.6])
    pruner = magnitude(model, keep=0.25, course=Course(1, 8), schedule="gradual")
    pruner.push(Moment(0))
    before = model[0].weight.detach().clone()
    with pruner.settled():
        assert left(model) == [[1, 0, 0, 0]]
    assert torch.equal(model[0].weight, before)
    assert pruner.record(Moment(0)) == {"density": 1.0}


def test_pruned_weights_have_no_gradient():
    model = network([0.9, 0.8, 0.7, 0.6])
    pruner = magnitude(model)
    pruner.push(Moment(0))
    model(torch.ones(1, 4)).sum().backward()
    pruner.pull()
    assert model[0].weight.grad.tolist() == [[1, 1, 0, 0]]


def test_channels_go_by_the_norm_of_what_reads_them():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        for channel, size in enumerate([0.1, 3.0, 0.2, 2.0]):
            model.get_parameter("3.weight")[:, 4 * channel : 4 * channel + 4] = size
    units = find_units(model, torch.ones(1, 1, 2, 2), "channels")
    pruner = Magnitude(units, Budget(0.5, "macs"))
    pruner.push(Moment(0))
    (mask,) = pruner.settle().values()
    assert mask.tolist() == [False, True, False, True]


def test_options_of_another_schedule_are_told():
    assert MagnitudeOptions(share=0.5).unused() == {"share": "it is for schedule iterative"}
    assert MagnitudeOptions(schedule="iterative", share=0.5, until=0.5).unused().keys() == {"until"}
    assert MagnitudeOptions(schedule="gradual").unused() == {}


def test_a_schedule_needs_the_length_of_its_stage():
    with pytest.raises(HarpError, match="schedule gradual goes by the stage's steps"):
        magnitude(network(A), schedule="gradual")
