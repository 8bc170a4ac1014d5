import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.pruners import Course, Feather, FeatherOptions, Moment
from harp.pruners.feather import shrunk
from harp.sparsity import Budget, find_sites, find_units

WEIGHTS = [0.9, 0.5, 0.41, -0.6, 0.39]


def made(keep=0.8, course=None, **options):
    model = nn.Linear(5, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([WEIGHTS]))
    settings = FeatherOptions(**{"start": "uniform", **options})
    pruner = Feather(find_sites(model), Budget(keep, floor=0), options=settings, course=course or Course(2, 8))
    return model, pruner


def test_behind_a_threshold_of_point_4():
    """METHODS 9.5's example: the threshold lies half-way between .41, which stays, and .39."""
    model, pruner = made()
    pruner.push(Moment(8))
    assert model.weight.tolist()[0] == pytest.approx([0.8729, 0.3936, 0.1701, -0.5337, 0], abs=1e-4)
    assert pruner.settle().counts == {"weight": 4}
    assert model.weight.tolist()[0] == pytest.approx([0.8729, 0.3936, 0.1701, -0.5337, 0], abs=1e-4)


def test_where_nothing_goes_nothing_shrinks():
    model, pruner = made()
    pruner.push(Moment(0))
    assert model.weight.tolist()[0] == pytest.approx(WEIGHTS)
    assert shrunk(torch.tensor([2.0, 1.0]), torch.tensor([True, True])).tolist() == [1, 1]


def test_of_equals_some_stay_all_the_same():
    factor = shrunk(torch.ones(3), torch.tensor([True, False, True]))
    assert factor.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("keep", "passes", "share"), [(0.8, None, 1.0), (0.8, 0.25, 0.25), (0.04, None, 0.5)])
def test_what_is_pruned_learns_by_a_share_of_its_gradient(keep, passes, share):
    model = nn.Linear(100, 1, bias=False)
    options = FeatherOptions(start="uniform", passes=passes)
    pruner = Feather(find_sites(model), Budget(keep), options=options, course=Course(2, 8))
    pruner.push(Moment(8))
    gone = model.weight.detach() == 0
    assert gone.sum() == round(100 * (1 - keep))
    grad = torch.arange(100.0)[None]
    model.weight.grad = grad.clone()
    pruner.pull()
    found = pruner.dense["weight"].grad
    assert found is not None
    torch.testing.assert_close(found, grad * torch.where(gone, share, 1.0))


def test_density_falls_along_a_cubic_till_half_of_the_stage():
    model = nn.Linear(100, 1, bias=False)
    pruner = Feather(find_sites(model), Budget(0.2), options=FeatherOptions(start="uniform"), course=Course(10, 200))
    counts = [pruner.counts(step)["weight"] for step in (0, 50, 100, 200)]
    assert counts == [100, 20 + 80 // 8, 20, 20]
    pruner.push(Moment(50))
    assert (model.weight != 0).sum() == 30
    assert "the state that was kept is of step 50" in pruner.notes()[0]
    with pruner.settled():
        assert (model.weight != 0).sum() == 20
    pruner.push(Moment(100))
    assert pruner.notes() == []


def test_what_was_pruned_may_come_back():
    model, pruner = made(0.8)
    pruner.push(Moment(8))
    with torch.no_grad():
        pruner.dense["weight"][0, 4] = 2.0
    pruner.push(Moment(9))
    assert model.weight[0, 4].item() == pytest.approx(2.0, rel=0.01)
    assert model.weight[0, 2] == 0


def test_channels_shrink_as_one():
    torch.manual_seed(0)
    last = nn.Linear(4 * 4, 3)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), last)
    units = find_units(model, torch.rand(2, 1, 4, 4), "channels")
    before = last.weight.detach().clone()
    pruner = Feather(units, Budget(0.5, "macs"), options=FeatherOptions(start="uniform"), course=Course(1, 2))
    pruner.push(Moment(2))
    ratios = (last.weight.detach() / before).view(3, 4, 4)  # class, channel, place
    for channel in ratios.unbind(1):
        torch.testing.assert_close(channel, channel[0, 0].expand_as(channel))
    left = ratios[0, :, 0] > 0
    assert 0 < left.sum() < 4
    assert torch.equal(pruner.settle()["0.weight"], left)


def test_a_frozen_weight_and_a_course_without_steps_are_refused():
    with pytest.raises(HarpError, match="feather goes by the stage's steps"):
        made(course=Course(2))
    model = nn.Linear(5, 1)
    model.weight.requires_grad_(False)
    with pytest.raises(HarpError, match="weight is frozen, and feather trains it"):
        Feather(find_sites(model, include=["weight"]), Budget(0.5), course=Course(2, 8))
